"""An order book as two dicts, price → size."""

from __future__ import annotations

from collector.levels import pack, unpack


class Book:
    """The levels of one book; the native collector's own copy, for refreshes and checks."""

    def __init__(self) -> None:
        self.bids: dict[float, float] = {}
        self.asks: dict[float, float] = {}

    def replace(self, bids: bytes, asks: bytes) -> None:
        """Start over from whole sides."""
        self.bids.clear()
        self.asks.clear()
        self.apply(bids, asks)

    def apply(self, bids: bytes, asks: bytes) -> None:
        """Set absolute sizes; 0 removes the level."""
        for book, side in ((self.bids, bids), (self.asks, asks)):
            for price, size in unpack(side):
                if size:
                    book[price] = size
                else:
                    book.pop(price, None)

    def best(self) -> tuple[float | None, float | None]:
        """Best bid and ask; None for an empty side."""
        return max(self.bids, default=None), min(self.asks, default=None)

    def crossed(self) -> bool:
        """Whether the best bid is at or above the best ask."""
        bid, ask = self.best()
        return bid is not None and ask is not None and bid >= ask

    def truncate(self, depth: int) -> tuple[bytes, bytes]:
        """Drop what lies behind the best `depth` levels of each side; the deletions, as a delta has them."""
        bids = sorted(self.bids, reverse=True)[depth:] if len(self.bids) > depth else ()
        asks = sorted(self.asks)[depth:] if len(self.asks) > depth else ()
        for price in bids:
            del self.bids[price]
        for price in asks:
            del self.asks[price]
        return pack([(price, 0.0) for price in bids]), pack([(price, 0.0) for price in asks])

    def packed(self) -> tuple[bytes, bytes]:
        """Both sides, best first."""
        return pack(sorted(self.bids.items(), reverse=True)), pack(sorted(self.asks.items()))
