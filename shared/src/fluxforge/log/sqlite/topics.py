"""Topics and partitions as the file knows them, and the road of a record to its partition."""

from __future__ import annotations

import sqlite3
import threading
import uuid
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from fluxforge.errors import LogError, UnknownTopic
from fluxforge.log.protocol import Headers, Output, TopicPartition
from fluxforge.log.sqlite.store import Store
from fluxforge.topics import TopicSpec, partition_of

_CACHED = 65_536


@dataclass(frozen=True)
class Topic:
    """A topic of the file; `parts` are the row ids of its partitions, by number."""

    name: str
    uid: str
    parts: tuple[int, ...]
    retention_ms: int
    retention_bytes: int
    compact: bool
    max_message_bytes: int

    def part(self, partition: int) -> int:
        """Raises UnknownTopic for a partition that is not there."""
        if not 0 <= partition < len(self.parts):
            raise UnknownTopic(f"{self.name} has no partition {partition}", hint=f"it has {len(self.parts)}")
        return self.parts[partition]


def create(db: sqlite3.Connection, spec: TopicSpec) -> None:
    """Create what `spec` asks for, inside the caller's transaction; an equal topic is left as it is."""
    row = db.execute("SELECT partitions FROM topic WHERE name=?", (spec.name,)).fetchone()
    if row is not None:
        if row[0] != spec.partitions:
            raise UnknownTopic(
                f"{spec.name} has {row[0]} partitions, not {spec.partitions}",
                hint="partition counts are set once; use another prefix, or the count it has",
            )
        return
    limits = (spec.retention_ms, spec.retention_bytes, spec.compact, spec.max_message_bytes)
    db.execute("INSERT INTO topic VALUES (?,?,?,?,?,?,?)", (spec.name, uuid.uuid4().hex, spec.partitions, *limits))
    for partition in range(spec.partitions):
        cursor = db.execute("INSERT INTO part (topic, partition) VALUES (?,?)", (spec.name, partition))
        table = f"r{cursor.lastrowid}"
        db.execute(f"CREATE TABLE {table} (offset INTEGER PRIMARY KEY, ts INTEGER, key BLOB, value BLOB, headers BLOB)")
        if spec.compact:
            db.execute(f"CREATE INDEX {table}_key ON {table} (key)")


def delete(db: sqlite3.Connection, name: str) -> None:
    """Remove a topic, inside the caller's transaction.

    The rows in `part` stay, under a name no topic has: their ids must not be given out again, because other processes
    may remember whose they were.
    """
    row = db.execute("SELECT uid FROM topic WHERE name=?", (name,)).fetchone()
    if row is None:
        return
    for (part,) in db.execute("SELECT id FROM part WHERE topic=?", (name,)).fetchall():
        db.execute(f"DROP TABLE r{part}")
        for table in ("span", "committed", "lease"):
            db.execute(f"DELETE FROM {table} WHERE part=?", (part,))  # noqa: S608
    db.execute("UPDATE part SET topic=?, first=0, next=0, bytes=0 WHERE topic=?", (f"deleted:{row[0]}", name))
    db.execute("DELETE FROM topic WHERE name=?", (name,))


class Topics:
    """A cache of topics over a connection of its own; safe to share between threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._cache: dict[str, Topic] = {}

    def __getitem__(self, name: str) -> Topic:
        """Raises UnknownTopic."""
        topic = self._cache.get(name)
        if topic is None:
            with self._lock:
                topic = self._cache[name] = self._load(name)
        return topic

    def part(self, tp: TopicPartition) -> int:
        return self[tp.topic].part(tp.partition)

    def forget(self, names: Iterable[str]) -> None:
        with self._lock:
            for name in names:
                self._cache.pop(name, None)

    def _load(self, name: str) -> Topic:
        with self._store.reading() as db:
            row = db.execute(
                "SELECT uid, retention_ms, retention_bytes, compact, max_message_bytes FROM topic WHERE name=?", (name,)
            ).fetchone()
            parts = db.execute("SELECT id FROM part WHERE topic=? ORDER BY partition", (name,)).fetchall()
        if row is None:
            raise UnknownTopic(f"there is no topic {name}", hint="run `fluxforge topics apply`")
        return Topic(name, row[0], tuple(part for (part,) in parts), row[1], row[2], bool(row[3]), row[4])


Row = tuple[int | None, bytes | None, bytes, bytes | None]
"""timestamp (ms, None for now), key, value, packed headers."""


class Router:
    """Turns an Output into the part it goes to and the row to store there."""

    def __init__(self, topics: Topics) -> None:
        self._topics = topics
        self._parts: dict[tuple[str, bytes | None, int | None], tuple[int, int]] = {}
        self._packed: dict[Headers, bytes | None] = {(): None}

    def route(self, output: Output) -> tuple[int, Row]:
        """Raises UnknownTopic, and LogError for a record that can never be stored."""
        topic, key, value, headers, timestamp, partition = output
        road = self._parts.get((topic, key, partition))
        if road is None:
            road = self._find(topic, key, partition)
        part, max_bytes = road
        if len(value) > max_bytes:
            raise LogError(
                f"{topic}: a record of {len(value)} bytes is over the topic's {max_bytes}",
                hint="raise the topic's max_message_bytes",
            )
        packed = self._packed.get(headers)
        if packed is None and headers:
            packed = self._pack(headers)
        return part, (timestamp, key, value, packed)

    def _find(self, name: str, key: bytes | None, partition: int | None) -> tuple[int, int]:
        topic = self._topics[name]
        if topic.compact and not key:
            raise LogError(f"{name} is compacted: its records need a key")
        if partition is None:
            if key is None:
                raise LogError(f"{name}: a record needs a key or a partition")
            partition = partition_of(key, len(topic.parts))
            road = topic.part(partition), topic.max_message_bytes
            if len(self._parts) >= _CACHED:
                self._parts.clear()
            self._parts[(name, key, None)] = road
            return road
        return topic.part(partition), topic.max_message_bytes

    def _pack(self, headers: Headers) -> bytes:
        if len(self._packed) >= _CACHED:
            self._packed.clear()
        packed = self._packed[headers] = msgspec.msgpack.encode(headers)
        return packed


class HeaderCache(dict[bytes | None, Headers]):
    """Packed headers to headers: a topic has few different ones."""

    def __missing__(self, packed: bytes | None) -> Headers:
        if len(self) >= _CACHED:
            self.clear()
        headers = self[packed] = () if packed is None else _unpack(packed)
        return headers


_unpack = msgspec.msgpack.Decoder(tuple[tuple[str, bytes], ...]).decode
