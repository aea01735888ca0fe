"""What a processor tells the world: each label looked up once, each batch counted once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from fluxforge import metrics
from fluxforge.clock import MS, NS, Clock
from fluxforge.lag import Lag
from fluxforge.log import Batch, Log, Output, TopicPartition


class Report:
    """The metrics of one member; `role` as in `fluxforge.metrics`."""

    def __init__(self, role: str, raw_topic: str, log: Log, clock: Clock) -> None:
        self._role, self._clock = role, clock
        self._lag = Lag(role, log, clock)
        self._consumed = metrics.CONSUMED.labels(role, raw_topic)
        self._produced: dict[str, Callable[[float], None]] = {}
        self._commits, self._end_to_end = metrics.COMMITS.labels(role), metrics.END_TO_END.labels(role)
        self._commit_time, self._watermark = metrics.COMMIT_TIME.labels(role), metrics.WATERMARK.labels(role)
        self._oldest: int | None = None
        """Of the records whose results are not committed, ms."""
        self.snapshots = metrics.SNAPSHOTS.labels(role)
        metrics.FENCED.labels(role)  # at 0 from the start: the first increase could not be seen otherwise
        metrics.DEAD.labels(role, "failed")

    def restored(self, tp: TopicPartition, offset: int) -> None:
        """A partition was taken; reading goes on at `offset`."""
        self._lag.at(tp, offset)
        self._oldest = None

    def processed(self, batches: Sequence[Batch], fresh: Sequence[Batch], outputs: Sequence[Output]) -> None:
        """Batches were processed; results of the `fresh` ones are not visible yet."""
        self._consumed.inc(sum(len(batch.records) for batch in batches))
        for batch in batches:
            self._lag.read(batch)
        oldest = min((batch.records[0].timestamp for batch in fresh if batch.records), default=None)
        if oldest is not None:
            self._oldest = oldest if self._oldest is None else min(oldest, self._oldest)
        for topic, count in Counter([output.topic for output in outputs]).items():
            if topic not in self._produced:
                self._produced[topic] = metrics.PRODUCED.labels(self._role, topic).inc
            self._produced[topic](count)

    @contextmanager
    def commit(self) -> Iterator[None]:
        """Time a commit, and what it makes visible from its capture on."""
        with self._commits.time():
            yield
        now = self._clock.now()
        self._commit_time.set(now / NS)
        if self._oldest is not None:
            self._end_to_end.observe(max(0, now - self._oldest * MS) / NS)
            self._oldest = None

    def look(self, positions: Mapping[TopicPartition, int], watermark: int) -> None:
        """Now and then; `watermark`: the newest event time, ns."""
        if self._lag.look(positions) is not None and watermark > 0:
            self._watermark.set(watermark / NS)
