"""The best prices of one side of a book, in order, without sorting the book."""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Mapping
from heapq import nlargest, nsmallest
from math import inf

KEPT = 48
"""Prices kept in order: a side is searched anew once so many of them are gone."""


class Front:
    """A view of `levels` (price → size) that is told what is changed in them and looks only when it is asked.

    Whatever of a change lies behind the prices kept costs one comparison.

    highest  whether the highest price is the best
    """

    def __init__(self, levels: Mapping[float, float], *, highest: bool) -> None:
        self._levels, self._highest = levels, highest
        self._kept: list[float] = []  # rising; all of the book's prices from `_reach` on
        self._reach = -inf if highest else inf
        self._changed: list[bytes] = []  # and their length together
        self._bytes = 0
        self._search(KEPT)

    def changed(self, side: bytes) -> None:
        """These levels were set or removed."""
        self._changed.append(side)
        self._bytes += len(side)
        if self._bytes > 16 * len(self._levels):  # to look at the whole book is cheaper by now
            self.renewed()

    def renewed(self) -> None:
        """All levels may have changed."""
        self._changed.clear()
        self._kept.clear()
        self._bytes, self._reach = 0, inf if self._highest else -inf

    def best(self, count: int) -> list[float]:
        """The best `count` prices, or as many as there are, best first."""
        if self._changed:
            self._catch_up()
        kept = self._kept
        if (len(kept) < count and len(kept) < len(self._levels)) or len(kept) > 2 * max(count, KEPT):
            self._search(max(count, KEPT))
            kept = self._kept
        return kept[: -count - 1 : -1] if self._highest else kept[:count]

    def _catch_up(self) -> None:
        changed, reach = b"".join(self._changed), self._reach
        prices = struct.unpack(f"<{len(changed) // 8}d", changed)[::2]
        near = [p for p in prices if p >= reach] if self._highest else [p for p in prices if p <= reach]
        levels, kept = self._levels, self._kept
        for price in near:
            at = bisect_left(kept, price)
            if at < len(kept) and kept[at] == price:
                if price not in levels:
                    del kept[at]
            elif price in levels:
                kept.insert(at, price)
        self._changed.clear()
        self._bytes = 0

    def _search(self, count: int) -> None:
        if self._highest:
            self._kept = nlargest(count, self._levels)[::-1]
            self._reach = self._kept[0] if len(self._kept) < len(self._levels) else -inf
        else:
            self._kept = nsmallest(count, self._levels)
            self._reach = self._kept[-1] if len(self._kept) < len(self._levels) else inf
