"""The market's time during a replay: one clock for all partitions."""

from __future__ import annotations

from collections.abc import Callable


class VirtualClock:
    """Runs `speed` times as fast as `monotonic` (s); None: nothing has to wait for it.

    It stands until it is started, and while it is paused.
    """

    def __init__(self, speed: float | None, monotonic: Callable[[], float]) -> None:
        self._speed, self._monotonic = speed, monotonic
        self._at = 0
        self._since: float | None = None

    def start(self, at: int) -> None:
        """It is `at`, ns, and goes."""
        self._at, self._since = at, self._monotonic()

    def now(self) -> int | None:
        """ns; None where nothing has to wait."""
        if self._speed is None:
            return None
        ran = 0.0 if self._since is None else self._monotonic() - self._since
        return self._at + int(ran * self._speed * 1e9)

    def until(self, at: int) -> float:
        """Seconds of ours until it is `at`; 0 where that is past."""
        now = self.now()
        if now is None or self._speed is None:
            return 0.0
        return max(0.0, (at - now) / 1e9 / self._speed)

    def pause(self) -> None:
        """Stand still."""
        self._at, self._since = self.now() or self._at, None

    def resume(self) -> None:
        """Go on from where it stood."""
        self._since = self._monotonic()
