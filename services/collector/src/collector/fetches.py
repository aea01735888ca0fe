"""Fetches under way: at most one of a kind for a name, and how long events may wait for what is fetched."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine

from fluxforge.clock import NS, Clock

_log = logging.getLogger(__name__)

HOLD_S = 10.0
"""Events wait this long for missed trades."""
GRACE_S = 3.0
"""A new connection gets at least this long to fetch them."""
BOOKS_AT_ONCE = 2
"""Depth snapshots asked for at once."""


class Fetches:
    """Tasks by what they fetch and for whom; `exchange` is named where one fails."""

    def __init__(self, exchange: str) -> None:
        self.books_gate = asyncio.Semaphore(BOOKS_AT_ONCE)
        self._exchange = exchange
        self._running: dict[tuple[str, str], asyncio.Task[None]] = {}

    def start(self, what: str, name: str, fetch: Callable[[], Coroutine[None, None, None]]) -> None:
        """Begin a fetch, unless the same is under way."""
        if (what, name) not in self._running:
            task = self._running[what, name] = asyncio.create_task(fetch())
            task.add_done_callback(lambda done: self._done(what, name, done))

    async def cancel(self) -> None:
        """End every fetch."""
        running = list(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        self._running.clear()

    def _done(self, what: str, name: str, task: asyncio.Task[None]) -> None:
        if self._running.get((what, name)) is task:
            del self._running[what, name]
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("%s: fetching the %s of %s failed", self._exchange, what, name, exc_info=error)


def hold_until(clock: Clock, held_since: int | None) -> float:
    """Monotonic s until which events wait that are held since then (ns, by the clock)."""
    soonest = clock.monotonic() + GRACE_S
    if held_since is None:
        return soonest
    held = (clock.now() - held_since) / NS
    return max(soonest, clock.monotonic() + HOLD_S - held)
