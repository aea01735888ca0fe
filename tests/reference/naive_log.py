"""One key's log, event by event, in plain Python: its time, its L2 book, and which events count as books.

Written from the definitions of the features alone. Where they leave room, the readings taken here are:

1.  A stamp later than capture + skew + 5 s rejects the whole event: no time, book, step, trade or flag comes of it.
    Events on the capture clock pass through the same rule with ts = capture_ts.
2.  Every other event with an exchange time moves t, of whatever kind and whatever becomes of it: ticker, reset,
    invalid book or trade, refresh, a delta without a book.
3.  A level is unusable when its price is not finite and > 0 or its size not finite and ≥ 0 (in a snapshot: > 0). A
    delta with an unusable level is an invalid book; its other levels are applied. A snapshot with one, or out of
    order, is an invalid book and leaves no book until the next snapshot; one that is only crossed or one-sided is an
    invalid book too, but its levels are the book that later deltas change.
4.  While t is unknown an event moves nothing but the L2 book: no previous book, step, window or row comes of it.
5.  A refresh that differs from the known book, or meets none, is a reset: flag after_gap, spread and depth end.
6.  A trade whose price or size is not finite and > 0 is invalid: it counts nowhere.
7.  late_clamped looks at books and trades that are not rejected: only they enter a step or a window.
8.  One collector per key: following one of several is not described closely enough to be recomputed here.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from fluxforge.events import AnyEvent, BookDelta, BookSnapshot, ClockSource, Reset, Trade

NS = 1_000_000_000
FUTURE_NS = 5 * NS

Levels = list[tuple[float, float]]


@dataclass(frozen=True)
class Moment:
    """What one event came to.

    what    "book" (a valid one that counts), "break" (reset, invalid book, refresh mismatch), "trade" or "" (time only)
    t       the key's time after the event, ns; None while unknown
    ts      the event's own time, ns (t where it has none)
    late    the event's own time lay before t
    bids, asks   the whole book, best first; only of a book
    """

    what: str
    t: int | None
    ts: int | None
    late: bool
    offset: int
    event: AnyEvent
    bids: Levels
    asks: Levels


def pairs(blob: bytes) -> Levels:
    """Levels of a wire blob, as sent."""
    numbers = struct.unpack(f"<{len(blob) // 8}d", blob)
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def is_positive(x: float) -> bool:
    return math.isfinite(x) and x > 0


def is_well_formed(bids: Levels, asks: Levels) -> bool:
    """All levels positive and finite, each side strictly in order."""
    if not all(is_positive(p) and is_positive(q) for p, q in bids + asks):
        return False
    if any(bids[i][0] <= bids[i + 1][0] for i in range(len(bids) - 1)):
        return False
    return not any(asks[i][0] >= asks[i + 1][0] for i in range(len(asks) - 1))


def is_valid(bids: Levels, asks: Levels) -> bool:
    """A valid book, by the definition."""
    return bool(bids) and bool(asks) and is_well_formed(bids, asks) and bids[0][0] < asks[0][0]


class Book:
    """The L2 book as two dicts price → size; `known` only between a snapshot and a reset."""

    def __init__(self) -> None:
        self.known = False
        self.bid: dict[float, float] = {}
        self.ask: dict[float, float] = {}

    def forget(self) -> None:
        self.known, self.bid, self.ask = False, {}, {}

    def replace(self, bids: Levels, asks: Levels) -> None:
        self.known = is_well_formed(bids, asks)
        self.bid, self.ask = (dict(bids), dict(asks)) if self.known else ({}, {})

    def change(self, bids: Levels, asks: Levels) -> bool:
        """Apply level changes; False where one of them is unusable."""
        usable = True
        for side, levels in ((self.bid, bids), (self.ask, asks)):
            for price, size in levels:
                if not is_positive(price) or not math.isfinite(size) or size < 0:
                    usable = False
                elif size == 0:
                    side.pop(price, None)
                else:
                    side[price] = size
        return usable

    def sides(self) -> tuple[Levels, Levels]:
        return sorted(self.bid.items(), reverse=True), sorted(self.ask.items())


def moments(log: Iterable[tuple[int, AnyEvent]]) -> Iterator[Moment]:
    """The moments of ONE key; `log` yields (offset, event) in log order. Rejected events yield nothing."""
    t: int | None = None
    book = Book()
    for offset, event in log:
        ts = event.capture_ts if event.clock == ClockSource.CAPTURE else event.ts
        if ts is not None and ts > event.capture_ts + event.skew + FUTURE_NS:
            continue
        late = ts is not None and t is not None and ts < t and isinstance(event, BookSnapshot | BookDelta | Trade)
        if ts is not None:
            t = ts if t is None else max(t, ts)
        what, bids, asks = meaning(event, book)
        if t is None and what != "break":
            what = ""
        yield Moment(what, t, t if ts is None else ts, late, offset, event, bids, asks)


def meaning(event: AnyEvent, book: Book) -> tuple[str, Levels, Levels]:
    """What the event is, after it has been applied to the book."""
    if isinstance(event, Reset):
        book.forget()
        return "break", [], []
    if isinstance(event, Trade):
        return ("trade" if is_positive(event.price) and is_positive(event.size) else ""), [], []
    if isinstance(event, BookSnapshot) and event.refresh:
        return refresh(pairs(event.bids), pairs(event.asks), book), [], []
    if isinstance(event, BookSnapshot):
        bids, asks = pairs(event.bids), pairs(event.asks)
        book.replace(bids, asks)
        return ("book", bids, asks) if is_valid(bids, asks) else ("break", [], [])
    if isinstance(event, BookDelta):
        if not book.known:
            return "", [], []
        usable = book.change(pairs(event.bids), pairs(event.asks))
        bids, asks = book.sides()
        return ("book", bids, asks) if usable and is_valid(bids, asks) else ("break", [], [])
    return "", [], []


def refresh(bids: Levels, asks: Levels, book: Book) -> str:
    if book.known and (bids, asks) == book.sides():
        return ""
    book.replace(bids, asks)
    return "break"


def by_key(events: Iterable[AnyEvent], offsets: Iterable[int]) -> dict[str, list[tuple[int, AnyEvent]]]:
    """The log of each key, `exchange|symbol`."""
    logs: dict[str, list[tuple[int, AnyEvent]]] = {}
    for offset, event in zip(offsets, events, strict=True):
        logs.setdefault(event.key, []).append((offset, event))
    return logs
