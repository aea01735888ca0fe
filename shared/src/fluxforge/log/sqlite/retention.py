"""Retention by age and bytes, a few spans at a time, by whoever writes."""

from __future__ import annotations

import logging
import sqlite3

from fluxforge.errors import FluxForgeError
from fluxforge.log.sqlite.store import WAL_BYTES, Store

PERIOD_SECONDS = 5.0
SPANS_PER_SWEEP = 64

_log = logging.getLogger(__name__)


class Sweeper:
    """Sweeps every `period` seconds of the times it is told; sweeps again at once while more is due.

    A sweep that fails is logged and tried again: whoever writes next hears of the reason anyway.
    """

    def __init__(self, store: Store, period: float = PERIOD_SECONDS) -> None:
        self._store, self._period = store, period
        self._due = 0.0

    def tick(self, monotonic: float, now_ms: int) -> None:
        if monotonic < self._due:
            return
        try:
            if sweep(self._store, now_ms):
                return
            _shrink_wal(self._store)
        except (FluxForgeError, sqlite3.Error) as error:
            _log.warning("retention of %s put off: %s", self._store.path, error)
        self._due = monotonic + self._period


def sweep(store: Store, now_ms: int, limit: int = SPANS_PER_SWEEP) -> bool:
    """Drop up to `limit` expired spans; True where more may be due."""
    with store.reading() as db:
        if not _expired(db, now_ms, 1):
            return False
    with store.writing() as db:
        expired = _expired(db, now_ms, limit)
        for part, offset, size, end in expired:
            db.execute(f"DELETE FROM r{part} WHERE offset<?", (end,))  # noqa: S608
            db.execute("DELETE FROM span WHERE part=? AND offset=?", (part, offset))
            db.execute("UPDATE part SET first=?, bytes=bytes-? WHERE id=?", (end, size, part))
    return len(expired) >= limit


def _expired(db: sqlite3.Connection, now_ms: int, limit: int) -> list[tuple[int, int, int, int]]:
    """Spans to drop, oldest first: (part, offset, bytes, end).

    As Kafka does: from the left, by the newest timestamp of the span; by bytes only while the rest is over the cap.
    """
    found: list[tuple[int, int, int, int]] = []
    parts = db.execute(
        "SELECT part.id, part.next, part.bytes, retention_ms, retention_bytes FROM part JOIN topic ON name=topic"
        " WHERE NOT compact AND (retention_ms>=0 OR retention_bytes>=0) AND first<next"
    ).fetchall()
    for part, next_offset, size_now, retention_ms, retention_bytes in parts:
        held = size_now
        spans = db.execute(
            "SELECT offset, bytes, max_ts FROM span WHERE part=? ORDER BY offset LIMIT ?", (part, limit + 1)
        ).fetchall()
        ends = [offset for offset, _, _ in spans[1:]]
        if len(spans) <= limit:
            ends.append(next_offset)
        for (offset, size, max_ts), end in zip(spans, ends, strict=False):
            old = retention_ms >= 0 and max_ts < now_ms - retention_ms
            over = retention_bytes >= 0 and end < next_offset and held - size >= retention_bytes
            if not (old or over):
                break
            held -= size
            found.append((part, offset, size, end))
            if len(found) >= limit:
                return found
    return found


def _shrink_wal(store: Store) -> None:
    """Copy the write-ahead log home when steady readers have kept it from starting over."""
    wal = store.path.with_name(store.path.name + "-wal")
    if wal.exists() and wal.stat().st_size > WAL_BYTES:
        store.db.execute("PRAGMA busy_timeout=200")
        try:
            store.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            store.db.execute("PRAGMA busy_timeout=10000")
