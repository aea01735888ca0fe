"""The loop that reads a topic, stores it, and begins again where the disk says.

The disk is the truth for offsets: what a partition needs after any failure is to be opened again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from fluxforge import condition
from fluxforge.clock import Clock, SystemClock
from fluxforge.errors import (
    DiskFull,
    GapError,
    LogError,
    OffsetOutOfRange,
    StorageError,
    StorageUnavailable,
    UnsupportedStorage,
    WriterConflict,
)
from fluxforge.files import ChainId, Commit, Gap, Tree
from fluxforge.files.storage import Step, no_step
from fluxforge.log import Batch, Bounds, Consumer, Log, TopicPartition
from fluxforge.sink.report import Report

FIRST_BACKOFF_S, MAX_BACKOFF_S = 1.0, 30.0
LOCK_TIMEOUT_S = 1.0
"""How long one attempt waits for a partition's lock: the others stand still meanwhile."""

_PASSING = (DiskFull, StorageUnavailable, WriterConflict)
_FINAL = (GapError, UnsupportedStorage)

_log = logging.getLogger(__name__)


class Partition(Protocol):
    """An open chain and its batch. After a StorageError: close it and open another."""

    next_offset: int
    """Where the log is read on."""

    @property
    def gap(self) -> Gap | None:
        """What opening found to have left the log, and put on record."""

    @property
    def age(self) -> float:
        """Seconds since the first record of the open batch; 0 without one."""

    @property
    def due(self) -> bool:
        """Whether the batch must be committed now."""

    def append(self, batch: Batch) -> None:
        """Take records of the log; they are not stored yet."""

    def commit(self) -> Commit | None:
        """Store what was taken; None where there is nothing new."""

    def close(self) -> None:
        """Let go of the chain; what was not committed is read again."""


Opener = Callable[[TopicPartition, ChainId, Bounds], Partition]
"""Opens a partition's chain; raises StorageError."""


class Stopped(Protocol):
    """Set once, by a signal."""

    def is_set(self) -> bool: ...


class Sink:
    """A member of a group of sinks. `step` in a loop, then `close`: it stores what was read.

    A partition whose store fails waits, 1 s and then twice as long up to 30 s, and is read again from its last commit;
    the others go on. What no waiting mends is raised: a GapError, an UnsupportedStorage, and, of a partition that
    nothing had failed for before, any error but a full disk, a store that is away and another writer.

    step  told of every point where a commit can be cut off (`fluxforge.files.STEPS`, then "offsets.committed")
    """

    def __init__(
        self,
        log: Log,
        topics: Sequence[str],
        tree: Tree,
        opener: Opener,
        *,
        role: str,
        group: str,
        member: str,
        clock: Clock | None = None,
        step: Step = no_step,
    ) -> None:
        self._log, self._opener = log, opener
        self._clock, self._step = clock or SystemClock(), step
        self._partitions: dict[TopicPartition, Partition] = {}
        self._held: dict[TopicPartition, tuple[float, float]] = {}
        """Until when a partition waits, and how long in all; there from a failure to the next commit."""
        self._report = Report(role, log, self._clock)
        tree.storage.probe()
        self._consumer: Consumer = log.consumer(group, topics, member, self)

    def run(self, stop: Stopped, say_every: float, *, poll_s: float = 0.1) -> None:
        """Until stopped; then store what was read. A line of statistics every `say_every` s."""
        say_at = self._clock.monotonic() + say_every
        try:
            while not stop.is_set():
                self.step(poll_s)
                if self._clock.monotonic() >= say_at:
                    say_at += say_every
                    _log.info("%s", self.statistics())
        finally:
            self.close()
            _log.info("%s", self.statistics())

    def step(self, timeout: float = 0.1, max_records: int = 2000) -> int:
        """Read once, write, commit what is due. Returns the records read.

        Raises GapError where the log has dropped what was not stored, LogError where it fails.
        """
        self._retry_held()
        try:
            batches = self._consumer.poll(max_records, timeout)
        except OffsetOutOfRange as error:
            self._fell_behind(TopicPartition(error.topic, error.partition))
            return 0
        for batch in batches:
            self._append(batch)
        for tp in list(self._partitions):
            self._roll(tp)
        ages = (partition.age for partition in self._partitions.values())
        self._report.look(ages, self.positions, len(self._waiting))
        condition.PROCESS.turned(self._waits_for())
        return sum(len(batch.records) for batch in batches)

    @property
    def positions(self) -> dict[TopicPartition, int]:
        """Of every partition being read, the next offset."""
        return {tp: partition.next_offset for tp, partition in self._partitions.items()}

    def _waits_for(self) -> str:
        if not self._consumer.joined:
            return "it joins its group"
        return f"{len(self._waiting)} partitions wait: {self._report.failure}" if self._waiting else ""

    @property
    def _waiting(self) -> set[TopicPartition]:
        """Held, and not opened again yet."""
        return self._held.keys() - self._partitions.keys()

    def statistics(self) -> str:
        """One line on what was done."""
        return self._report.line(len(self._partitions), len(self._waiting))

    def close(self) -> None:
        """Store what was read, and leave the group."""
        self._consumer.close()

    # fluxforge.log.Listener

    def assigned(self, tps: Sequence[TopicPartition]) -> None:
        for tp in tps:
            self._open(tp)

    def revoked(self, tps: Sequence[TopicPartition]) -> None:
        """The last commit of partitions that go elsewhere; one that fails is read again by whoever has it next."""
        for tp in tps:
            self._held.pop(tp, None)
            partition = self._partitions.get(tp)
            if partition is None:
                continue
            try:
                self._commit(tp, partition)
            except StorageError as error:
                self._report.failed(error)
                _log.error("%s[%d] not stored on leaving: %s", *tp, error)
            finally:
                self._drop(tp)

    def lost(self, tps: Sequence[TopicPartition]) -> None:
        """Another member reads them already, from the last commit on."""
        for tp in tps:
            self._held.pop(tp, None)
            self._drop(tp)

    def _open(self, tp: TopicPartition) -> None:
        """Open the chain and read on where it ends; where it cannot be written now, hold the partition."""
        bounds = self._log.bounds(tp)
        try:
            partition = self._opener(tp, ChainId(self._log.topic_id(tp.topic), *tp), bounds)
        except _FINAL:
            raise
        except StorageError as error:
            if tp not in self._held and not isinstance(error, _PASSING):
                raise
            self._consumer.seek(tp, bounds.first)
            self._hold(tp, error)
            return
        if partition.gap is not None:
            self._report.gap(tp, partition.gap)
        self._partitions[tp] = partition
        self._consumer.seek(tp, partition.next_offset)
        self._report.opened(tp, partition.next_offset)
        condition.PROCESS.turned()
        _log.info("%s[%d]: stored up to offset %d", *tp, partition.next_offset)

    def _append(self, batch: Batch) -> None:
        partition = self._partitions.get(batch.tp)
        if partition is None:
            return  # held: its records are read again
        try:
            if batch.records and batch.records[0].offset < partition.next_offset:
                raise StorageError(
                    f"the log gave offset {batch.records[0].offset} after {partition.next_offset - 1}",
                    hint="the partition is read again from its last commit",
                )
            partition.append(batch)
        except StorageError as error:
            self._fail(batch.tp, error)
            return
        self._report.read(batch)

    def _roll(self, tp: TopicPartition) -> None:
        partition = self._partitions[tp]
        if partition.due:
            self._store(tp, partition)

    def _store(self, tp: TopicPartition, partition: Partition) -> None:
        """Commit; where that fails, hold the partition."""
        try:
            commit = self._commit(tp, partition)
        except StorageError as error:
            self._fail(tp, error)
            return
        if commit is not None:
            self._held.pop(tp, None)

    def _commit(self, tp: TopicPartition, partition: Partition) -> Commit | None:
        with self._report.commit_time():
            commit = partition.commit()
        condition.PROCESS.turned()
        if commit is not None:
            self._report.committed(commit)
            self._commit_offsets({tp: commit.next_offset})
        return commit

    def _commit_offsets(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Group offsets serve to show the lag; the disk does not need them."""
        try:
            self._consumer.commit(offsets)
        except LogError as error:
            _log.warning("offsets of the group were not stored: %s", error)
        self._step("offsets.committed")

    def _fail(self, tp: TopicPartition, error: StorageError) -> None:
        """The open batch is lost to us, not to the log: begin again at the last commit, after a while."""
        self._drop(tp)
        self._hold(tp, error)

    def _fell_behind(self, tp: TopicPartition) -> None:
        """The log has dropped what was to be read next: store what was read, for nobody else has it, and open again."""
        partition = self._partitions.get(tp)
        if partition is not None:
            self._store(tp, partition)
            if tp not in self._partitions:
                return  # held: opened again when it has waited
        self._reopen(tp)

    def _hold(self, tp: TopicPartition, error: StorageError) -> None:
        _, wait = self._held.get(tp, (0.0, FIRST_BACKOFF_S / 2))
        wait = min(2 * wait, MAX_BACKOFF_S)
        self._held[tp] = (self._clock.monotonic() + wait, wait)
        self._report.failed(error)
        _log.error("%s[%d] waits %.0f s: %s", *tp, wait, error)

    def _retry_held(self) -> None:
        """Pause what is held, and open again what has waited long enough."""
        now = self._clock.monotonic()
        assignment = self._consumer.assignment() if self._held else set()
        for tp, (until, _) in list(self._held.items()):
            if tp not in assignment or tp in self._partitions:
                continue
            if now < until:
                self._consumer.pause([tp])
            else:
                self._reopen(tp)

    def _reopen(self, tp: TopicPartition) -> None:
        self._drop(tp)
        self._open(tp)
        if tp in self._partitions:
            self._consumer.resume([tp])

    def _drop(self, tp: TopicPartition) -> None:
        partition = self._partitions.pop(tp, None)
        if partition is not None:
            partition.close()
