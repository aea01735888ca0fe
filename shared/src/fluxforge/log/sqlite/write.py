"""Appending rows to partitions inside a write transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from itertools import chain

from fluxforge.errors import UnknownTopic
from fluxforge.log.sqlite.topics import Row

SPAN_RECORDS = 1000
SPAN_BYTES = 1024 * 1024
HOUR_MS = 3_600_000
RECORD_BYTES = 24
"""What a record takes beside its key, value and headers."""
ROWS_PER_INSERT = 50
_ONE = "(?,?,?,?,?)"
_MANY = ",".join([_ONE] * ROWS_PER_INSERT)


def append(db: sqlite3.Connection, rows: Mapping[int, Sequence[Row]], now_ms: int) -> None:
    """Append `rows`, by part, in order; a row without a timestamp gets `now_ms`."""
    for part, part_rows in rows.items():
        found = db.execute(
            "SELECT next, retention_ms, compact FROM part JOIN topic ON name=topic WHERE id=?", (part,)
        ).fetchone()
        if found is None:
            raise UnknownTopic("a topic that is written to has been deleted", hint="start the writer again")
        next_offset, retention_ms, compact = found
        stored = [
            (offset, now_ms if ts is None else ts, key, value, headers)
            for offset, (ts, key, value, headers) in enumerate(part_rows, next_offset)
        ]
        _insert(db, part, stored)
        if compact:
            _drop_older(db, part, stored)
            size = 0
        else:
            size = _index(db, part, stored, now_ms, HOUR_MS if retention_ms < 0 else min(HOUR_MS, retention_ms // 8))
        db.execute("UPDATE part SET next=?, bytes=bytes+? WHERE id=?", (next_offset + len(stored), size, part))


_Stored = tuple[int, int, bytes | None, bytes, bytes | None]


def _insert(db: sqlite3.Connection, part: int, rows: Sequence[_Stored]) -> None:
    """Many rows a statement: each step gives the GIL away, and a busy thread beside us is slow to give it back."""
    full = len(rows) - len(rows) % ROWS_PER_INSERT
    for at in range(0, full, ROWS_PER_INSERT):
        chunk = list(chain.from_iterable(rows[at : at + ROWS_PER_INSERT]))
        db.execute(f"INSERT INTO r{part} VALUES {_MANY}", chunk)  # noqa: S608
    db.executemany(f"INSERT INTO r{part} VALUES {_ONE}", rows[full:])  # noqa: S608


def _index(db: sqlite3.Connection, part: int, rows: Sequence[_Stored], now_ms: int, age_ms: int) -> int:
    """Enter `rows` into the partition's spans; a span closes at its count, its bytes or its age. Returns bytes."""
    last = db.execute(
        "SELECT offset, opened_ms, records, bytes, max_ts FROM span WHERE part=? ORDER BY offset DESC LIMIT 1", (part,)
    ).fetchone()
    total = 0
    for at in range(0, len(rows), SPAN_RECORDS):
        chunk = rows[at : at + SPAN_RECORDS]
        size = sum(
            RECORD_BYTES + len(value) + (len(key) if key else 0) + (len(headers) if headers else 0)
            for _, _, key, value, headers in chunk
        )
        max_ts = max(row[1] for row in chunk)
        total += size
        if last is None or last[2] >= SPAN_RECORDS or last[3] >= SPAN_BYTES or now_ms - last[1] > age_ms:
            last = (chunk[0][0], now_ms, 0, 0, max_ts)
        last = (last[0], last[1], last[2] + len(chunk), last[3] + size, max(last[4], max_ts))
        db.execute("INSERT OR REPLACE INTO span VALUES (?,?,?,?,?,?)", (part, *last))
    return total


def _drop_older(db: sqlite3.Connection, part: int, rows: Sequence[_Stored]) -> None:
    """Keep the newest record of each key."""
    newest = {key: offset for offset, _, key, _, _ in rows}
    db.executemany(f"DELETE FROM r{part} WHERE key=? AND offset<?", newest.items())  # noqa: S608
