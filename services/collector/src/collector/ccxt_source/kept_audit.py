"""Whether a book that ccxt keeps is still the exchange's; pure.

ccxt's number of a REST book is seldom one of its stream's, so levels are compared that no update touched meanwhile, see
`collector.audit`.
"""

from __future__ import annotations

from collector.audit import Audit, Reach
from collector.book import Book
from collector.levels import pack, unpack
from collector.wire import RestBook
from fluxforge.events import BookDelta, BookSnapshot


class KeptAudit:
    """One comparison, from `book` on; `update` must be given every copy of the book that follows."""

    def __init__(self, book: BookSnapshot) -> None:
        self._audit, self._latest = Audit(None), book

    def update(self, book: BookSnapshot) -> None:
        """The book after one more update."""
        before, self._latest = self._latest, book
        self._audit.diff(
            BookDelta(
                exchange=book.exchange,
                symbol=book.symbol,
                native=book.native,
                source=book.source,
                collector=book.collector,
                connection=book.connection,
                ts=book.ts,
                capture_ts=book.capture_ts,
                seq=None,
                first_seq=None,
                bids=_changed(before.bids, book.bids),
                asks=_changed(before.asks, book.asks),
            )
        )

    def answer(self, found: RestBook, now: int) -> None:
        """The fresh snapshot, at `now` (ns); a first one counts."""
        if self._audit.found is None:
            self._audit.answer(found._replace(seq=None), now)

    def due(self, since: int) -> bool:
        """Whether the snapshot came at `since` (ns) or before."""
        return self._audit.found is not None and self._audit.since <= since

    def differing(self) -> int:
        """Levels that are not what the exchange says; a copy is cut off, so it is known up to its own last levels."""
        book = Book()
        book.replace(self._latest.bids, self._latest.asks)
        return self._audit.differing(book, Reach.held(book, len(book.bids)))


def _changed(before: bytes, after: bytes) -> bytes:
    """The levels of either that are not in both."""
    return pack(sorted(set(unpack(before)) ^ set(unpack(after))))
