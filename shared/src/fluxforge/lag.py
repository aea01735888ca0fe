"""How far a member of a group is: its position in each of its partitions, and how much of the log lies behind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fluxforge import metrics
from fluxforge.clock import MS, Clock
from fluxforge.errors import LogError
from fluxforge.log import Batch, Log, TopicPartition

INTERVAL_S = 2.0
"""The log is asked for its ends this often."""
ASK_S = 0.5
"""Work waits no longer for the answer."""


class Lag:
    """The gauges of one process; `role` as in `fluxforge.metrics`."""

    def __init__(self, role: str, log: Log, clock: Clock) -> None:
        self._role, self._log, self._clock = role, log, clock
        self._positions: dict[TopicPartition, Callable[[float], None]] = {}
        self._timestamps: dict[TopicPartition, int] = {}
        self._look_at = 0.0

    def at(self, tp: TopicPartition, offset: int) -> None:
        """Reading goes on at `offset`."""
        if tp not in self._positions:
            self._positions[tp] = metrics.POSITION.labels(self._role, tp.topic, str(tp.partition)).set
        self._positions[tp](offset)

    def read(self, batch: Batch) -> None:
        """A batch was taken."""
        self.at(batch.tp, batch.next_offset)
        if batch.records:
            self._timestamps[batch.tp] = batch.records[-1].timestamp

    def look(self, positions: Mapping[TopicPartition, int]) -> int | None:
        """Ask the log, now and then, where it ends: the records behind it in all; None where it was not asked.

        Partitions that are not in `positions` are another's by now, and so are their gauges.
        """
        now = self._clock.monotonic()
        if now < self._look_at:
            return None
        self._look_at = now + INTERVAL_S
        for tp in self._positions.keys() - positions.keys():
            self._forget(tp)
        metrics.ASSIGNED.labels(self._role).set(len(positions))
        try:
            ends = self._log.ends(positions, within=ASK_S)
        except LogError:
            return None  # whoever polls it says so
        lags = {tp: max(0, ends[tp] - position) for tp, position in positions.items()}
        for tp, lag in lags.items():
            labels = self._role, tp.topic, str(tp.partition)
            metrics.LAG.labels(*labels).set(lag)
            if not lag:
                metrics.LAG_SECONDS.labels(*labels).set(0)
            elif tp in self._timestamps:
                age = self._clock.now() - self._timestamps[tp] * MS
                metrics.LAG_SECONDS.labels(*labels).set(max(0, age / 1e9))
        return sum(lags.values())

    def _forget(self, tp: TopicPartition) -> None:
        del self._positions[tp]
        self._timestamps.pop(tp, None)
        for gauge in (metrics.POSITION, metrics.LAG, metrics.LAG_SECONDS):
            gauge.remove(self._role, tp.topic, str(tp.partition))
