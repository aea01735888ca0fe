"""How long to wait before trying again."""

from __future__ import annotations

import random


class Backoff:
    """Capped exponential backoff with full jitter: uniform in (0, min(cap, base·2^n)], s.

    Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """

    def __init__(self, base: float = 0.25, cap: float = 30.0, rng: random.Random | None = None) -> None:
        self._base, self._cap = base, cap
        self._rng = rng or random.Random()  # jitter, not secrecy
        self.failures = 0

    def next(self) -> float:
        """Seconds to wait after one more failure."""
        limit = min(self._cap, self._base * float(2 ** min(self.failures, 30)))
        self.failures += 1
        return limit * (1.0 - self._rng.random())

    def reset(self) -> None:
        """It works again."""
        self.failures = 0
