"""One key of the raw log, read by an outsider and held, event by event, against what the exchange really did."""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from collector.levels import unpack
from fluxforge.clock import MS
from fluxforge.events import AnyEvent, BookDelta, BookSnapshot, Reset, Trade
from simulator.book import WORD, level_digest
from simulator.tape import Print
from simulator.truth import State
from soak.exchanges import Exchange


class Mark(NamedTuple):
    """A book event and the true state it stands for.

    place   of that state among the exchange's; `resets` before it in the log; `known` whether readers then have a book
    """

    place: int
    resets: int
    known: bool
    connection: str
    whole: bool


class Outage(NamedTuple):
    """Readers had no book: from a Reset to the next whole book, ns of our clock; `until` None: to the end."""

    since: int
    until: int | None


@dataclass
class Books:
    """The book as the log has it.

    compared     books held against the truth: after every event that changes one
    restated     refreshes held against the reader's own
    differences  what was not equal, for a person
    """

    compared: int = 0
    restated: int = 0
    differences: list[str] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    resets: list[Reset] = field(default_factory=list)
    outages: list[Outage] = field(default_factory=list)


@dataclass
class Trades:
    """Trades as the log has them.

    got         id of each fill → how often; one trade of the log may join several fills
    holes       (after, before): the last trade before a Reset(incomplete), which says that some may be missing, and the
                next live one
    wrong       those whose price, size or side is not the exchange's
    """

    got: dict[int, int] = field(default_factory=dict)
    backfilled: int = 0
    holes: list[tuple[int, int]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


class Bystander:
    """Reads one key. A reader's book is unknown from a Reset to the next whole book; at any other time it must be true.

    prints  the exchange's trades by id
    """

    def __init__(self, exchange: Exchange, native: str) -> None:
        own = exchange.symbols[native]
        self.key = exchange.key(native)
        self.books, self.trades = Books(), Trades()
        self.states: list[State] = exchange.simulator.truth.states(own)
        self.prints: dict[int, Print] = {one.id: one for one in exchange.market.tape(own).prints}
        self._numbered, self._given = exchange.numbered, exchange.market.given[own]
        self._sequences = [state.sequence for state in self.states]
        self._by_ms = {state.exchange_ms: place for place, state in enumerate(self.states)}
        self._by_digest: dict[int, list[int]] = {}
        for place, state in enumerate(self.states):
            self._by_digest.setdefault(state.digest, []).append(place)
        self._sides: tuple[dict[float, float], dict[float, float]] = ({}, {})
        self._digest = 0
        self._known = False
        self._places: list[int] = []
        self._now = self._dark_since = 0
        self._last_trade = 0
        self._hole_after: int | None = None

    def read(self, events: Iterable[AnyEvent]) -> Bystander:
        for event in events:
            if not isinstance(event, Trade) or not event.backfilled:
                self._now = max(self._now, event.capture_ts)
            match event:
                case Reset():
                    self._reset(event)
                case BookSnapshot(refresh=True):
                    self._refresh(event)
                case BookSnapshot():
                    self._whole(event)
                case BookDelta():
                    self._diff(event)
                case Trade():
                    self._trade(event)
                case _:
                    pass
        if self._dark_since:
            self.books.outages.append(Outage(self._dark_since, None))
        return self

    def place_of(self, sequence: int) -> int:
        """The place of the state that a diff ending at `sequence` left behind."""
        return bisect_left(self._sequences, sequence)

    def _reset(self, event: Reset) -> None:
        self.books.resets.append(event)
        if event.incomplete and self._last_trade and self._hole_after is None:
            self._hole_after = self._last_trade
        self._known = False
        self._dark_since = self._dark_since or self._now

    def _whole(self, event: BookSnapshot) -> None:
        self._sides, self._digest = ({}, {}), 0
        self._apply(event)
        self._known = True
        if self._dark_since:
            self.books.outages.append(Outage(self._dark_since, self._now))
            self._dark_since = 0
        between = self._given.get(event.seq or 0)
        if not self._numbered:
            self._places = [at for at in self._by_digest.get(self._digest, ()) if at >= max(self._places, default=0)]
            self._compare(event, bool(self._places))
        elif (at := self._at(event.seq)) is not None:
            self._go_to(event, at)
            self._compare(event, self.states[at].digest == self._digest)
        elif between is not None:
            self._go_to(event, bisect_right(self._sequences, event.seq or 0) - 1)
            self._compare(event, between == self._digest)
        else:
            self._compare(event, False)
        self._mark(event)

    def _refresh(self, event: BookSnapshot) -> None:
        if self._known:
            self.books.restated += 1
            if (dict(unpack(event.bids)), dict(unpack(event.asks))) != self._sides:
                self._differs(event, "a refresh is not the book it restates")

    def _diff(self, event: BookDelta) -> None:
        at = self._at(event.seq) if self._numbered else self._by_ms.get((event.ts or 0) // MS)
        if at is None:
            self._differs(event, "no such diff was sent")
            return
        if self._known:
            if at - 1 not in self._places:
                self._differs(event, f"diff {at} follows the book of diff {self._places}")
            self._apply(event)
            self._compare(event, self.states[at].digest == self._digest)
        elif self._places and at <= max(self._places):
            self._differs(event, f"diff {at} comes after diff {self._places}")
        self._places = [at]
        self._mark(event)

    def _trade(self, event: Trade) -> None:
        last = int(event.id)
        fills = int(json.loads(event.raw or b"{}").get("count", 1))
        numbers = range(last - fills + 1, last + 1)
        if self._hole_after is not None and not event.backfilled:
            self.trades.holes.append((self._hole_after, numbers[0]))
            self._hole_after = None
        self._last_trade = last
        self.trades.backfilled += event.backfilled
        for number in numbers:
            self.trades.got[number] = self.trades.got.get(number, 0) + 1
        prints = [self.prints[number] for number in numbers if number in self.prints]
        size = sum(float(one.size) for one in prints)
        sides = {-1 if one.maker else 1 for one in prints}
        true = {float(one.price) for one in prints} == {event.price} and sides == {event.side}
        if len(prints) != fills or not true or abs(size - event.size) > 1e-9 * size:
            self.trades.wrong.append(f"{self.key}: {event}")

    def _at(self, sequence: int | None) -> int | None:
        at = bisect_left(self._sequences, sequence or 0)
        return at if at < len(self._sequences) and self._sequences[at] == sequence else None

    def _go_to(self, event: BookSnapshot, at: int) -> None:
        if self._places and at < max(self._places):
            self._differs(event, f"book {at} comes after diff {self._places}")
        self._places = [at]

    def _apply(self, event: BookSnapshot | BookDelta) -> None:
        for sign, levels, side in ((1, self._sides[0], event.bids), (-1, self._sides[1], event.asks)):
            for price, size in unpack(side):
                old = levels.pop(price, 0.0)
                if old:
                    self._digest -= level_digest(sign, price, old)
                if size:
                    levels[price] = size
                    self._digest += level_digest(sign, price, size)
        self._digest &= WORD

    def _compare(self, event: AnyEvent, equal: bool) -> None:
        self.books.compared += 1
        if not equal:
            self._differs(event, "the book is not the exchange's")

    def _differs(self, event: AnyEvent, what: str) -> None:
        self.books.differences.append(
            f"{self.key}: {what}: {type(event).__name__} {event.seq} captured {event.capture_ts}"
        )

    def _mark(self, event: BookSnapshot | BookDelta) -> None:
        place, whole = max(self._places, default=0), isinstance(event, BookSnapshot)
        self.books.marks.append(Mark(place, len(self.books.resets), self._known, event.connection, whole))
