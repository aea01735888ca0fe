"""Counts of the hot path: plain integers, handed to Prometheus once a second."""

from __future__ import annotations

from collections import Counter

import prometheus_client

from fluxforge import metrics

Name = tuple[prometheus_client.Counter, tuple[str, ...]]


class Stats:
    """Adds up by metric and labels; an increment costs a dict update, not a lock."""

    def __init__(self) -> None:
        self.totals: Counter[Name] = Counter()
        self._published: Counter[Name] = Counter()

    def add(self, metric: prometheus_client.Counter, *labels: str, n: int = 1) -> None:
        """Count `n` of `metric`."""
        self.totals[metric, labels] += n

    def of(self, metric: prometheus_client.Counter) -> int:
        """The total of a metric over all its labels."""
        return sum(n for (each, _), n in self.totals.items() if each is metric)

    def by(self, metric: prometheus_client.Counter, label: int) -> dict[str, int]:
        """The totals of a metric by its `label`-th label."""
        found: Counter[str] = Counter()
        for (each, labels), n in self.totals.items():
            if each is metric:
                found[labels[label]] += n
        return dict(found)

    def publish(self) -> None:
        """Bring Prometheus up to date."""
        for name, total in self.totals.items():
            if new := total - self._published[name]:
                metric, labels = name
                metric.labels(*labels).inc(new)
                self._published[name] = total

    def line(self, waiting: int) -> str:
        """All of it in one line for a person."""
        kinds = " ".join(f"{kind}={n}" for kind, n in sorted(self.by(metrics.EVENTS, 2).items()))
        troubles = {
            "bad_frames": metrics.BAD_FRAMES,
            "gaps": metrics.GAPS,
            "resyncs": metrics.RESYNCS,
            "duplicates": metrics.DUPLICATES,
            "backfilled": metrics.BACKFILLED,
            "shed": metrics.SHED,
            "disconnects": metrics.DISCONNECTS,
        }
        counted = " ".join(f"{name}={self.of(metric)}" for name, metric in troubles.items())
        return f"frames={self.of(metrics.FRAMES)} {kinds} {counted} queue={waiting}"
