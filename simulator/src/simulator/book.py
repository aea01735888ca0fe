"""An order book kept in the exchange's own decimal text, so that nothing is rounded."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable

from simulator.market import Depth, Level

WORD = (1 << 64) - 1


def level_digest(side: int, price: float, size: float) -> int:
    """One level; `side` is 1 for bids, -1 for asks. Python's hash of numbers is the same in every process."""
    return hash((side, price, size))


def book_digest(bids: Iterable[tuple[float, float]], asks: Iterable[tuple[float, float]]) -> int:
    """64 bits of a whole book, in whatever order its levels come: the sum of its levels' digests."""
    total = sum(level_digest(1, price, size) for price, size in bids)
    return (total + sum(level_digest(-1, price, size) for price, size in asks)) & WORD


class Side:
    """Levels by price, best first."""

    def __init__(self, sign: int) -> None:
        self._sign = sign
        self._order: list[float] = []
        self._levels: dict[float, tuple[Level, int]] = {}
        self.digest = 0

    def __len__(self) -> int:
        return len(self._order)

    def best(self, limit: int) -> list[Level]:
        """The best `limit` levels."""
        levels = self._levels
        return [levels[key][0] for key in self._order[:limit]]

    def merge(self, levels: Iterable[Level]) -> None:
        """Set absolute sizes; zero removes."""
        for level in levels:
            price, size = float(level[0]), float(level[1])
            key = -self._sign * price
            old = self._levels.get(key)
            if old is not None:
                self.digest -= old[1]
            if size:
                if old is None:
                    insort(self._order, key)
                digest = level_digest(self._sign, price, size)
                self._levels[key] = ((level[0], level[1]), digest)
                self.digest += digest
            elif old is not None:
                del self._levels[key]
                del self._order[bisect_left(self._order, key)]

    def copy(self) -> Side:
        twin = Side(self._sign)
        twin._order, twin._levels, twin.digest = self._order.copy(), self._levels.copy(), self.digest
        return twin


class Book:
    """Absolute sizes by price; a size of zero removes the level."""

    def __init__(self) -> None:
        self.last_id = 0
        self.bids, self.asks = Side(1), Side(-1)

    @property
    def digest(self) -> int:
        """`book_digest` of all levels, kept up to date change by change."""
        return (self.bids.digest + self.asks.digest) & WORD

    def load(self, depth: Depth) -> None:
        """Replace everything by a snapshot."""
        self.bids, self.asks = Side(1), Side(-1)
        self.apply(depth.last_id, depth.bids, depth.asks)

    def apply(self, last_id: int, bids: Iterable[Level], asks: Iterable[Level]) -> None:
        """Apply one diff."""
        self.bids.merge(bids)
        self.asks.merge(asks)
        self.last_id = last_id

    def depth(self, limit: int) -> Depth:
        """The best `limit` levels of each side."""
        return Depth(self.last_id, self.bids.best(limit), self.asks.best(limit))

    def copy(self) -> Book:
        twin = Book()
        twin.last_id, twin.bids, twin.asks = self.last_id, self.bids.copy(), self.asks.copy()
        return twin
