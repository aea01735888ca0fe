"""A book's levels as the exchange wrote them, for checksums over text."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple

from collector.book import Book
from collector.front import Front
from collector.wire import Checksum, Texts
from fluxforge.events import BookDelta, BookSnapshot


class Summing(NamedTuple):
    """An exchange's checksum: over the best `levels` of each side, best first."""

    levels: int
    of: Callable[[Texts, Texts], int]


class TextBook:
    """The texts of the levels of `book`, which says what stands and in which order."""

    def __init__(self, book: Book, summing: Summing) -> None:
        self._summing = summing
        self._bids, self._asks = _Side(book.bids, book.best_bids), _Side(book.asks, book.best_asks)

    def forget(self) -> None:
        """The book begins anew."""
        self._bids.texts.clear()
        self._asks.texts.clear()

    def take(self, event: BookDelta | BookSnapshot, found: Checksum) -> None:
        """`event` was applied to the book; `found` has its levels as text."""
        self._bids.take(event.bids, found.bids)
        self._asks.take(event.asks, found.asks)

    def checksum(self) -> int | None:
        """Of the best levels; None where the text of one is not known."""
        levels = self._summing.levels
        try:
            return self._summing.of(self._bids.best(levels), self._asks.best(levels))
        except KeyError:
            return None


class _Side:
    """`texts` by price; of prices that are gone some are left."""

    def __init__(self, levels: dict[float, float], front: Front) -> None:
        self.texts: dict[float, tuple[str, str]] = {}
        self._levels, self._front = levels, front

    def take(self, changes: bytes, texts: Texts) -> None:
        if texts:
            self.texts.update(zip(struct.unpack(f"<{len(changes) // 8}d", changes)[::2], texts, strict=False))
            if len(self.texts) > 2 * len(self._levels) + 1000:
                self.texts = {price: text for price, text in self.texts.items() if price in self._levels}

    def best(self, levels: int) -> Texts:
        return list(map(self.texts.__getitem__, self._front.best(levels)))
