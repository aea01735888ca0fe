"""An order book as two dicts, price → size."""

from __future__ import annotations

from collector.front import Front
from collector.levels import pack, unpack


class Book:
    """The levels of one book; the collector's own copy, for refreshes and checks.

    bids, asks            price → size
    best_bids, best_asks  their prices in order, as far as they are asked for
    """

    def __init__(self) -> None:
        self.bids: dict[float, float] = {}
        self.asks: dict[float, float] = {}
        self.best_bids, self.best_asks = Front(self.bids, highest=True), Front(self.asks, highest=False)

    def replace(self, bids: bytes, asks: bytes) -> None:
        """Start over from whole sides."""
        self.bids.clear()
        self.asks.clear()
        self.apply(bids, asks)
        self.best_bids.renewed()
        self.best_asks.renewed()

    def apply(self, bids: bytes, asks: bytes) -> None:
        """Set absolute sizes; 0 removes the level."""
        for book, front, side in ((self.bids, self.best_bids, bids), (self.asks, self.best_asks, asks)):
            if side:
                for price, size in unpack(side):
                    if size:
                        book[price] = size
                    else:
                        book.pop(price, None)
                front.changed(side)

    def best(self) -> tuple[float | None, float | None]:
        """Best bid and ask; None for an empty side."""
        return next(iter(self.best_bids.best(1)), None), next(iter(self.best_asks.best(1)), None)

    def crossed(self) -> bool:
        """Whether the best bid is at or above the best ask."""
        bid, ask = self.best()
        return bid is not None and ask is not None and bid >= ask

    def truncate(self, depth: int) -> tuple[bytes, bytes]:
        """Drop what lies behind the best `depth` levels of each side; the deletions, as a delta has them."""
        bids = sorted(self.bids, reverse=True)[depth:] if len(self.bids) > depth else ()
        asks = sorted(self.asks)[depth:] if len(self.asks) > depth else ()
        removed = pack([(price, 0.0) for price in bids]), pack([(price, 0.0) for price in asks])
        if bids or asks:
            self.apply(*removed)
        return removed

    def packed(self) -> tuple[bytes, bytes]:
        """Both sides, best first."""
        return pack(sorted(self.bids.items(), reverse=True)), pack(sorted(self.asks.items()))
