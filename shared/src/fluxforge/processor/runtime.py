"""The loop: poll, process, commit; restore on assignment, hand over on revocation."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from fluxforge import metrics
from fluxforge.batch import EventBatch
from fluxforge.errors import Fenced, LogUnavailable
from fluxforge.kernels.arena import Arena
from fluxforge.log import Batch, Consumer, Log, Output, TopicPartition, Transactor
from fluxforge.processor import snapshots
from fluxforge.processor.decode import Decoded
from fluxforge.processor.partition import PartitionState
from fluxforge.processor.snapshots import Snapshot

_log = logging.getLogger(__name__)

BATCH_RECORDS = 2000
REBUILD_BOUND_MS = 180_000
"""No book is sought further back: a live key's book is restated each minute."""


class Kernel(Protocol):
    """A compiled kernel with the state of one partition's keys."""

    arena: Arena

    def run(self, batch: EventBatch) -> Any: ...


class Emitted(NamedTuple):
    """An output and the raw offset of the event that made it."""

    offset: int
    output: Output


class Processor(Protocol):
    """What a service adds to the runtime: a kernel, and what its results become.

    role         names group and metrics
    state_topic  compacted topic of its snapshots
    config_hash  a snapshot of another one is never used
    warm_up_s    how far back a key without a usable snapshot is rebuilt from
    """

    role: str
    state_topic: str
    config_hash: str
    warm_up_s: float

    def kernel(self) -> Kernel: ...

    def outputs(self, result: Any, decoded: Decoded) -> Iterable[Emitted]:
        """The records a batch yields, in the order of the events that made them."""


class Runtime:
    """One member of a processor's consumer group.

    `member` must be unique and stable over restarts: it is the group member's id and the transactional id.
    """

    def __init__(
        self,
        log: Log,
        processor: Processor,
        raw_topic: str,
        group: str,
        member: str,
        *,
        commit_interval: float = 1.0,
        snapshot_interval: float = 60.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._processor = processor
        self._raw = raw_topic
        self._topic_id = log.topic_id(raw_topic)
        self._transactional_id = f"{group}.{member}"
        self._commit_interval = commit_interval
        self._snapshot_interval = snapshot_interval
        self._monotonic = monotonic
        self._partitions: dict[TopicPartition, PartitionState] = {}
        self._transactor: Transactor = log.transactor(self._transactional_id)
        self._consumer: Consumer = log.consumer(group, [raw_topic], member, self)
        self._next_commit = monotonic() + commit_interval

    def run(self, stopped: Callable[[], bool]) -> None:
        """Process until `stopped`; then commit what is done and leave the group.

        Raises OffsetOutOfRange when the log no longer holds what must be read, Fenced when another member of the
        same name has taken over.
        """
        try:
            while not stopped():
                self.turn(timeout=min(0.05, self._commit_interval))
        except BaseException:
            # Half a batch may be in the state, or outputs lost with a refused transaction: nothing of it is committed.
            self._partitions.clear()
            raise
        finally:
            self.close()

    def turn(self, timeout: float = 0.0) -> int:
        """One poll and, when due, one commit; returns the records read."""
        read = 0
        for batch in self._consumer.poll(BATCH_RECORDS, timeout):
            state = self._partitions.get(batch.tp)
            if state is not None:
                self._process(state, batch)
                read += len(batch.records)
        if self._monotonic() >= self._next_commit:
            self.commit()
        return read

    def commit(self) -> None:
        """Make everything processed so far visible, with its offsets and the snapshots that are due."""
        self._next_commit = self._monotonic() + self._commit_interval
        moved = self._moved()
        if not moved:
            return
        for tp in moved:
            self._append_state(tp, self._partitions[tp].due(self._monotonic(), self._snapshot_interval))
        self._commit(moved)

    def close(self) -> None:
        """Commit, snapshot every key, leave the group."""
        try:
            self._consumer.close()
        finally:
            self._transactor.close()

    def assigned(self, tps: Sequence[TopicPartition]) -> None:
        """Listener: restore each partition and seek to where its book-rebuilding begins."""
        started = self._monotonic()
        committed = self._consumer.committed(tps)
        for tp in tps:
            state, start = self._restore(tp, committed.get(tp))
            self._partitions[tp] = state
            self._consumer.seek(tp, start)
            metrics.POSITION.labels(self._processor.role, *map(str, tp)).set(start)
        metrics.RESTORE.labels(self._processor.role).set(self._monotonic() - started)

    def revoked(self, tps: Sequence[TopicPartition]) -> None:
        """Listener: a last commit with a snapshot of every key, then let go."""
        leaving = [tp for tp in tps if tp in self._partitions]
        # One transaction is open for all partitions, so the offsets of those that stay go with it.
        moved = self._moved()
        for tp in moved:
            state = self._partitions[tp]
            due = state.due(self._monotonic(), self._snapshot_interval)
            self._append_state(tp, state.keys() if tp in leaving else due)
        refused: Fenced | None = None
        if moved:
            try:
                self._commit(moved)
            except Fenced as error:
                _log.warning("partitions went before the last commit: %s", error)
                refused = error
        for tp in leaving:
            del self._partitions[tp]
        if refused is not None and self._partitions:
            # The refused transaction held outputs of those that stay: only a start from what is committed is right.
            raise refused

    def lost(self, tps: Sequence[TopicPartition]) -> None:
        """Listener: they are another's already; what was not committed will be made again there."""
        metrics.FENCED.labels(self._processor.role).inc()
        self._transactor.abort()
        for tp in tps:
            self._partitions.pop(tp, None)
        # The aborted transaction held the other partitions' outputs too.
        self._restart(list(self._partitions))

    def _moved(self) -> dict[TopicPartition, int]:
        """Next offsets of the partitions with something to commit."""
        return {tp: s.next_offset for tp, s in self._partitions.items() if s.next_offset > s.committed}

    def _process(self, state: PartitionState, batch: Batch) -> None:
        role = self._processor.role
        decoded = state.decoder.decode(batch.records)
        result = state.kernel.run(decoded.batch)
        for offset, output in self._processor.outputs(result, decoded):
            if offset >= state.committed:
                self._transactor.append(output)
                metrics.PRODUCED.labels(role, output.topic).inc()
        state.advance(decoded, batch.next_offset)
        metrics.CONSUMED.labels(role, batch.tp.topic).inc(len(batch.records))
        metrics.POSITION.labels(role, *map(str, batch.tp)).set(batch.next_offset)

    def _append_state(self, tp: TopicPartition, keys: Iterable[str]) -> None:
        """Snapshots of `keys`, and the partition's floor."""
        state, role, topic = self._partitions[tp], self._processor.role, self._processor.state_topic
        identity = (self._topic_id, self._processor.config_hash, state.next_offset)
        for key in keys:
            words, rebuild = state.save(key, self._monotonic())
            snapshot = Snapshot(*identity, rebuild, snapshots.compress(words))
            self._transactor.append(snapshots.encode(snapshot, topic, key, tp.partition))
            metrics.SNAPSHOTS.labels(role).inc()
        floor = snapshots.floor(*identity, state.floor())
        self._transactor.append(snapshots.encode(floor, topic, snapshots.FLOOR_KEY, tp.partition))

    def _commit(self, offsets: dict[TopicPartition, int]) -> None:
        with metrics.COMMITS.labels(self._processor.role).time():
            try:
                self._transactor.commit(offsets, self._consumer)
            except LogUnavailable as error:
                _log.warning("a commit's outcome is unknown, reading where things stand: %s", error)
                self._transactor.close()
                self._transactor = self._log.transactor(self._transactional_id)
                self._restart(list(self._partitions))
                return
        for tp, offset in offsets.items():
            self._partitions[tp].committed = max(self._partitions[tp].committed, offset)

    def _restart(self, tps: Sequence[TopicPartition]) -> None:
        if tps:
            self.assigned(tps)

    def _restore(self, tp: TopicPartition, committed: int | None) -> tuple[PartitionState, int]:
        """The partition's state and the offset to read from."""
        first = self._log.bounds(tp).first
        state = PartitionState(tp, self._processor.kernel(), committed if committed is not None else first)
        if committed is None:
            return state, first
        state_tp = TopicPartition(self._processor.state_topic, tp.partition)
        found = snapshots.load(self._log, state_tp, self._topic_id, self._processor.config_hash, committed)
        if found.floor is None:
            _log.info("%s[%d]: no usable snapshot, rebuilding from the log", *tp)
            return state, self._back_from(tp, committed, self._processor.warm_up_s * 1000)
        books = [found.floor]
        for key, snapshot in found.snapshots.items():
            state.restore(key, snapshot)
            if snapshot.rebuild_offset >= 0:
                books.append(snapshot.rebuild_offset)
        start = max(min(books), self._back_from(tp, committed, REBUILD_BOUND_MS))
        return state, max(first, min(found.floor, start))

    def _back_from(self, tp: TopicPartition, offset: int, milliseconds: float) -> int:
        """The offset that lies `milliseconds` of record time before `offset`, within the log."""
        first, end = self._log.bounds(tp)
        at = max(first, min(offset, end) - 1)
        if at >= end:
            return at
        reader = self._log.reader(tp, at)
        try:
            records = reader.read(1, timeout=5.0).records
        finally:
            reader.close()
        if not records:
            return first
        return max(first, min(offset, self._log.offset_at(tp, int(records[0].timestamp - milliseconds))))
