"""Counts of the hot path: plain integers, handed to Prometheus once a second."""

from __future__ import annotations

from collections import Counter

import prometheus_client

from fluxforge import metrics

Name = tuple[prometheus_client.Counter, tuple[str, ...]]


class Tally:
    """One metric with its labels: `n` so far."""

    __slots__ = ("n", "published")

    def __init__(self) -> None:
        self.n = self.published = 0


class Stats:
    """Adds up by metric and labels; an increment costs no lock, and where the tally is kept no look-up either."""

    def __init__(self) -> None:
        self._tallies: dict[Name, Tally] = {}

    def tally(self, metric: prometheus_client.Counter, *labels: str) -> Tally:
        """What counts `metric`: add to its `n`."""
        tally = self._tallies.get((metric, labels))
        if tally is None:
            tally = self._tallies[metric, labels] = Tally()
        return tally

    def add(self, metric: prometheus_client.Counter, *labels: str, n: int = 1) -> None:
        """Count `n` of `metric`."""
        self.tally(metric, *labels).n += n

    def of(self, metric: prometheus_client.Counter) -> int:
        """The total of a metric over all its labels."""
        return sum(tally.n for (each, _), tally in self._tallies.items() if each is metric)

    def by(self, metric: prometheus_client.Counter, label: int) -> dict[str, int]:
        """The totals of a metric by its `label`-th label."""
        found: Counter[str] = Counter()
        for (each, labels), tally in self._tallies.items():
            if each is metric and tally.n:
                found[labels[label]] += tally.n
        return dict(found)

    def publish(self) -> None:
        """Bring Prometheus up to date."""
        for (metric, labels), tally in self._tallies.items():
            if new := tally.n - tally.published:
                metric.labels(*labels).inc(new)
                tally.published = tally.n

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
