"""The offset between an exchange's clock and ours."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque


class Skew:
    """−median(capture − ts) over the last `window` observations, ns.

    The median lets no single bad stamp move the estimate, and a window this short follows a feed that is replayed
    faster than it was recorded. Network latency is part of the estimate, so `capture + skew` never outruns the data
    by more than its jitter. Of an even count the upper middle lag is taken, so that the clock is not early.

    value  ns; 0 while unknown
    """

    def __init__(self, window: int = 31) -> None:
        self.value = 0
        self._recent: deque[int] = deque()
        self._sorted: list[int] = []
        self._window = window

    def observe(self, capture_ts: int, ts: int | None) -> int:
        """Take in one event's two times (ns) and return the skew, exchange clock − our clock."""
        if ts is not None:
            lag = capture_ts - ts
            if len(self._recent) == self._window:
                del self._sorted[bisect_left(self._sorted, self._recent.popleft())]
            self._recent.append(lag)
            insort(self._sorted, lag)
            self.value = -self._sorted[len(self._sorted) // 2]
        return self.value

    @property
    def known(self) -> bool:
        """Whether any exchange time was ever seen."""
        return bool(self._sorted)
