"""Raw topic to Bronze: the loop that reads, writes, rolls, and begins again where the disk says.

The disk is the truth for offsets: what a partition needs after any failure is to be opened again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

from bronze_sink.partition import Partition, Rolling
from bronze_sink.report import Report
from fluxforge.clock import Clock, SystemClock
from fluxforge.errors import (
    DiskFull,
    FluxForgeError,
    GapError,
    LogError,
    OffsetOutOfRange,
    StorageError,
    StorageUnavailable,
    WriterConflict,
)
from fluxforge.files import Chain, ChainId, Commit, Tree
from fluxforge.log import Batch, Consumer, Log, TopicPartition

MAX_BACKOFF_S = 30.0

_log = logging.getLogger(__name__)


class BronzeSink:
    """A member of the sinks' group. `step` in a loop, then `close`: it stores what was read.

    step  told of every point where a commit can be cut off (`fluxforge.files.STEPS`, then "offsets.committed")
    """

    def __init__(
        self,
        log: Log,
        topics: Sequence[str],
        tree: Tree,
        *,
        group: str,
        member: str,
        rolling: Rolling | None = None,
        clock: Clock | None = None,
        step: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._log, self._tree = log, tree
        self._rolling, self._clock, self._step = rolling or Rolling(), clock or SystemClock(), step
        self._partitions: dict[TopicPartition, Partition] = {}
        self._held: dict[TopicPartition, tuple[float, float]] = {}
        self._report = Report(self._clock)
        tree.storage.probe()
        self._consumer: Consumer = log.consumer(group, topics, member, self)

    def step(self, timeout: float = 0.1, max_records: int = 2000) -> int:
        """Read once, write, roll what is due. Returns the records read.

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
        self._report.ages(partition.age for partition in self._partitions.values())
        self._report.lags(self.positions, self._log)
        return sum(len(batch.records) for batch in batches)

    @property
    def positions(self) -> dict[TopicPartition, int]:
        """Of every partition being read, the next offset."""
        return {tp: partition.next_offset for tp, partition in self._partitions.items()}

    def statistics(self) -> str:
        """One line on what was done."""
        return self._report.line(len(self._partitions), len(self._held))

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
                self._report.failed(tp, error)
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
        chain_id = ChainId(self._log.topic_id(tp.topic), *tp)
        try:
            chain = Chain.open(
                self._tree,
                chain_id,
                first=bounds.first,
                end=bounds.next,
                on_gap=self._rolling.on_gap,
                step=self._step,
            )
        except (DiskFull, StorageUnavailable, WriterConflict) as error:
            self._consumer.seek(tp, bounds.first)
            self._hold(tp, error)
            return
        if chain.gap is not None:
            self._report.gap(tp, chain.gap)
        self._partitions[tp] = Partition(chain, self._rolling, self._clock.monotonic)
        self._consumer.seek(tp, chain.next_offset)
        self._report.opened(tp, chain.next_offset)
        _log.info("%s[%d]: stored up to offset %d", *tp, chain.next_offset)

    def _append(self, batch: Batch) -> None:
        partition = self._partitions.get(batch.tp)
        if partition is None:
            return  # held: its records are read again
        try:
            partition.append(batch)
        except StorageError as error:
            self._fail(batch.tp, error)
            return
        self._report.read(batch)

    def _roll(self, tp: TopicPartition) -> None:
        partition = self._partitions[tp]
        if not partition.due:
            return
        try:
            commit = self._commit(tp, partition)
        except GapError:
            raise
        except StorageError as error:
            self._fail(tp, error)
            return
        if commit is not None:
            self._held.pop(tp, None)

    def _commit(self, tp: TopicPartition, partition: Partition) -> Commit | None:
        with self._report.commit_time():
            commit = partition.commit()
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
            self._commit(tp, partition)
        self._reopen(tp)

    def _hold(self, tp: TopicPartition, error: FluxForgeError) -> None:
        _, wait = self._held.get(tp, (0.0, 0.5))
        wait = min(2 * wait, MAX_BACKOFF_S)
        self._held[tp] = (self._clock.monotonic() + wait, wait)
        self._report.failed(tp, error)
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
