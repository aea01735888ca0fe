"""A clock that tests move."""

from __future__ import annotations

from fluxforge.clock import NS


class HandClock:
    """Stands still until `seconds` is moved; both of its times are that."""

    def __init__(self, seconds: float = 1_700_000_000.0) -> None:
        self.seconds = seconds

    def now(self) -> int:
        return round(self.seconds * NS)

    def monotonic(self) -> float:
        return self.seconds
