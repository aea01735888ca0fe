"""Reading a partition from an offset."""

from __future__ import annotations

import sqlite3
import time

from fluxforge.errors import OffsetOutOfRange
from fluxforge.log.protocol import Batch, Record, TopicPartition
from fluxforge.log.sqlite.store import Store, translate
from fluxforge.log.sqlite.topics import HeaderCache

_new = tuple.__new__

IDLE_SECONDS = 0.008
"""The longest nap between two looks at an idle log."""


def read(store: Store, part: int, tp: TopicPartition, offset: int, *, limit: int, headers: HeaderCache) -> Batch:
    """Up to `limit` records from `offset`. Raises OffsetOutOfRange."""
    query = f"SELECT offset, ts, key, value, headers FROM r{part} WHERE offset>=? ORDER BY offset LIMIT ?"  # noqa: S608
    rows = store.db.execute(query, (offset, limit)).fetchall()
    next_offset = 0
    if not rows or rows[0][0] != offset:  # the end, a hole, or past retention
        with store.reading() as db:
            first, next_offset = db.execute("SELECT first, next FROM part WHERE id=?", (part,)).fetchone()
            if not first <= offset <= next_offset:
                raise OffsetOutOfRange(tp.topic, tp.partition, offset, first, next_offset)
            rows = db.execute(query, (offset, limit)).fetchall()
    partition = tp.partition
    # a NamedTuple's own constructor costs twice as much
    records = [_new(Record, (partition, at, ts, key, value, headers[packed])) for at, ts, key, value, packed in rows]
    return Batch(tp, records, rows[-1][0] + 1 if rows else next_offset)


class Naps:
    """Short sleeps that grow while nothing comes, until `timeout` seconds are over."""

    def __init__(self, timeout: float) -> None:
        self._deadline = time.monotonic() + timeout
        self._nap = 0.0005

    def more(self) -> bool:
        """Sleep a little; False when the time is over."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(self._nap, left))
        self._nap = min(self._nap * 2, IDLE_SECONDS)
        return True


class SqliteReader:
    """Reads one partition, outside any group."""

    def __init__(self, store: Store, part: int, tp: TopicPartition, offset: int) -> None:
        self._store, self._part, self._tp = store, part, tp
        self._headers = HeaderCache()
        self._seen = -1
        self.offset = offset

    def read(self, max_records: int = 1000, timeout: float = 0.0) -> Batch:
        """The next records; empty after `timeout` seconds without any. Raises OffsetOutOfRange."""
        naps = Naps(timeout)
        try:
            while True:
                version = self._store.version()
                if version != self._seen:
                    batch = read(
                        self._store, self._part, self._tp, self.offset, limit=max_records, headers=self._headers
                    )
                    if not batch.records:
                        self._seen = version
                    if batch.records or batch.next_offset != self.offset:
                        self.offset = batch.next_offset
                        return batch
                if not naps.more():
                    return Batch(self._tp, (), self.offset)
        except sqlite3.Error as error:
            raise translate(error, self._store.path) from error

    def seek(self, offset: int) -> None:
        self.offset, self._seen = offset, -1

    def close(self) -> None:
        self._store.close()
