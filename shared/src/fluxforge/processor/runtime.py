"""The loop: poll, process, commit; restore on assignment, hand over on revocation."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fluxforge import condition, metrics
from fluxforge.clock import Clock, SystemClock
from fluxforge.errors import Fenced, LogUnavailable
from fluxforge.log import Batch, Consumer, Log, TopicPartition, Transactor
from fluxforge.processor import snapshots
from fluxforge.processor.compute import Compute, Processor, Spoilt, parse_name
from fluxforge.processor.decode import Run
from fluxforge.processor.report import Report
from fluxforge.processor.restore import Restorer
from fluxforge.processor.saves import Saves
from fluxforge.processor.snapshots import Snapshot

_log = logging.getLogger(__name__)

BATCH_RECORDS = 2000
REJOINS = 5
REJOIN_WINDOW = 60.0
"""A member shut out more than `REJOINS` times within so many s gives up: another of its name must be alive."""


@dataclass
class Progress:
    """How far a partition is.

    committed    outputs of events below it are visible already
    next_offset  everything below it has been processed; behind `committed` while the state is being rebuilt
    """

    committed: int
    next_offset: int

    @property
    def is_fresh(self) -> bool:
        """Whether what comes next has not been processed before."""
        return self.next_offset >= self.committed


class Runtime:
    """One member of a processor's consumer group.

    `member` must be unique and stable over restarts: it is the member's name and its transactional id. A member that
    is shut out (stopped for longer than its session, or cut off from the broker) joins anew.
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
        clock: Clock | None = None,
    ) -> None:
        self._log = log
        self._processor = processor
        self._raw, self._group, self._member = raw_topic, group, member
        self._commit_interval = commit_interval
        self._snapshot_interval = snapshot_interval
        self._monotonic = monotonic
        self._restorer = Restorer(log, processor, log.topic_id(raw_topic))
        self._report = Report(processor.role, raw_topic, log, clock or SystemClock())
        self._rejoined: deque[float] = deque(maxlen=REJOINS)
        self._partitions: dict[TopicPartition, Progress] = {}
        self._join()

    def run(self, stopped: Callable[[], bool]) -> None:
        """Process until `stopped`; then commit what is done and leave the group.

        Raises OffsetOutOfRange when the log no longer holds what must be read, and Fenced or LogUnavailable when
        joining anew does not help.
        """
        try:
            while not stopped():
                try:
                    self.turn(timeout=min(0.05, self._commit_interval / 2))
                except (Fenced, LogUnavailable) as error:
                    self._rejoin(error)
        except BaseException:
            # Half a batch may be in the state, or outputs lost with a refused transaction: nothing of it is committed.
            self._partitions.clear()
            raise
        finally:
            self.close()

    def turn(self, timeout: float = 0.0) -> int:
        """One poll and, when due, one commit; returns the records read."""
        batches = [b for b in self._consumer.poll(BATCH_RECORDS, timeout) if b.tp in self._partitions]
        if batches:
            try:
                self._process(batches)
            except Spoilt as error:
                _log.warning("the kernel failed, going back to the last commit to find the record: %s", error)
                self._start_over()
        if self._monotonic() >= self._next_commit:
            try:
                self.commit()
            except Fenced as error:
                self._refuse(error)
            else:
                self._refused = False
        self._report.look({tp: p.next_offset for tp, p in self._partitions.items()}, self._compute.newest)
        condition.PROCESS.turned(self._waits_for())
        return sum(len(batch.records) for batch in batches)

    def _waits_for(self) -> str:
        if not self._consumer.joined:
            return "it joins its group"
        left = sum(max(0, p.committed - p.next_offset) for p in self._partitions.values())
        return f"{left} records are to be read again to rebuild its state" if left else ""

    def commit(self) -> None:
        """Make everything processed so far visible, with its offsets and the snapshots that are due."""
        self._next_commit = self._monotonic() + self._commit_interval
        self._commit()

    def close(self) -> None:
        """Commit, snapshot every key, leave the group."""
        try:
            self._consumer.close()
        finally:
            self._transactor.close()

    def assigned(self, tps: Sequence[TopicPartition]) -> None:
        """Listener: restore each partition and seek to where its book-rebuilding begins."""
        self._commit()  # a transaction must not stay open while they are restored
        self._restore(tps)

    def revoked(self, tps: Sequence[TopicPartition]) -> None:
        """Listener: a last commit with a snapshot of every key, then let go."""
        leaving = [tp for tp in tps if tp in self._partitions]
        refused: Fenced | None = None
        try:
            self._commit(leaving)
        except Fenced as error:
            _log.warning("partitions went before the last commit: %s", error)
            refused = error
        for tp in leaving:
            self._drop(tp)
        _log.info("%s hands over partitions %s", self._member, [tp.partition for tp in leaving])
        if refused is not None and self._partitions:
            # The refused transaction held outputs of those that stay: only a start from what is committed is right.
            raise refused

    def lost(self, tps: Sequence[TopicPartition]) -> None:
        """Listener: they are another's already; what was not committed will be made again there."""
        metrics.FENCED.labels(self._processor.role).inc()
        for tp in tps:
            self._drop(tp)
        # The aborted transaction held the other partitions' outputs too.
        self._start_over()

    def _join(self) -> None:
        self._compute = Compute(self._processor, self._raw)
        self._saves = Saves(self._compute.arena, self._snapshot_interval)
        self._partitions.clear()
        self._refused = False
        self._next_commit = self._monotonic() + self._commit_interval
        # First the transactor: what an earlier holder of the name left open must end before offsets can be read.
        self._transactor = self._new_transactor()
        self._consumer: Consumer = self._log.consumer(self._group, [self._raw], self._member, self, static=False)

    def _new_transactor(self) -> Transactor:
        return self._log.transactor(f"{self._group}.{self._member}")

    def _rejoin(self, error: Exception) -> None:
        """Let go of everything and join as a new member. Raises `error` when that did not help before."""
        now = self._monotonic()
        if len(self._rejoined) == REJOINS and now - self._rejoined[0] < REJOIN_WINDOW:
            raise error
        self._rejoined.append(now)
        _log.warning("joining %s anew as %s: %s", self._group, self._member, error)
        self._partitions.clear()  # nothing is committed while the consumer closes
        self.close()
        self._join()

    def _refuse(self, error: Fenced) -> None:
        """A commit between two generations of the group is refused, and no more than that is lost the first time.

        Raises `error` the second time in a row.
        """
        if self._refused:
            raise error
        self._refused = True
        _log.info("a commit of %s was refused, going back to the last one: %s", self._member, error)
        self._start_over()

    def _process(self, batches: Sequence[Batch]) -> None:
        runs = [Run(b.tp.partition, b.records, self._partitions[b.tp].committed) for b in batches]
        outputs, slots = self._compute.run(runs)
        self._saves.follow(self._compute.arena)
        self._saves.changed(slots)
        append = self._transactor.append
        for output in outputs:
            append(output)
        fresh = [batch for batch in batches if self._partitions[batch.tp].is_fresh]
        for batch in batches:
            self._partitions[batch.tp].next_offset = batch.next_offset
        self._report.processed(batches, fresh, outputs)

    def _commit(self, leaving: Sequence[TopicPartition] = ()) -> None:
        """One transaction for all partitions: outputs, offsets, and snapshots, of each key that leaves unsaved too."""
        offsets = {tp: p.next_offset for tp, p in self._partitions.items() if p.next_offset > p.committed}
        if not offsets:
            return
        for tp, next_offset in offsets.items():
            self._append_state(tp, next_offset, np.inf if tp in leaving else self._monotonic())
        try:
            with self._report.commit():
                self._transactor.commit(offsets, self._consumer)
        except LogUnavailable as error:
            _log.warning("a commit's outcome is unknown, reading where things stand: %s", error)
            self._start_over()
            return
        for tp, offset in offsets.items():
            self._partitions[tp].committed = max(self._partitions[tp].committed, offset)

    def _append_state(self, tp: TopicPartition, next_offset: int, due_by: float) -> None:
        """Snapshots of the keys whose time for it has come by `due_by`, and the partition's floor."""
        topic, arena, now = self._processor.state_topic, self._compute.arena, self._monotonic()
        identity = (self._restorer.topic_id, self._processor.config_hash, next_offset)
        for slot in self._saves.due(tp.partition, next_offset, due_by):
            rebuild = self._saves.rebuild_offset(slot, next_offset)
            snapshot = Snapshot(*identity, rebuild, snapshots.compress(arena.save(slot, book=rebuild < 0)))
            _, key = parse_name(arena.key(slot))
            self._transactor.append(snapshots.encode(snapshot, topic, key, tp.partition))
            self._saves.saved(slot, next_offset, rebuild, now)
            self._report.snapshots.inc()
        floor = snapshots.floor(*identity, self._saves.floor(tp.partition, next_offset))
        self._transactor.append(snapshots.encode(floor, topic, snapshots.FLOOR_KEY, tp.partition))

    def _start_over(self) -> None:
        """Back to what is committed, with a new transactor: after an abort a producer's next records may be refused."""
        self._transactor.close()
        self._transactor = self._new_transactor()
        self._restore(list(self._partitions))

    def _restore(self, tps: Sequence[TopicPartition]) -> None:
        if not tps:
            return
        started = self._monotonic()
        committed = self._consumer.committed(tps)
        for tp in tps:
            self._drop(tp)
            found = self._restorer.restore(self._compute.arena, tp, committed.get(tp))
            for slot, (next_offset, rebuild) in found.slots.items():
                self._saves.restored(slot, next_offset, rebuild)
            self._partitions[tp] = Progress(found.committed, found.start)
            self._consumer.seek(tp, found.start)
            condition.PROCESS.turned()
            self._report.restored(tp, found.start)
        seconds = self._monotonic() - started
        metrics.RESTORE.labels(self._processor.role).set(seconds)
        _log.info("%s takes partitions %s, restored in %.2f s", self._member, [tp.partition for tp in tps], seconds)

    def _drop(self, tp: TopicPartition) -> None:
        if self._partitions.pop(tp, None) is not None:
            for slot in self._compute.slots(tp.partition):
                self._saves.drop(slot)
            self._compute.drop(tp.partition)
