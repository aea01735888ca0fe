"""The raw topic as an outsider reads it: every event of a key in order, and what its rules make of the book."""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import dataclass, field

from fluxforge import codec
from fluxforge.events import AnyEvent, BookDelta, BookSnapshot, Heartbeat, Reset, Trade
from fluxforge.log import Log, TopicPartition


def read_all(log: Log, topic: str = "market.raw") -> dict[str, list[AnyEvent]]:
    """Every event by key, in log order."""
    found: dict[str, list[AnyEvent]] = {}
    for number in range(log.partitions(topic)):
        tp = TopicPartition(topic, number)
        reader = log.reader(tp, log.bounds(tp).first)
        while records := reader.read(5000).records:
            for record in records:
                event = codec.decode(record.value)
                assert record.key == event.key.encode()
                assert record.headers == codec.headers(event)
                found.setdefault(event.key, []).append(event)
        reader.close()
    return found


@dataclass
class KeyReader:
    """Follows one key by the contract of the log and asserts that nothing in it breaks it."""

    bids: dict[float, float] = field(default_factory=dict)
    asks: dict[float, float] = field(default_factory=dict)
    seq: int | None = None
    has_book: bool = False
    last_diff: int | None = None
    last_trade: int | None = None
    resets: Counter[str] = field(default_factory=Counter)
    refreshes: int = 0
    books: int = 0
    diffs: int = 0
    trades: int = 0
    backfilled: int = 0
    heartbeats: int = 0
    unexcused_trade_gaps: int = 0
    _excused: bool = True

    def read(self, events: list[AnyEvent]) -> KeyReader:
        for event in events:
            self._one(event)
        return self

    def _one(self, event: AnyEvent) -> None:
        match event:
            case Reset():
                self.resets[event.reason] += 1
                self.has_book = False
                self._excused |= event.incomplete
                if event.reason == "reconnect":
                    self.last_diff = None
            case BookSnapshot(refresh=True):
                self.refreshes += 1
                if self.has_book:
                    assert (_levels(event.bids), _levels(event.asks)) == (self.bids, self.asks), "refresh differs"
                    assert list(_levels(event.bids)) == sorted(self.bids, reverse=True)
            case BookSnapshot():
                self.books += 1
                self.has_book = True
                self.bids, self.asks, self.seq = _levels(event.bids), _levels(event.asks), event.seq
            case BookDelta():
                self._diff(event)
            case Trade():
                self._trade(int(event.id), backfilled=event.backfilled)
            case Heartbeat():
                self.heartbeats += 1
            case _:
                pass

    def _diff(self, event: BookDelta) -> None:
        self.diffs += 1
        assert event.seq is not None
        assert self.last_diff is None or event.seq > self.last_diff, "a diff came twice or late"
        self.last_diff = event.seq
        if not self.has_book:
            return
        assert self.seq is not None
        assert event.first_seq is not None
        assert event.first_seq <= self.seq + 1 <= event.seq, f"{event.first_seq}..{event.seq} after {self.seq}"
        self.seq = event.seq
        for book, side in ((self.bids, event.bids), (self.asks, event.asks)):
            for price, size in _levels(side).items():
                if size:
                    book[price] = size
                else:
                    book.pop(price, None)

    def _trade(self, number: int, *, backfilled: bool) -> None:
        self.trades += 1
        self.backfilled += backfilled
        if self.last_trade is not None:
            assert number > self.last_trade, "a trade came twice or late"
            if number != self.last_trade + 1 and not self._excused:
                self.unexcused_trade_gaps += 1
        self.last_trade, self._excused = number, False


def _levels(side: bytes) -> dict[float, float]:
    return dict(struct.iter_unpack("<2d", side))
