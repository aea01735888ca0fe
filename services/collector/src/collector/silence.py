"""When a key has been silent for long enough to be given a heartbeat."""

from __future__ import annotations

from collections.abc import Iterable

from fluxforge.clock import NS


class Silence:
    """The time of the last event of every key, ns."""

    def __init__(self, keys: Iterable[str], now: int, limit: int = NS) -> None:
        self._last = dict.fromkeys(keys, now)
        self._limit = limit

    def heard(self, key: str, now: int) -> None:
        """Something of `key` was published."""
        self._last[key] = now

    def due(self, now: int) -> list[str]:
        """Keys silent for the limit; each is then due again after another one."""
        late = [key for key, last in self._last.items() if now - last >= self._limit]
        for key in late:
            self._last[key] = now
        return late
