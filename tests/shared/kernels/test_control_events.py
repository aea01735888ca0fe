"""Events that are only bookkeeping leave features and bars as they are, to the last bit."""

from __future__ import annotations

import random

import numpy as np

from fluxforge.batch import build
from fluxforge.events import AnyEvent, Coverage
from fluxforge.kernels.bars import BarKernel
from fluxforge.kernels.config import BarConfig, FeatureConfig
from fluxforge.kernels.features import FeatureKernel
from seeded_market import market


def noise(like: AnyEvent) -> Coverage:
    who = {name: getattr(like, name) for name in ("exchange", "symbol", "native", "source", "collector", "connection")}
    at = like.capture_ts
    return Coverage(**who, ts=None, capture_ts=at, since=at - 1, until=at, books=3)


def test_rows_and_bars_do_not_see_a_coverage_page() -> None:
    events: list[AnyEvent] = [event for _, event in market("A/USDT", 3, 120)]
    rng = random.Random(3)
    mixed = [e for event in events for e in ([event, noise(event)] if rng.random() < 0.2 else [event])]
    assert len(mixed) > len(events) + 50
    features = [FeatureKernel(FeatureConfig(horizons=(1, 3))) for _ in range(2)]
    bars = [BarKernel(BarConfig(durations=(1, 5))) for _ in range(2)]
    rows, closed = [], []
    for kernel, builder, those in zip(features, bars, (events, mixed), strict=True):
        slots = [kernel.arena.slot("x|A/USDT")] * len(those)
        assert builder.arena.slot("x|A/USDT") == slots[0]
        batch = build(those, slots, list(range(len(those))))
        rows.append(kernel.run(batch).values)
        made = builder.run(batch).bars
        closed.append([made[name].tobytes() for name in made.dtype.names or () if name != "event"])
    assert len(rows[0])
    assert np.array_equal(rows[0], rows[1], equal_nan=True)
    assert closed[0] == closed[1]
