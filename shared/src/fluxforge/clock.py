"""The one place that reads the wall clock.

Only collectors and shells ask it; kernels, windows, books and bars take their time from the data.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol

NS = 1_000_000_000
MS = 1_000_000
HOUR = 3600 * NS
DAY = 24 * HOUR


def date_of(timestamp: int) -> str:
    """The UTC day of a time in ns, ISO 8601."""
    return datetime.fromtimestamp(timestamp // NS, UTC).date().isoformat()


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


def uptime() -> float:
    """Seconds that run on while the machine sleeps, where it can tell."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
