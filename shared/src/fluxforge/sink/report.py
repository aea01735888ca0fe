"""What a sink tells the world: metrics, and a line of statistics."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from fluxforge import metrics
from fluxforge.clock import MS, NS, Clock
from fluxforge.errors import StorageError, WriterConflict
from fluxforge.files import Commit, Gap
from fluxforge.files.storage import Step
from fluxforge.lag import Lag
from fluxforge.log import Batch, Log, TopicPartition

_SAFE = {"files.synced": "files.finished", "record.synced": "record.linked", "folders.synced": "file.linked"}
"""Of `fluxforge.files.STEPS` those that wait for the disk or the bucket, each with the one before it."""

_log = logging.getLogger(__name__)


def timed(role: str, clock: Clock, step: Step) -> Step:
    """`step`, and each wait of a commit for its store measured."""
    fsyncs, last, since = metrics.FSYNCS.labels(role), "", 0.0

    def note(name: str) -> None:
        nonlocal last, since
        now = clock.monotonic()
        if last and _SAFE.get(name) == last:
            fsyncs.observe(now - since)
        last, since = name, now
        step(name)

    return note


class Report:
    """Counts for one process."""

    def __init__(self, role: str, log: Log, clock: Clock) -> None:
        self._role, self._clock = role, clock
        for counter in (metrics.FENCED, metrics.FILE_GAPS, metrics.UNDECODABLE):
            counter.labels(role)  # at 0 from the start: the first increase could not be seen otherwise
        self.failure = ""
        """What the last failed write said."""
        self._totals: Counter[str] = Counter()
        self._lag, self._behind = Lag(role, log, clock), 0
        self._oldest: dict[TopicPartition, int] = {}
        """Of each open batch, ms."""

    def opened(self, tp: TopicPartition, next_offset: int) -> None:
        """A partition was taken; reading goes on at `next_offset`."""
        self._lag.at(tp, next_offset)
        self._oldest.pop(tp, None)

    def read(self, batch: Batch) -> None:
        """A batch was taken."""
        self._totals["read"] += len(batch.records)
        metrics.CONSUMED.labels(self._role, batch.tp.topic).inc(len(batch.records))
        self._lag.read(batch)
        if batch.records:
            self._oldest.setdefault(batch.tp, batch.records[0].timestamp)

    @contextmanager
    def commit_time(self) -> Iterator[None]:
        """Time a commit."""
        with metrics.COMMITS.labels(self._role).time():
            yield

    def committed(self, commit: Commit) -> None:
        """A batch is on disk."""
        now, oldest = self._clock.now(), self._oldest.pop(TopicPartition(commit.topic, commit.partition), None)
        metrics.COMMIT_TIME.labels(self._role).set(now / NS)
        if oldest is not None:
            metrics.END_TO_END.labels(self._role).observe(max(0, now - oldest * MS) / NS)
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
        self.failure = str(error)
        self._totals["failures"] += 1
        metrics.FILE_ERRORS.labels(self._role, type(error).__name__).inc()
        if isinstance(error, WriterConflict):
            metrics.FENCED.labels(self._role).inc()

    def gap(self, tp: TopicPartition, gap: Gap) -> None:
        """Offsets were lost before they could be stored, and that is on record."""
        self._totals["gaps"] += 1
        metrics.FILE_GAPS.labels(self._role).inc()
        _log.error("%s[%d]: offsets [%d, %d) had left the log; the gap is recorded", *tp, gap.first, gap.next)

    def look(self, ages: Iterable[float], positions: Mapping[TopicPartition, int], held: int) -> None:
        """Ages of the open batches, s; the next offset of each partition that is read; how many others wait."""
        metrics.ACTIVE_AGE.labels(self._role).set(max(ages, default=0.0))
        metrics.WAITING.labels(self._role).set(held)
        behind = self._lag.look(positions)
        if behind is not None:
            self._behind = behind

    def line(self, partitions: int, held: int) -> str:
        """One line on all of it."""
        total = self._totals
        return (
            f"{partitions} partitions ({held} waiting), {total['read']} records read, {self._behind} behind, "
            f"{total['rows']} rows in {total['segments']} segments, {total['undecodable']} undecodable, "
            f"{total['failures']} failures, {total['gaps']} gaps"
        )
