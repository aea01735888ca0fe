"""What really happened, whatever faults made of it: books at every diff, trades, and how to compare with them."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

from simulator.book import Book
from simulator.market import Answers, Depth, Diff, Instrument, Market, Top
from simulator.tape import Tape


class State(NamedTuple):
    """A book after one diff.

    sequence     id of its last update (`u`, `seqId`)
    exchange_ms  the exchange's clock then: how a venue whose diffs carry no id names them
    digest       `simulator.book.book_digest` of it
    """

    sequence: int
    exchange_ms: int
    digest: int


class _Symbol:
    def __init__(self, depth: Depth) -> None:
        self.book = Book()
        self.book.load(depth)
        self.base = self.book.copy()
        self.diffs: deque[Diff] = deque()
        self.sequences, self.times, self.digests = array("q"), array("q"), array("Q")


class Truth:
    """Follows a market's facts as they are published.

    history  diffs of each symbol kept, so that whole books that far back can be given; digests are kept of all
    """

    def __init__(self, history: int = 200) -> None:
        self._history = history
        self._symbols: dict[str, _Symbol] = {}
        self._trades: dict[str, array[int]] = {}

    def load(self, symbol: str, depth: Depth, exchange_ms: int) -> None:
        """Begin with the book that the next diffs apply to."""
        state = self._symbols[symbol] = _Symbol(depth)
        self._note(state, exchange_ms)

    def diff(self, diff: Diff, exchange_ms: int) -> None:
        """Follow one diff; those before `load` are of no use to anybody."""
        state = self._symbols.get(diff.symbol)
        if state is None:
            return
        state.book.apply(diff.last, diff.bids, diff.asks)
        self._note(state, exchange_ms)
        state.diffs.append(diff)
        if len(state.diffs) > self._history:
            oldest = state.diffs.popleft()
            state.base.apply(oldest.last, oldest.bids, oldest.asks)

    def trade(self, symbol: str, trade_id: int) -> None:
        self._trades.setdefault(symbol, array("q")).append(trade_id)

    def book(self, symbol: str) -> Book | None:
        """The book as of the last diff published; None before the first snapshot."""
        state = self._symbols.get(symbol)
        return None if state is None else state.book

    def oldest(self, symbol: str) -> Book | None:
        """The book `history` diffs ago."""
        state = self._symbols.get(symbol)
        return None if state is None else state.base

    def book_at(self, symbol: str, sequence: int) -> Book | None:
        """The whole book after the diff that ended at `sequence`; None where that is no diff, or too long ago."""
        state = self._symbols.get(symbol)
        if state is None or sequence < state.base.last_id or self.at(symbol, sequence=sequence) is None:
            return None
        book = state.base.copy()
        for diff in state.diffs:
            if diff.last > sequence:
                break
            book.apply(diff.last, diff.bids, diff.asks)
        return book

    def at(self, symbol: str, *, sequence: int | None = None, exchange_ms: int | None = None) -> State | None:
        """The state that a diff left behind, by its last update id or by its time; the newest without either."""
        state = self._symbols.get(symbol)
        if state is None:
            return None
        place = len(state.sequences) - 1
        if sequence is not None:
            place = bisect_left(state.sequences, sequence)
            if place == len(state.sequences) or state.sequences[place] != sequence:
                return None
        elif exchange_ms is not None:
            # a clock that was set back repeats times: the newest counts
            while place >= 0 and state.times[place] != exchange_ms:
                place -= 1
            if place < 0:
                return None
        return State(state.sequences[place], state.times[place], state.digests[place])

    def states(self, symbol: str) -> list[State]:
        """Every state of a symbol's book, in order."""
        state = self._symbols.get(symbol)
        if state is None:
            return []
        return [State(*row) for row in zip(state.sequences, state.times, state.digests, strict=True)]

    def trades(self, symbol: str) -> list[int]:
        """Ids of all trades."""
        return self._trades.get(symbol, array("q")).tolist()

    def last_trade(self, symbol: str) -> int:
        """Id of the newest trade published; 0 before the first. A market's tape is one frame ahead."""
        ids = self._trades.get(symbol)
        return ids[-1] if ids else 0

    @staticmethod
    def _note(state: _Symbol, exchange_ms: int) -> None:
        state.sequences.append(state.book.last_id)
        state.times.append(exchange_ms)
        state.digests.append(state.book.digest)


class Stale(Answers):
    """A market's answers, with snapshots as old as `truth` remembers."""

    def __init__(self, market: Market, truth: Truth) -> None:
        self._market, self._truth = market, truth

    @property
    def instruments(self) -> Mapping[str, Instrument]:
        return self._market.instruments

    def snapshot(self, symbol: str, limit: int) -> Depth:
        oldest = self._truth.oldest(symbol)
        return oldest.depth(limit) if oldest is not None else self._market.snapshot(symbol, limit)

    def top(self, symbol: str) -> Top | None:
        return self._market.top(symbol)

    def tape(self, symbol: str) -> Tape:
        return self._market.tape(symbol)
