"""What a log is: ordered partitions, durable appends, atomic commits, fencing.

Two backends keep these promises alike, and one contract suite holds both to them: `fluxforge.log.kafka` and
`fluxforge.log.sqlite`.

Promises
    Order       records of one partition are read in the order they were appended; offsets rise, with holes allowed.
    Durable     what `Appender.flush` returned from is on disk (or acknowledged by all replicas).
    Atomic      `Transactor.commit` makes outputs, state and input offsets visible together, or not at all; readers
                never see records of an aborted or unfinished transaction.
    Fenced      opening a Transactor with an id, or being assigned a partition, shuts out the previous holder: its
                next commit raises `Fenced` and changes nothing.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, Protocol

from fluxforge.topics import TopicSpec

MOVE_SECONDS = 30.0
"""How long a cluster may take to give a partition another leader: it notices a death after 9 s by default
(`broker.session.timeout.ms`)."""

Headers = tuple[tuple[str, bytes], ...]


class TopicPartition(NamedTuple):
    """One ordered log."""

    topic: str
    partition: int


class Record(NamedTuple):
    """A record as read. `timestamp` is ms since 1970 UTC.

    Our writers always set a key; `key` is None where another program wrote none. A null value reads as b"".
    """

    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes
    headers: Headers


class Output(NamedTuple):
    """A record to append. `partition` None lets the key decide (murmur2); `timestamp` (ms) None means now.

    A record without a key must name its partition; header names hold no NUL.
    """

    topic: str
    key: bytes | None
    value: bytes
    headers: Headers = ()
    timestamp: int | None = None
    partition: int | None = None


class Bounds(NamedTuple):
    """The readable range [first, next) of a partition."""

    first: int
    next: int


NO_OFFSETS: Mapping[TopicPartition, int] = MappingProxyType({})


class Columns(Sequence["Record"]):
    """A sequence of records that has its columns without having made the records."""

    @property
    @abstractmethod
    def partitions(self) -> list[int]: ...

    @property
    @abstractmethod
    def offsets(self) -> list[int]: ...

    @property
    @abstractmethod
    def timestamps(self) -> list[int]: ...

    @property
    @abstractmethod
    def keys(self) -> list[bytes | None]: ...

    @property
    @abstractmethod
    def values(self) -> list[bytes]: ...

    @property
    @abstractmethod
    def headers(self) -> list[Headers]: ...


class RecordColumns(NamedTuple):
    """Records column by column, each as in `Record`."""

    partitions: Sequence[int]
    offsets: Sequence[int]
    timestamps: Sequence[int]
    keys: Sequence[bytes | None]
    values: Sequence[bytes]
    headers: Sequence[Headers]

    @classmethod
    def of(cls, records: Sequence[Record]) -> RecordColumns:
        """All columns of `records`."""
        if isinstance(records, Columns):
            return cls._make(getattr(records, name) for name in cls._fields)
        return cls._make(zip(*records, strict=True) if records else ((),) * len(cls._fields))


def columns(records: Sequence[Record]) -> tuple[list[bytes], list[int]]:
    """Values and offsets of records."""
    if isinstance(records, Columns):
        return records.values, records.offsets
    return [record.value for record in records], [record.offset for record in records]


class Batch(NamedTuple):
    """A run of records of one partition.

    `next_offset` is where reading goes on: past the last record and past any hole behind it. `records` may be empty
    when only holes were crossed.
    """

    tp: TopicPartition
    records: Sequence[Record]
    next_offset: int


class Appender(Protocol):
    """Appends without a transaction; idempotent, in order per key."""

    def append(self, output: Output) -> None:
        """Queue one record, waiting for room.

        Raises LogError when it can never be stored, LogUnavailable when it may be later, and RecordsLost, from then on,
        when one that was queued has been refused.
        """

    def pending(self) -> int:
        """Records queued and not yet durable."""

    def flush(self, timeout: float = 30.0) -> None:
        """Wait until all that was queued is durable. Raises LogUnavailable when it is not in time."""

    def close(self) -> None:
        """Flush and release."""


class Reader(Protocol):
    """Reads one partition from an offset, outside any group; read_committed."""

    def read(self, max_records: int = 1000, timeout: float = 0.0) -> Batch:
        """The next records; empty after `timeout` seconds without any. Raises OffsetOutOfRange past retention."""

    def seek(self, offset: int) -> None: ...

    def close(self) -> None: ...


class Consumer(Protocol):
    """A member of a group: partitions are assigned to it and taken away.

    The listener's `assigned(tps)` runs inside `poll`, before any record of those partitions is returned, and must
    `seek` each of them; `revoked(tps)` runs while the partitions are still owned, so that a last commit is possible;
    `lost(tps)` when they are already gone.

    joined  whether the group has dealt out its partitions with this member in it, be its own share empty
    """

    joined: bool

    def poll(self, max_records: int = 1000, timeout: float = 0.1) -> list[Batch]:
        """Batches of assigned partitions; empty after `timeout` seconds. Raises OffsetOutOfRange past retention."""

    def seek(self, tp: TopicPartition, offset: int) -> None: ...

    def pause(self, tps: Iterable[TopicPartition]) -> None: ...

    def resume(self, tps: Iterable[TopicPartition]) -> None: ...

    def assignment(self) -> set[TopicPartition]: ...

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Store group offsets outside a transaction (for lag only)."""

    def committed(self, tps: Iterable[TopicPartition]) -> dict[TopicPartition, int | None]:
        """Group offsets; None where there is none."""

    def close(self) -> None:
        """Leave the group: `revoked` runs for what is still owned."""


class Listener(Protocol):
    """Hears of partitions coming and going."""

    def assigned(self, tps: Sequence[TopicPartition]) -> None: ...

    def revoked(self, tps: Sequence[TopicPartition]) -> None: ...

    def lost(self, tps: Sequence[TopicPartition]) -> None: ...


class Transactor(Protocol):
    """Atomic commits under one stable id."""

    def append(self, output: Output) -> None:
        """Add a record to the open transaction (begun by the first append); invisible until the commit."""

    def extend(self, topic: str, records: RecordColumns) -> None:
        """Add records as they were elsewhere: in their partitions, with their keys, timestamps and headers."""

    def commit(self, offsets: Mapping[TopicPartition, int] = NO_OFFSETS, consumer: Consumer | None = None) -> None:
        """Make the appended records and the consumer group's offsets visible together; offsets need the consumer.

        Raises Fenced when another holder of the id or of a partition has taken over (nothing was changed), and
        LogUnavailable when the outcome is unknown: open a new Transactor and read where things stand.
        """

    def abort(self) -> None:
        """Drop the open transaction."""

    def close(self) -> None: ...


class Log(Protocol):
    """One log: a Kafka cluster or one SQLite file."""

    url: str

    def topic_id(self, topic: str) -> str:
        """An id that changes when the topic is recreated or lives in another cluster; file-name safe."""

    def create(self, specs: Sequence[TopicSpec]) -> None:
        """Create what is missing; an existing topic with another partition count raises UnknownTopic."""

    def delete(self, topics: Sequence[str]) -> None:
        """Remove topics with all their records; one that is not there is no error. Nobody may be at work on them."""

    def topics(self) -> list[str]:
        """The names of all topics, sorted."""

    def partitions(self, topic: str) -> int:
        """Raises UnknownTopic."""

    def bounds(self, tp: TopicPartition, *, within: float = MOVE_SECONDS) -> Bounds:
        """Raises LogUnavailable where they are not told within so many seconds."""

    def ends(self, tps: Iterable[TopicPartition], *, within: float = MOVE_SECONDS) -> dict[TopicPartition, int]:
        """Where each partition ends for its readers, all asked at once; raises as `bounds`."""

    def offset_at(self, tp: TopicPartition, timestamp: int) -> int:
        """The first offset whose timestamp (ms) is ≥ `timestamp`; the end where there is none."""

    def appender(self) -> Appender: ...

    def reader(self, tp: TopicPartition, offset: int, *, follow: bool = True) -> Reader:
        """Read a partition from `offset` on.

        `follow` is for waiting at the end; one who stops at a known end is told sooner without that nothing is left.
        """

    def consumer(
        self, group: str, topics: Sequence[str], member: str, listener: Listener, *, static: bool = True
    ) -> Consumer:
        """Join `group` as `member` (stable over restarts).

        On Kafka a static member keeps its partitions while it is away for less than a session (6 s), and whoever
        joins under its name shuts it out; one that is not static hands them over at once when it closes.
        """

    def transactor(self, transactional_id: str) -> Transactor:
        """Fences the previous holder of the id."""

    def group_offsets(self, group: str, topic: str) -> dict[int, int]:
        """Committed offsets of a group by partition, without joining it."""

    def close(self) -> None: ...
