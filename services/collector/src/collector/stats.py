"""Counts of the hot path: plain integers, handed to Prometheus once a second."""

from __future__ import annotations

from collections import Counter

import prometheus_client

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
