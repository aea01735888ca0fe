"""The embedded log: one SQLite file, any number of processes on one machine."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

from fluxforge.clock import Clock, SystemClock
from fluxforge.log.protocol import MOVE_SECONDS, Bounds, Listener, TopicPartition
from fluxforge.log.sqlite import topics as topic_rows
from fluxforge.log.sqlite.appender import LINGER_SECONDS, SqliteAppender
from fluxforge.log.sqlite.consumer import SESSION_SECONDS, SqliteConsumer
from fluxforge.log.sqlite.reader import SqliteReader
from fluxforge.log.sqlite.store import Store
from fluxforge.log.sqlite.topics import Topics
from fluxforge.log.sqlite.transactor import SqliteTransactor
from fluxforge.topics import TopicSpec

__all__ = ["SqliteLog"]


class SqliteLog:
    """The log in the file at `path`; created, with its folder, where it is missing.

    Appenders gather records for `linger` s before they store them. Everything made from it has a connection of its own,
    so each may be used from another thread. Raises LogUnavailable where the file cannot be opened or is none of ours,
    DiskFull where there is no room.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        clock: Clock | None = None,
        session: float = SESSION_SECONDS,
        linger: float = LINGER_SECONDS,
    ) -> None:
        self.path = Path(path)
        self.url = f"sqlite:///{path}"
        self._clock = clock or SystemClock()
        self._session, self._linger = session, linger
        self._store = Store(self.path)
        self._lock = threading.Lock()
        self._cached = Store(self.path)
        self._topics = Topics(self._cached)

    def topic_id(self, topic: str) -> str:
        """An id that changes when the topic is recreated or lives in another file."""
        return self._topics[topic].uid

    def create(self, specs: Sequence[TopicSpec]) -> None:
        """Create what is missing; an existing topic with another partition count raises UnknownTopic."""
        with self._lock, self._store.writing() as db:
            for spec in specs:
                topic_rows.create(db, spec)

    def delete(self, topics: Sequence[str]) -> None:
        """Remove topics with all their records; one that is not there is no error."""
        with self._lock, self._store.writing() as db:
            for name in topics:
                topic_rows.delete(db, name)
        self._topics.forget(topics)

    def topics(self) -> list[str]:
        """The names of all topics, sorted."""
        with self._lock, self._store.reading() as db:
            return [name for (name,) in db.execute("SELECT name FROM topic ORDER BY name")]

    def partitions(self, topic: str) -> int:
        """Raises UnknownTopic."""
        return len(self._topics[topic].parts)

    def bounds(self, tp: TopicPartition, *, within: float = MOVE_SECONDS) -> Bounds:
        part = self._topics.part(tp)
        with self._lock, self._store.reading() as db:
            return Bounds(*db.execute("SELECT first, next FROM part WHERE id=?", (part,)).fetchone())

    def ends(self, tps: Iterable[TopicPartition], *, within: float = MOVE_SECONDS) -> dict[TopicPartition, int]:
        """Where each partition ends, all asked at once; told at once."""
        of_part = {self._topics.part(tp): tp for tp in tps}
        marks = ",".join("?" * len(of_part))
        with self._lock, self._store.reading() as db:
            rows = db.execute(f"SELECT id, next FROM part WHERE id IN ({marks})", list(of_part)).fetchall()  # noqa: S608
        return {of_part[part]: next_ for part, next_ in rows}

    def offset_at(self, tp: TopicPartition, timestamp: int) -> int:
        """The first offset whose timestamp (ms) is ≥ `timestamp`; the end where there is none."""
        part = self._topics.part(tp)
        with self._lock, self._store.reading() as db:
            first, end = db.execute("SELECT first, next FROM part WHERE id=?", (part,)).fetchone()
            if not self._topics[tp.topic].compact:
                span = db.execute(
                    "SELECT offset FROM span WHERE part=? AND max_ts>=? ORDER BY offset LIMIT 1", (part, timestamp)
                ).fetchone()
                if span is None:
                    return int(end)
                first = max(first, span[0])
            found = db.execute(
                f"SELECT offset FROM r{part} WHERE offset>=? AND ts>=? ORDER BY offset LIMIT 1",  # noqa: S608
                (first, timestamp),
            ).fetchone()
            return int(found[0] if found else end)

    def appender(self) -> SqliteAppender:
        return SqliteAppender(Store(self.path), self._topics, self._clock, self._linger)

    def reader(self, tp: TopicPartition, offset: int, *, follow: bool = True) -> SqliteReader:
        part = self._topics.part(tp)
        return SqliteReader(Store(self.path), part, tp, offset)

    def consumer(
        self, group: str, topics: Sequence[str], member: str, listener: Listener, *, static: bool = True
    ) -> SqliteConsumer:
        """Join `group` as `member` (stable over restarts).

        Here every member hands over at once when it closes, and is shut out by whoever joins under its name.
        """
        names = list(topics)
        for name in names:
            self.partitions(name)
        lax, beating = Store(self.path, durable=False), Store(self.path, durable=False)
        return SqliteConsumer(
            lax,
            beating,
            topics=self._topics,
            clock=self._clock,
            group=group,
            subscribed=names,
            member=member,
            listener=listener,
            session=self._session,
        )

    def transactor(self, transactional_id: str) -> SqliteTransactor:
        """Fences the previous holder of the id."""
        return SqliteTransactor(Store(self.path), self._topics, self._clock, transactional_id)

    def group_offsets(self, group: str, topic: str) -> dict[int, int]:
        """Committed offsets of a group by partition, without joining it."""
        numbers = {part: number for number, part in enumerate(self._topics[topic].parts)}
        with self._lock, self._store.reading() as db:
            rows = db.execute("SELECT part, offset FROM committed WHERE grp=?", (group,)).fetchall()
        return {numbers[part]: offset for part, offset in rows if part in numbers}

    def close(self) -> None:
        self._store.close()
        self._cached.close()
