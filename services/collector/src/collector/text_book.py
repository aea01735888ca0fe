"""An order book as the exchange wrote it, for checksums over text."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence

from collector.wire import Texts


class TextBook:
    """The levels of one book as (price, size) texts, best first."""

    def __init__(self) -> None:
        self._bids, self._asks = _Side(-1.0), _Side(1.0)

    def replace(self, bids: Texts, asks: Texts) -> None:
        """Start over from whole sides."""
        self._bids, self._asks = _Side(-1.0), _Side(1.0)
        self.apply(bids, asks)

    def apply(self, bids: Texts, asks: Texts) -> None:
        """Set absolute sizes; zero removes the level."""
        self._bids.apply(bids)
        self._asks.apply(asks)

    def truncate(self, depth: int) -> None:
        """Drop what lies behind the best `depth` levels of each side."""
        self._bids.truncate(depth)
        self._asks.truncate(depth)

    def best(self, levels: int) -> tuple[Texts, Texts]:
        """The best levels of both sides."""
        return self._bids.best(levels), self._asks.best(levels)


class _Side:
    """Levels in order of `sign` × price."""

    def __init__(self, sign: float) -> None:
        self._sign = sign
        self._keys: list[float] = []
        self._levels: dict[float, tuple[str, str]] = {}

    def apply(self, changes: Texts) -> None:
        for price, size in changes:
            key = self._sign * float(price)
            if float(size):
                if key not in self._levels:
                    insort(self._keys, key)
                self._levels[key] = (price, size)
            elif key in self._levels:
                del self._levels[key]
                del self._keys[bisect_left(self._keys, key)]

    def truncate(self, depth: int) -> None:
        for key in self._keys[depth:]:
            del self._levels[key]
        del self._keys[depth:]

    def best(self, levels: int) -> Sequence[tuple[str, str]]:
        return [self._levels[key] for key in self._keys[:levels]]
