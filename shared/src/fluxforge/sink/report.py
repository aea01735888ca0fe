"""What a sink tells the world: metrics, and a line of statistics."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from fluxforge import metrics
from fluxforge.clock import MS, Clock
from fluxforge.errors import StorageError, WriterConflict
from fluxforge.files import Commit, Gap
from fluxforge.log import Batch, Log, TopicPartition

LAG_INTERVAL_S = 2.0

_log = logging.getLogger(__name__)


class Report:
    """Counts for one process."""

    def __init__(self, role: str, clock: Clock) -> None:
        self._role, self._clock = role, clock
        self._totals: Counter[str] = Counter()
        self._lag = 0
        self._lag_at = 0.0

    def opened(self, tp: TopicPartition, next_offset: int) -> None:
        """A partition was taken; reading goes on at `next_offset`."""
        metrics.POSITION.labels(self._role, *map(str, tp)).set(next_offset)

    def read(self, batch: Batch) -> None:
        """A batch was taken."""
        self._totals["read"] += len(batch.records)
        topic, partition = batch.tp.topic, str(batch.tp.partition)
        metrics.CONSUMED.labels(self._role, topic).inc(len(batch.records))
        metrics.POSITION.labels(self._role, topic, partition).set(batch.next_offset)
        if batch.records:
            age = (self._clock.now() - batch.records[-1].timestamp * MS) / 1e9
            metrics.LAG_SECONDS.labels(self._role, topic, partition).set(age)

    @contextmanager
    def commit_time(self) -> Iterator[None]:
        """Time a commit."""
        with metrics.COMMITS.labels(self._role).time():
            yield

    def committed(self, commit: Commit) -> None:
        """A batch is on disk."""
        self._totals["rows"] += commit.rows
        self._totals["segments"] += len(commit.files)
        noted = commit.meta.get("undecodable", 0)  # Bronze counts them, the lake lists their offsets
        if undecodable := len(noted) if isinstance(noted, list) else noted:
            self._totals["undecodable"] += undecodable
            metrics.UNDECODABLE.labels(self._role).inc(undecodable)
        for file in commit.files:
            table = str(file.meta.get("channel") or commit.meta.get("table", ""))
            metrics.ROWS.labels(self._role, table).inc(file.rows)
            metrics.SEGMENTS.labels(self._role, table).inc()
            metrics.SEGMENT_BYTES.labels(self._role, table).inc(file.bytes)

    def failed(self, error: StorageError) -> None:
        """A write failed and is tried again."""
        self._totals["failures"] += 1
        metrics.FILE_ERRORS.labels(self._role, type(error).__name__).inc()
        if isinstance(error, WriterConflict):
            metrics.FENCED.labels(self._role).inc()

    def gap(self, tp: TopicPartition, gap: Gap) -> None:
        """Offsets were lost before they could be stored, and that is on record."""
        self._totals["gaps"] += 1
        metrics.FILE_GAPS.labels(self._role).inc()
        _log.error("%s[%d]: offsets [%d, %d) had left the log; the gap is recorded", *tp, gap.first, gap.next)

    def ages(self, ages: Iterable[float]) -> None:
        """Ages of the open batches, s."""
        metrics.ACTIVE_AGE.labels(self._role).set(max(ages, default=0.0))

    def lags(self, positions: Mapping[TopicPartition, int], log: Log) -> None:
        """Ask the log now and then how far behind we are."""
        now = self._clock.monotonic()
        if now < self._lag_at:
            return
        self._lag_at = now + LAG_INTERVAL_S
        self._lag = 0
        for tp, position in positions.items():
            lag = max(0, log.bounds(tp).next - position)
            self._lag += lag
            metrics.LAG.labels(self._role, tp.topic, str(tp.partition)).set(lag)

    def line(self, partitions: int, held: int) -> str:
        """One line on all of it."""
        total = self._totals
        return (
            f"{partitions} partitions ({held} waiting), {total['read']} records read, {self._lag} behind, "
            f"{total['rows']} rows in {total['segments']} segments, {total['undecodable']} undecodable, "
            f"{total['failures']} failures, {total['gaps']} gaps"
        )
