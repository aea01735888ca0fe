"""Appends from any thread, stored by one: a queue in front of group commits."""

from __future__ import annotations

import threading
from collections import defaultdict, deque

from fluxforge.clock import MS, Clock
from fluxforge.errors import FluxForgeError, LogUnavailable
from fluxforge.log.protocol import Output
from fluxforge.log.sqlite.retention import Sweeper
from fluxforge.log.sqlite.store import Store
from fluxforge.log.sqlite.topics import Router, Row, Topics
from fluxforge.log.sqlite.write import append

LINGER_SECONDS, LINGER_RECORDS = 0.1, 500
"""A commit waits for so many records, or so long: it takes half a millisecond of CPU, whatever it holds."""
BATCH_RECORDS = 4000
QUEUE_RECORDS = 100_000
QUEUE_BYTES = 64 * 1024 * 1024
RETRY_SECONDS = 0.5


class SqliteAppender:
    """`append` only queues; a thread stores what is queued, a transaction for all that has come within `linger` s.

    While storing fails, `append` and `flush` raise why and the record in hand is not taken; what was queued stays
    queued and is tried again, so nothing is lost as long as the process lives.
    """

    def __init__(self, store: Store, topics: Topics, clock: Clock, linger: float = LINGER_SECONDS) -> None:
        self._store, self._clock, self._linger = store, clock, linger
        self._router = Router(topics)
        self._sweeper = Sweeper(store)
        self._queue: deque[tuple[int, Row]] = deque()
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._wake, self._enough = threading.Event(), threading.Event()
        self._appended = self._stored = self._queued_bytes = 0
        self._waiting = 0
        self._error: FluxForgeError | None = None
        self._failures = 0
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="sqlite-appender", daemon=True)
        self._thread.start()

    def append(self, output: Output) -> None:
        """Queue one record; waits while the queue is full."""
        part, row = self._router.route(output)
        with self._lock:
            if self._error is not None:
                raise self._error
            if self._closing:
                raise LogUnavailable("the appender is closed")
            if len(self._queue) >= QUEUE_RECORDS or self._queued_bytes >= QUEUE_BYTES:
                self._wait_for_room()
            self._queue.append((part, row))
            self._queued_bytes += len(row[2])
            self._appended += 1
            waiting = len(self._queue)
        if waiting == 1:
            self._wake.set()
        elif waiting == LINGER_RECORDS:
            self._enough.set()

    def _wait_for_room(self) -> None:
        self._hurry()
        roomy = self._changed.wait_for(
            lambda: self._error or (len(self._queue) < QUEUE_RECORDS and self._queued_bytes < QUEUE_BYTES), 30.0
        )
        if self._error is not None:
            raise self._error
        if not roomy:
            raise LogUnavailable(f"{self._store.path}: {len(self._queue)} records wait to be stored")

    def pending(self) -> int:
        """Records queued and not yet durable."""
        return self._appended - self._stored

    def flush(self, timeout: float = 30.0) -> None:
        """Wait until all that was queued is on disk."""
        with self._lock:
            goal, failures = self._appended, self._failures
            self._waiting += 1
            self._hurry()
            try:
                self._changed.wait_for(lambda: self._stored >= goal or self._failures > failures, timeout)
            finally:
                self._waiting -= 1
            if self._stored >= goal:
                return
            if self._error is not None:
                raise self._error
            raise LogUnavailable(f"{self._store.path}: {goal - self._stored} records not stored within {timeout:g} s")

    def close(self) -> None:
        """Flush and release; raises what the flush raises."""
        if self._closing:
            return
        try:
            self.flush()
        finally:
            self._closing = True
            self._hurry()
            self._thread.join()
            self._store.close()

    def _hurry(self) -> None:
        """Store what is queued now."""
        self._enough.set()
        self._wake.set()

    def _run(self) -> None:
        while self._queue or not self._closing:
            if not self._queue:
                self._wake.wait()
            if not self._waiting and not self._closing and len(self._queue) < LINGER_RECORDS:
                self._enough.wait(self._linger)
            self._wake.clear()
            self._enough.clear()
            batch = self._take()
            while batch and not self._store_batch(batch):
                if self._closing:
                    return
                self._enough.wait(RETRY_SECONDS)
                self._enough.clear()

    def _take(self) -> list[tuple[int, Row]]:
        with self._lock:
            return [self._queue.popleft() for _ in range(min(len(self._queue), BATCH_RECORDS))]

    def _store_batch(self, batch: list[tuple[int, Row]]) -> bool:
        rows: dict[int, list[Row]] = defaultdict(list)
        for part, row in batch:
            rows[part].append(row)
        now_ms = self._clock.now() // MS
        error: FluxForgeError | None = None
        try:
            with self._store.writing() as db:
                append(db, rows, now_ms)
        except FluxForgeError as failure:
            error = failure
        except Exception as failure:  # the thread must live on and say why
            error = LogUnavailable(f"{self._store.path}: {failure!r}")
        with self._lock:
            self._error = error
            if error is None:
                self._stored += len(batch)
                self._queued_bytes -= sum(len(row[2]) for _, row in batch)
            else:
                self._failures += 1
            self._changed.notify_all()
        self._sweeper.tick(self._clock.monotonic(), now_ms)
        return error is None
