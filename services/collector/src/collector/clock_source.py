"""Whose clock an exchange's events run on."""

from __future__ import annotations

from fluxforge.events import AnyEvent, BookSnapshot, ClockSource

BOOKS = 5


class ClockChoice:
    """Decided once, from the first books: CAPTURE only where none of the first five carries a time.

    Until then events wait, since a key must not change its clock.
    """

    def __init__(self, *, follows_books: bool) -> None:
        self.clock: ClockSource | None = None if follows_books else ClockSource.EXCHANGE
        self._books = 0

    def see(self, event: AnyEvent) -> None:
        """Take an event into account."""
        if self.clock is None and isinstance(event, BookSnapshot):
            self._books += 1
            if event.ts is not None:
                self.clock = ClockSource.EXCHANGE
            elif self._books >= BOOKS:
                self.clock = ClockSource.CAPTURE

    def give_up(self) -> None:
        """No book came: the exchange's own times are taken."""
        if self.clock is None:
            self.clock = ClockSource.EXCHANGE
