"""How long a connected socket may be silent before it counts as dead; pure, times in monotonic s."""

from __future__ import annotations

from math import exp

CAP_S = 600.0
QUICK_S = 2.0
"""Data this soon after a stalled socket was replaced shows that the socket, and not the market, was silent."""
WINDOW_S = 10.0


class Patience:
    """`base` seconds for a market that was busy when it fell silent; more for one that has shown to be thin.

    A socket without data is dead even if it answers pings. But when its successor is silent too, it is the market that
    sleeps: patience doubles then, up to ten minutes, until a stall turns out to have been one.
    """

    def __init__(self, base: float, now: float) -> None:
        self._base = self._learned = base
        self._opened = self._last = now
        self._silent_so_far = True
        self._replaced_a_stalled_one = False
        self._recent = 0.0
        self._counted_at = now
        self._uncounted = 0

    @property
    def busy(self) -> bool:
        """Whether data came about once a second or more, as of the last."""
        if self._uncounted:
            decay = exp((self._counted_at - self._last) / WINDOW_S)
            self._recent = self._recent * decay + self._uncounted
            self._counted_at, self._uncounted = self._last, 0
        return self._recent > WINDOW_S

    @property
    def limit(self) -> float:
        """Seconds of silence allowed."""
        return self._base if self.busy else self._learned

    def opened(self, now: float) -> None:
        """A new socket."""
        self._opened = self._last = now
        self._silent_so_far = True

    def heard(self, now: float) -> None:
        """Data came; what it says of the pace is worked out when somebody asks, a few times a second."""
        if self._silent_so_far and self._replaced_a_stalled_one:
            self._learn(silent=now - self._opened > QUICK_S)
            self._replaced_a_stalled_one = False
        self._silent_so_far = False
        self._uncounted += 1
        self._last = now

    def silence(self, now: float) -> float:
        """Seconds since data came or the socket was opened."""
        return now - self._last

    def expired(self, now: float) -> bool:
        """Whether the socket is dead; it must then be replaced."""
        if self.silence(now) <= self.limit:
            return False
        if self._silent_so_far:
            self._recent, self._uncounted = 0.0, 0
            self._learn(silent=True)
        self._replaced_a_stalled_one = True
        return True

    def _learn(self, *, silent: bool) -> None:
        self._learned = min(self._learned * 2, CAP_S) if silent else self._base
