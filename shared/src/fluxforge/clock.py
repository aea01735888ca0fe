"""The one place that reads the wall clock.

Only collectors and shells ask it; kernels, windows, books and bars take their time from the data.
"""

from __future__ import annotations

import time
from typing import Protocol

NS = 1_000_000_000
MS = 1_000_000
HOUR = 3600 * NS


class Clock(Protocol):
    """What a shell needs of time; tests pass their own."""

    def now(self) -> int:
        """Wall clock, ns since 1970 UTC."""

    def monotonic(self) -> float:
        """Seconds that never run backwards."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> int:
        return time.time_ns()

    def monotonic(self) -> float:
        return time.monotonic()
