"""Whether our book is still the exchange's: a fresh REST snapshot against the book we kept; pure.

With a sequence number the two are brought to the same update and must be equal, level by level. Without one the
levels are compared that no diff touched from some seconds before the request (an answer may come from a cache) to a
second after the answer (the diffs may be behind it): what is wrong with a level stays until something touches it.

Only prices are compared that both know: a snapshot cut off at some depth says nothing of what lies behind it, and a
book that began with one does not know what lay there.
"""

from __future__ import annotations

from math import inf
from typing import Literal, NamedTuple

from collector.book import Book
from collector.levels import unpack
from collector.wire import RestBook
from fluxforge.events import BookDelta


class Reach(NamedTuple):
    """The prices a book knows: bids from `bid` up, asks up to `ask`."""

    bid: float = -inf
    ask: float = inf

    @classmethod
    def of(cls, found: RestBook) -> Reach:
        """Up to where a snapshot is cut off."""
        if found.limit is None:
            return cls()
        bids, asks = list(unpack(found.bids)), list(unpack(found.asks))
        return cls(bids[-1][0] if len(bids) >= found.limit else -inf, asks[-1][0] if len(asks) >= found.limit else inf)

    @classmethod
    def held(cls, book: Book, levels: int | None) -> Reach:
        """Up to where a book is known that its exchange cuts off behind some `levels`; None: it does not."""
        if levels is None:
            return cls()
        return cls(min(book.bids, default=-inf), max(book.asks, default=inf))

    def within(self, other: Reach) -> Reach:
        """What both know."""
        return Reach(max(self.bid, other.bid), min(self.ask, other.ask))

    def shallow(self, other: Reach, book: Book) -> bool:
        """Whether `other` knows more than twice as far from the best prices of `book`, on either side."""
        bid, ask = book.best()
        return (bid is not None and bid - other.bid > 2 * (bid - self.bid)) or (
            ask is not None and other.ask - ask > 2 * (self.ask - ask)
        )


class Audit:
    """One comparison; `diff` must be given every diff from the start on.

    seq    of the book at the start; None where the exchange numbers nothing
    found  the snapshot, once it came, and `since` when (ns)
    """

    def __init__(self, seq: int | None) -> None:
        self.seq = seq
        self.found: RestBook | None = None
        self.since = 0
        self._deltas: list[BookDelta] = []

    def diff(self, delta: BookDelta) -> None:
        """A diff that was applied to the book."""
        self._deltas.append(delta)

    def answer(self, found: RestBook, now: int) -> bool:
        """The snapshot, at `now`; false where it is older than the audit and says nothing."""
        if found.seq is not None and self.seq is not None and found.seq < self.seq:
            return False
        self.found, self.since = found, now
        return True

    def theirs(self) -> Book:
        """The snapshot, with every later diff applied where it is numbered."""
        assert self.found is not None
        book = Book()
        book.replace(self.found.bids, self.found.asks)
        if self.found.seq is not None:
            for delta in self._deltas:
                if (delta.seq or 0) > self.found.seq:
                    book.apply(delta.bids, delta.asks)
        return book

    def differing(self, ours: Book, reach: Reach) -> int:
        """Levels that are not what the exchange says, among the prices both know."""
        assert self.found is not None
        known, theirs = reach.within(Reach.of(self.found)), self.theirs()
        bids, asks = self._touched("bids"), self._touched("asks")
        return sum(
            price >= known.bid and ours.bids.get(price) != theirs.bids.get(price)
            for price in (ours.bids.keys() | theirs.bids.keys()) - bids
        ) + sum(
            price <= known.ask and ours.asks.get(price) != theirs.asks.get(price)
            for price in (ours.asks.keys() | theirs.asks.keys()) - asks
        )

    def _touched(self, side: Literal["bids", "asks"]) -> set[float]:
        """Prices that cannot be compared; none where the snapshot is numbered."""
        if self.found is None or self.found.seq is not None:
            return set()
        return {price for delta in self._deltas for price, _ in unpack(getattr(delta, side))}
