"""What the pipeline is doing, read from the log itself: the truth a reader would get, no service's own word."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from fluxforge import codec
from fluxforge.clock import MS, Clock
from fluxforge.errors import CodecError
from fluxforge.events import Kind, Reset
from fluxforge.kernels.config import FeatureConfig
from fluxforge.log import Batch, Log, Reader, Record, TopicPartition
from fluxforge.topics import Topics

LATENCIES = 20_000
ASK_S = 2.0
"""The view waits no longer for a partition that has no leader."""
_KINDS = {str(int(kind)).encode(): kind for kind in Kind}


@dataclass
class Market:
    """The newest of one key."""

    key: str
    source: str = ""
    events: int = 0
    rows: int = 0
    mid: float | None = None
    spread_bps: float | None = None
    ofi: float | None = None
    bar: Bar | None = None
    books: int = 0


class Bar(msgspec.Struct):
    """What the view needs of a bar row."""

    exchange: str
    symbol: str
    duration: int
    close: float | None = None
    volume: float | None = None


@dataclass
class Counts:
    """Totals since the watch began; `strange` are raw records of no kind of ours."""

    kinds: Counter[Kind] = field(default_factory=Counter)
    resets: Counter[str] = field(default_factory=Counter)
    strange: int = 0
    feature_rows: int = 0
    bars: int = 0
    late: int = 0
    dead: int = 0

    @property
    def events(self) -> int:
        return self.kinds.total() + self.strange

    @property
    def gaps(self) -> int:
        return self.resets.total()


class Watch:
    """Follows every topic of the pipeline with plain readers; `read` takes what is new and returns at once.

    Latency is measured at a row's arrival here: clock now − the `capture_ts` of the event behind the row, in ms. The
    newest `LATENCIES` are kept: a pipeline that runs for months must not fill the memory.
    """

    def __init__(self, log: Log, topics: Topics, features: FeatureConfig, clock: Clock, *, from_end: bool) -> None:
        self.counts = Counts()
        self.markets: dict[str, Market] = {}
        self.latencies: deque[float] = deque(maxlen=LATENCIES)
        self._log, self._clock = log, clock
        horizon = features.horizons[0]
        self.ofi_name = f"ofi_sum_{horizon}s"
        self._feature_row = msgspec.json.Decoder(_feature_row(self.ofi_name))
        self._bar_row = msgspec.json.Decoder(Bar)
        take = {
            topics.raw: self._event,
            topics.features: self._feature,
            topics.bars: self._bar,
            topics.late: self._late,
            topics.dlq: self._dead,
        }
        self._readers: list[tuple[Reader, Any]] = []
        for topic, handle in take.items():
            for partition in range(log.partitions(topic)):
                tp = TopicPartition(topic, partition)
                bounds = log.bounds(tp)
                self._readers.append((log.reader(tp, bounds.next if from_end else bounds.first), handle))

    def read(self, most: int = 5000) -> int:
        """Take up to `most` new records of each partition; returns how many came."""
        came = 0
        for reader, handle in self._readers:
            batch: Batch = reader.read(most)
            now = self._clock.now()
            for record in batch.records:
                handle(record, now)
            came += len(batch.records)
        return came

    def drain(self) -> None:
        """Take everything there is."""
        while self.read():
            pass

    def ends(self, topics: Sequence[str]) -> dict[TopicPartition, int]:
        """Next offset of every partition that holds anything. Raises LogUnavailable."""
        tps = [TopicPartition(topic, p) for topic in topics for p in range(self._log.partitions(topic))]
        bounds = {tp: self._log.bounds(tp, within=ASK_S) for tp in tps}
        return {tp: b.next for tp, b in bounds.items() if b.next > b.first}

    def close(self) -> None:
        for reader, _ in self._readers:
            reader.close()

    def _market(self, key: str) -> Market:
        found = self.markets.get(key)
        if found is None:
            found = self.markets[key] = Market(key)
        return found

    def _event(self, record: Record, _now: int) -> None:
        kind = next((_KINDS.get(value) for name, value in record.headers if name == "kind"), None)
        if kind is None:
            self.counts.strange += 1
            return
        self.counts.kinds[kind] += 1
        market = self._market((record.key or b"").decode(errors="replace"))
        market.events += 1
        market.books += kind in (Kind.BOOK_SNAPSHOT, Kind.BOOK_DELTA)
        if kind is Kind.RESET and record.value is not None:
            try:
                event = codec.decode(record.value)
            except CodecError:
                return
            # The Reset that begins a key, or its book where that has a socket of its own, is no gap in anything.
            if isinstance(event, Reset) and market.events > 1 and (event.incomplete or market.books):
                self.counts.resets[event.reason] += 1

    def _feature(self, record: Record, now: int) -> None:
        self.counts.feature_rows += 1
        try:
            row = self._feature_row.decode(record.value)
        except msgspec.MsgspecError:
            return
        self.latencies.append((now - row.capture_ts) / MS)
        market = self._market(f"{row.exchange}|{row.symbol}")
        market.source = row.source
        market.rows += 1
        market.mid = row.mid_price
        market.spread_bps = None if row.relative_spread is None else row.relative_spread * 1e4
        market.ofi = getattr(row, self.ofi_name)

    def _bar(self, record: Record, _now: int) -> None:
        self.counts.bars += 1
        try:
            bar = self._bar_row.decode(record.value)
        except msgspec.MsgspecError:
            return
        market = self._market(f"{bar.exchange}|{bar.symbol}")
        if not bar.duration:  # closed by trades: not of the kind the view shows
            return
        if market.bar is None or bar.duration <= market.bar.duration or bar.close is None:
            market.bar = bar if bar.close is not None else market.bar

    def _late(self, _record: Record, _now: int) -> None:
        self.counts.late += 1

    def _dead(self, _record: Record, _now: int) -> None:
        self.counts.dead += 1


def _feature_row(ofi: str) -> type[Any]:
    maybe = float | None
    return msgspec.defstruct(
        "FeatureRow",
        [
            ("exchange", str),
            ("symbol", str),
            ("source", str),
            ("capture_ts", int),
            ("mid_price", maybe, None),
            ("relative_spread", maybe, None),
            (ofi, maybe, None),
        ],
    )
