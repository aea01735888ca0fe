"""One moment of the pipeline as plain values: what every display shows."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from math import ceil

from fluxforge_cli.pipeline.watch import Market


@dataclass(frozen=True)
class ServiceLine:
    """One process. `rate` in records/s, `lag` in records; None where it does not apply or is not known.

    A collector's rate is events/s into the log, its lag the events in its queue.
    """

    name: str
    state: str
    rate: float | None = None
    lag: int | None = None
    restarts: int = 0


@dataclass(frozen=True)
class Picture:
    """`elapsed` and `seconds` in s; `latency` p50 and p99 in ms."""

    title: str
    phase: str
    elapsed: float
    seconds: float | None
    services: Sequence[ServiceLine]
    markets: Sequence[tuple[Market, float]]
    events: int = 0
    bronze_rows: int = 0
    segments: int = 0
    feature_rows: int = 0
    bars: int = 0
    lake_rows: int = 0
    gaps: int = 0
    late: int = 0
    dead: int = 0
    queue: int | None = None
    capacity: int | None = None
    latency: tuple[float, float] | None = None
    ofi_name: str = "ofi_sum_1s"
    news: Sequence[str] = field(default=())


def percentiles(values: Collection[float]) -> tuple[float, float] | None:
    """(p50, p99) by nearest rank; None of nothing."""
    if not values:
        return None
    ranked = sorted(values)
    return ranked[ceil(0.50 * len(ranked)) - 1], ranked[ceil(0.99 * len(ranked)) - 1]
