"""Many syncs at once: a device joins those that come together, and waits for each that comes alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self

_THREADS = 8
_WAITING = 64
"""Files that may stand open for their sync."""


class Syncs:
    """Calls that run beside each other; leaving the block waits for all, and raises what the first one raised."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._running: deque[Future[None]] = deque()
        self._first: Callable[[], None] | None = None

    def add(self, call: Callable[[], None]) -> None:
        """Start one; the first waits for a second, as one alone needs no thread."""
        if self._pool is None and self._first is None:
            self._first = call
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(_THREADS, "sync")
        if self._first is not None:
            self._running.append(self._pool.submit(self._first))
            self._first = None
        self._running.append(self._pool.submit(call))
        if len(self._running) > _WAITING:
            self._running.popleft().result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None and self._first is not None:
                self._first()
            while kind is None and self._running:
                self._running.popleft().result()
        finally:
            if self._pool is not None:
                self._pool.shutdown(cancel_futures=True)
