"""Where the events of one exchange go: its clock is chosen once, then the pipeline takes them."""

from __future__ import annotations

import msgspec

from collector.clock_source import ClockChoice
from collector.pipeline import Pipeline
from fluxforge.clock import Clock
from fluxforge.events import AnyEvent, ClockSource

DECIDE_S = 10.0
"""So long events wait for a book that shows whether the exchange stamps its books."""


class Outlet:
    """One for all sessions of an exchange."""

    def __init__(self, pipeline: Pipeline, clock: Clock, *, follows_books: bool) -> None:
        self._pipeline, self._clock = pipeline, clock
        self._choice = ClockChoice(follows_books=follows_books)
        self._undecided: list[AnyEvent] = []
        self._until = clock.monotonic() + DECIDE_S

    @property
    def stamped(self) -> bool:
        """Whether the exchange's own times are what its keys run on."""
        return self._choice.clock is not ClockSource.CAPTURE

    def publish(self, events: list[AnyEvent]) -> None:
        """Events in order."""
        if self._choice.clock is not None:
            for event in events:
                self._offer(event)
            return
        for event in events:
            self._choice.see(event)
            self._undecided.append(event)
        if self._choice.clock is not None:
            self._decided()

    def tick(self) -> None:
        """Now and then: no event waits for ever."""
        if self._choice.clock is None and self._clock.monotonic() > self._until:
            self.close()

    def close(self) -> None:
        """Let go what waits."""
        self._choice.give_up()
        self._decided()

    def _decided(self) -> None:
        waiting, self._undecided = self._undecided, []
        for event in waiting:
            self._offer(event)

    def _offer(self, event: AnyEvent) -> None:
        if self._choice.clock is ClockSource.CAPTURE:
            event = msgspec.structs.replace(event, clock=int(ClockSource.CAPTURE))
        self._pipeline.offer(event)
