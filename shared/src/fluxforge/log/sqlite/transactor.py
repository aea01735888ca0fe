"""Outputs, state and input offsets in one SQLite transaction."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from itertools import repeat

from fluxforge.clock import MS, Clock
from fluxforge.errors import Fenced, LogError
from fluxforge.log.protocol import NO_OFFSETS, Consumer, Output, RecordColumns, TopicPartition
from fluxforge.log.sqlite.consumer import SqliteConsumer
from fluxforge.log.sqlite.retention import Sweeper
from fluxforge.log.sqlite.store import Store
from fluxforge.log.sqlite.topics import Router, Row, Topics
from fluxforge.log.sqlite.write import append


class SqliteTransactor:
    """Keeps the open transaction's records in memory; `commit` writes all or nothing."""

    def __init__(self, store: Store, topics: Topics, clock: Clock, transactional_id: str) -> None:
        self._store, self._clock, self._id = store, clock, transactional_id
        self._router = Router(topics)
        self._sweeper = Sweeper(store)
        self._rows: dict[int, list[Row]] = defaultdict(list)
        with store.writing() as db:
            (self._epoch,) = db.execute(
                "INSERT INTO transactional VALUES (?,1) ON CONFLICT DO UPDATE SET epoch=epoch+1 RETURNING epoch",
                (transactional_id,),
            ).fetchone()

    def append(self, output: Output) -> None:
        """Add a record to the open transaction."""
        part, row = self._router.route(output)
        self._rows[part].append(row)

    def extend(self, topic: str, records: RecordColumns) -> None:
        """Add records as they were elsewhere."""
        columns = (records.keys, records.values, records.headers, records.timestamps, records.partitions)
        for record in zip(repeat(topic), *columns, strict=False):
            self.append(Output(*record))

    def commit(self, offsets: Mapping[TopicPartition, int] = NO_OFFSETS, consumer: Consumer | None = None) -> None:
        """Make the records and the offsets visible together. The transaction is over whatever happens.

        Raises Fenced, DiskFull and LogUnavailable: nothing was changed by the first two.
        """
        if not isinstance(consumer, SqliteConsumer) and (offsets or consumer is not None):
            raise LogError("offsets in a transaction on SQLite need a consumer of the same log")
        rows, self._rows = self._rows, defaultdict(list)
        now_ms = self._clock.now() // MS
        with self._store.writing() as db:
            (epoch,) = db.execute("SELECT epoch FROM transactional WHERE id=?", (self._id,)).fetchone()
            if epoch != self._epoch:
                raise Fenced(f"another writer has taken over the transactional id {self._id}")
            if isinstance(consumer, SqliteConsumer):
                consumer.store_offsets(db, offsets)
            append(db, rows, now_ms)
        self._sweeper.tick(self._clock.monotonic(), now_ms)

    def abort(self) -> None:
        """Drop the open transaction."""
        self._rows.clear()

    def close(self) -> None:
        self._rows.clear()
        self._store.close()
