"""Where this collector left off in an earlier life: the newest trade of each key, read back from the log's end."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection

from fluxforge import codec
from fluxforge.clock import MS, NS
from fluxforge.errors import CodecError, LogError
from fluxforge.events import AnyEvent, Kind, Trade
from fluxforge.log import Log, TopicPartition

_log = logging.getLogger(__name__)

REACH_S = 600.0
"""A longer absence is not made up for: the trades missed would come too late for any bar."""
MAX_RECORDS = 200_000
"""Records looked at in one partition, the newest ones."""
BUDGET_S = 5.0
"""Time for all partitions."""
_TRADE = b"%d" % Kind.TRADE


def last_trades(log: Log, topic: str, collector: str, exchanges: Collection[str], now: int) -> dict[str, Trade]:
    """Key → the newest trade that `collector` wrote within the last ten minutes before `now` (ns).

    What cannot be found within the budget is left out: its first Reset then says that trades may be missing.
    """
    until = time.monotonic() + BUDGET_S
    found: dict[str, Trade] = {}
    for number in range(log.partitions(topic)):
        tp = TopicPartition(topic, number)
        try:
            _scan(log, tp, collector, exchanges, now - int(REACH_S * NS), until, found)
        except LogError as error:
            _log.warning("%s: not read back, trades missed since the last run stay missing: %s", tp, error)
    return found


def _scan(
    log: Log,
    tp: TopicPartition,
    collector: str,
    exchanges: Collection[str],
    since: int,
    until: float,
    found: dict[str, Trade],
) -> None:
    """Read the end of one partition into `found`; its keys are in no other."""
    first, end = log.bounds(tp)
    start = max(first, end - MAX_RECORDS, min(log.offset_at(tp, since // MS), end))
    fresh: dict[str, Trade] = {}
    reader = log.reader(tp, start, follow=False)
    try:
        at = start
        while at < end:
            if time.monotonic() > until:
                _log.warning("%s: not read back to its end in time; trades missed since the last run stay missing", tp)
                return
            batch = reader.read(5_000, timeout=1.0)
            if batch.next_offset <= at:
                break
            at = batch.next_offset
            for record in batch.records:
                if dict(record.headers).get("kind") != _TRADE:
                    continue
                event = _event(record.value)
                if isinstance(event, Trade) and event.collector == collector and event.exchange in exchanges:
                    fresh[event.key] = event
    finally:
        reader.close()
    found |= fresh


def _event(value: bytes) -> AnyEvent | None:
    try:
        return codec.decode(value)
    except CodecError:
        return None  # another program's; readers of the topic report it
