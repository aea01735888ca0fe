"""What a quixstreams application tells the world: the metrics of every role of ours, and whether its loop turns."""

from __future__ import annotations

import json
from typing import Any

from fluxforge import condition, metrics


class Watch:
    """Callbacks for one application; `role` as in `fluxforge.metrics`."""

    def __init__(self, role: str) -> None:
        self._role = role
        self._lags: dict[tuple[str, str], int | None] = {}

    def processed(self, topic: str, _partition: int, _offset: int) -> None:
        """A record was processed."""
        metrics.CONSUMED.labels(self._role, topic).inc()

    def statistics(self, text: str) -> None:
        """librdkafka's statistics, which it hands over now and then while it is polled: so the loop turns."""
        told: dict[str, Any] = json.loads(text)
        joined = told.get("cgrp", {}).get("join_state") == "steady"
        condition.PROCESS.turned("" if joined else "it joins its group")
        found = {
            (topic, number): partition
            for topic, of_topic in told.get("topics", {}).items()
            for number, partition in of_topic["partitions"].items()
            if partition["fetch_state"] not in ("none", "stopping", "stopped") and not topic.startswith("changelog__")
        }
        known = {at for at, lag in self._lags.items() if lag is not None}
        self._lags = {at: self._look(at, partition) for at, partition in found.items()}
        for gone in known - {at for at, lag in self._lags.items() if lag is not None}:
            for gauge in (metrics.POSITION, metrics.LAG):
                gauge.remove(self._role, *gone)
        metrics.ASSIGNED.labels(self._role).set(len(found))

    def reading(self, topic: str, partitions: int) -> tuple[list[int], list[int]]:
        """This member's partitions of a topic, and those of them that it is not known to have read to their ends.

        Before it has heard which are its own, all `partitions` are, and may hold anything.
        """
        owned = {int(number): lag for (name, number), lag in self._lags.items() if name == topic}
        owned = owned or dict.fromkeys(range(partitions))
        return sorted(owned), sorted(number for number, lag in owned.items() if lag != 0)

    def _look(self, labels: tuple[str, str], partition: dict[str, Any]) -> int | None:
        """Records of a partition that the application has not taken; None where that is not known yet."""
        if partition["fetch_state"] != "active":
            return None
        end, position = int(partition["ls_offset"]), int(partition["app_offset"])
        if not partition["fetchq_cnt"]:  # all that was fetched is taken, so control records are behind us too
            position = max(position, partition["next_offset"])
        if end < 0 or position < 0:
            return None
        metrics.LAG.labels(self._role, *labels).set(max(0, end - position))
        metrics.POSITION.labels(self._role, *labels).set(position)
        return max(0, end - position)
