"""Whether this process is alive and does its work: told by its main loop, asked by the endpoint.

Alive is a process whose loop turns: one that does not is to be started again. Ready is one that does what it is there
for, connected, assigned or restored as the case may be: to start it again would not help, and what it waits for stands
in `waits_for`.
"""

from __future__ import annotations

import time
from collections.abc import Callable

STALLED_S = 120.0
"""A loop that has not turned for so long hangs: longer than any one commit may take."""
STARTING_S = 900.0
"""Until its first turn a process may take so long: kernels are compiled on a small machine."""
STARTING = "it starts"


class Condition:
    """Of one process; `monotonic` in s."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.waits_for = STARTING
        self._monotonic = monotonic
        self._at, self._bound = monotonic(), STARTING_S

    def turned(self, waits_for: str | None = None) -> None:
        """The loop goes on; `waits_for` is what it lacks for its work, "" where nothing, None for no change."""
        self._at, self._bound = self._monotonic(), STALLED_S
        if waits_for is not None:
            self.waits_for = waits_for

    @property
    def age(self) -> float:
        """Seconds since the loop last turned."""
        return self._monotonic() - self._at

    @property
    def stalled(self) -> str:
        """How long the loop has stood still, where that is too long; else ""."""
        age = self.age
        return f"the main loop has not turned for {age:.0f} s" if age > self._bound else ""

    @property
    def unready(self) -> str:
        """Why the process does not do its work; "" where it does."""
        return self.stalled or self.waits_for


PROCESS = Condition()
