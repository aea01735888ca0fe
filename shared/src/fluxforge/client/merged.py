"""History whose rows come nearly in order, partition by partition: of a topic, and the tape of Bronze."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import pyarrow as pa

from fluxforge.client.order import Held, times
from fluxforge.client.records import Markets, Reading
from fluxforge.client.tables import Wanted
from fluxforge.log import Log, TopicPartition

_READ_RECORDS = 1000
_WAIT_S = 0.1


class Part(Protocol):
    """One partition of history."""

    done: bool

    def read(self) -> pa.Table:
        """The next rows of wanted markets, perhaps none, in a form that `order.Held` takes."""

    def close(self) -> None: ...


class TopicPart:
    """A topic's partition, up to the end that it had when it was opened."""

    def __init__(self, log: Log, tp: TopicPartition, reading: Reading, markets: Markets) -> None:
        self._reading, self._markets = reading, markets
        at, self._end = log.bounds(tp)
        self._reader = log.reader(tp, at, follow=False)
        self.done = at >= self._end

    def read(self) -> pa.Table:
        batch = self._reader.read(_READ_RECORDS, _WAIT_S)
        self.done = batch.next_offset >= self._end
        mask = self._markets.mask(batch.records)
        if batch.next_offset > self._end:
            mask = [kept and record.offset < self._end for kept, record in zip(mask, batch.records, strict=True)]
        return self._reading.held(batch.records, mask)

    def close(self) -> None:
        self._reader.close()


def merged(parts: Sequence[Part], wanted: Wanted, hold_s: float) -> Iterator[pa.Table]:
    """Rows in the order of `fluxforge.client.order`, some at a time.

    The partition that is furthest behind is read next, so that no more waits than comes within `hold_s` of capture.
    Raises ConfigError for rows further out of order than that.
    """
    hold_ns = round(hold_s * 1e9)
    held = Held(hold_ns)
    unread = {number: part for number, part in enumerate(parts) if not part.done}
    reached: dict[int, int] = {}
    while unread:
        behind = min(unread, key=lambda number: reached.get(number, -1))
        table = unread[behind].read()
        if table.num_rows:
            reached[behind] = max(reached.get(behind, 0), int(times(table).max()))
        held.add(_within(table, wanted))
        if unread[behind].done or (wanted.last is not None and reached.get(behind, 0) >= wanted.last + hold_ns):
            del unread[behind]
        if unread and unread.keys() <= reached.keys() and (found := held.release(min(reached[n] for n in unread))):
            yield found
    if found := held.release(None):
        yield found


def _within(table: pa.Table, wanted: Wanted) -> pa.Table:
    """The rows captured when it is wanted."""
    if wanted.first is None and wanted.last is None:
        return table
    captured = times(table)
    keep = np.ones(len(captured), bool)
    if wanted.first is not None:
        keep &= captured >= wanted.first
    if wanted.last is not None:
        keep &= captured < wanted.last
    return table.filter(pa.array(keep))
