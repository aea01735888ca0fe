"""One moment of the pipeline as plain values: what every display shows."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Any, Self

from fluxforge_cli.pipeline.stored import Stored
from fluxforge_cli.pipeline.watch import Market, Watch


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

    @classmethod
    def of(cls, watch: Watch, bronze: Stored, lake: Stored, rates: Mapping[str, float], **more: Any) -> Self:
        """What was seen in the log and in the files; `rates` are the markets' events/s, `more` the other fields."""
        counts = watch.counts
        markets = sorted(watch.markets.values(), key=lambda market: market.key)
        return cls(
            markets=[(market, rates.get(market.key, 0.0)) for market in markets],
            events=counts.events,
            bronze_rows=bronze.rows,
            segments=bronze.files,
            feature_rows=counts.feature_rows,
            bars=counts.bars,
            lake_rows=lake.rows,
            gaps=counts.gaps,
            late=counts.late,
            dead=counts.dead,
            latency=percentiles(watch.latencies),
            ofi_name=watch.ofi_name,
            news=[f"{reason}: {count} reset(s)" for reason, count in counts.resets.items()],
            **more,
        )


def percentiles(values: Collection[float]) -> tuple[float, float] | None:
    """(p50, p99) by nearest rank; None of nothing."""
    if not values:
        return None
    ranked = sorted(values)
    return ranked[ceil(0.50 * len(ranked)) - 1], ranked[ceil(0.99 * len(ranked)) - 1]
