"""An order book kept in the exchange's own decimal text, so that nothing is rounded."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from heapq import nlargest, nsmallest

from simulator.market import Depth, Level

GONE = Decimal(0)


class Book:
    """Absolute sizes by price; a size of zero removes the level."""

    def __init__(self) -> None:
        self.last_id = 0
        self._bids: dict[str, str] = {}
        self._asks: dict[str, str] = {}

    def load(self, depth: Depth) -> None:
        """Replace everything by a snapshot."""
        self.last_id = depth.last_id
        self._bids, self._asks = dict(depth.bids), dict(depth.asks)

    def apply(self, last_id: int, bids: Iterable[Level], asks: Iterable[Level]) -> None:
        """Apply one diff."""
        _merge(self._bids, bids)
        _merge(self._asks, asks)
        self.last_id = last_id

    def depth(self, limit: int) -> Depth:
        """The best `limit` levels of each side."""
        bids, asks = self._bids, self._asks
        return Depth(
            self.last_id,
            [(price, bids[price]) for price in nlargest(limit, bids, key=float)],
            [(price, asks[price]) for price in nsmallest(limit, asks, key=float)],
        )


def _merge(side: dict[str, str], levels: Iterable[Level]) -> None:
    for price, size in levels:
        if Decimal(size) == GONE:
            side.pop(price, None)
        else:
            side[price] = size
