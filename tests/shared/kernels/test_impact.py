"""Flow toxicity and impact: golden values, and the naive reference on dense random markets and a recorded one."""

from __future__ import annotations

import math
import struct
from collections import Counter
from collections.abc import Sequence
from itertools import islice, pairwise
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from fluxforge import catalogue
from fluxforge.batch import build
from fluxforge.events import AnyEvent, BookDelta, BookSnapshot, Heartbeat, Reset, Trade
from fluxforge.kernels.config import FeatureConfig
from fluxforge.kernels.features import FeatureKernel
from fluxforge_cli.importer.binance_capture import read as read_capture
from reference import golden
from reference.naive_features import feature_rows
from reference.naive_impact import covariance, slope, vpin

S = 1_000_000_000
DAY = 86_400 * S
T0 = 1_723_161_600 * S - DAY  # a midnight
NAMES = {"exchange": "x", "symbol": "A/B", "native": "AB", "source": "s", "collector": "c", "connection": "1"}
COLUMNS = ("kyle_lambda", "ofi_beta", "amihud", "vpin", "roll_spread", "effective_spread")


def book(seconds: float, bid: float, ask: float, size: float = 1.0, ask_size: float = 1.0) -> BookSnapshot:
    time = T0 + round(seconds * S)
    sides = {"bids": struct.pack("<2d", bid, size), "asks": struct.pack("<2d", ask, ask_size)}
    return BookSnapshot(**NAMES, ts=time, capture_ts=time, **sides)


def trade(seconds: float, price: float, size: float, side: int) -> Trade:
    time = T0 + round(seconds * S)
    return Trade(**NAMES, ts=time, capture_ts=time, id="", price=price, size=size, side=side)


def reset(seconds: float) -> Reset:
    time = T0 + round(seconds * S)
    return Reset(**NAMES, ts=time, capture_ts=time, reason="gap")


def rows(events: Sequence[AnyEvent], config: FeatureConfig) -> list[dict[str, Any]]:
    """The kernel's rows: the six columns, NaN as None."""
    kernel = FeatureKernel(config)
    out = kernel.run(build(events, [kernel.arena.slot(e.key) for e in events], range(len(events))))
    at = [catalogue.columns(config).index(name) for name in COLUMNS]
    return [
        {name: None if math.isnan(value) else value for name, value in zip(COLUMNS, row[at].tolist(), strict=True)}
        for row in out.values
    ]


def last(events: Sequence[AnyEvent], **options: Any) -> dict[str, Any]:
    return rows(events, FeatureConfig(hf_emit_interval=0, **options))[-1]


class TestGolden:
    def test_vpin_splits_trades_across_buckets(self) -> None:
        events = [trade(i, 100, *one) for i, one in enumerate(golden.VPIN_FLOW)]
        found = last([*events, book(9, 99, 101)], vpin_buckets=6, vpin_volume=1.0)
        assert found["vpin"] == pytest.approx(golden.VPIN, rel=1e-15)
        assert vpin(golden.VPIN_FLOW, 1.0, 6) == pytest.approx(golden.VPIN, rel=1e-15)
        assert last([*events, book(9, 99, 101)], vpin_buckets=7)["vpin"] is None

    @pytest.mark.parametrize(("side", "expected"), [(1, 1.0), (-1, 1.0), (0, 0.0)])
    def test_vpin_of_one_sided_flow(self, side: int, expected: float) -> None:
        events = [trade(i, 100, 0.7, side) for i in range(10)]
        assert last([*events, book(99, 99, 101)], vpin_buckets=6)["vpin"] == expected

    def test_decimal_sizes_that_add_up_to_the_volume_fill_a_bucket(self) -> None:
        """Ten times 0.1 is less than 1 in binary."""
        assert sum([0.1] * 10) < 1
        events = [trade(i, 100, 0.1, 1 if i < 10 else -1) for i in range(20)]
        assert last([*events, book(99, 99, 101)], vpin_buckets=2)["vpin"] == pytest.approx(1.0, rel=1e-15)

    def test_so_does_one_trade_of_a_decimal_multiple(self) -> None:
        """0.3 holds 0.1 less than three times in binary."""
        assert math.fmod(0.3, 0.1) > 0.09
        for found in (
            last([trade(0, 100, 0.3, 1), book(1, 99, 101)], vpin_buckets=3, vpin_volume=0.1)["vpin"],
            vpin([(0.3, 1)], 0.1, 3),
        ):
            assert found == pytest.approx(1.0, rel=1e-12)

    def test_a_huge_trade_fills_all_buckets_at_once(self) -> None:
        events = [trade(0, 100, 0.25, -1), trade(1, 100, 1e15, 1), book(2, 99, 101)]
        assert last(events, vpin_buckets=50)["vpin"] == 1.0

    def test_the_volume_is_the_markets_own(self) -> None:
        events = [trade(0, 100, 1.0, 1), trade(1, 100, 1.0, -1), book(2, 99, 101)]
        for volumes, expected in (
            ((("x|A/B", 2.0), ("A/B", 1.0)), 0.0),
            ((("A/B", 1.0),), 1.0),
            ((("y|A/B", 1.0),), 0.0),
        ):
            found = last(events, vpin_buckets=1, vpin_volume=2.0, vpin_volumes=volumes)
            assert found["vpin"] == expected

    def test_at_midnight_vpin_is_null_before_any_trade(self) -> None:
        events = [trade(86_398, 100, 2.0, 1), book(86_399.9, 99, 101), book(86_400, 99, 101)]
        found = rows(events, FeatureConfig(hf_emit_interval=0, vpin_buckets=2))
        assert [row["vpin"] for row in found] == [1.0, None]

    def test_a_slope_on_what_never_changes_is_null(self) -> None:
        """The mean of ten times 0.1 is not 0.1 in binary: what is left must not be divided by."""
        assert sum([0.1] * 10) * (1 / 10) != 0.1
        events: list[AnyEvent] = [book(-0.5, 99, 101)]
        for i in range(10):
            events += [trade(i + 0.1, 100, 0.1, 1), book(i + 0.2, 99 + i, 101 + i, 0.1)]
        found = last([*events, book(10, 9, 11)])
        assert found["kyle_lambda"] is None
        assert found["ofi_beta"] is not None
        assert last([book(-0.5, 99, 101), book(3, 9, 11)])["ofi_beta"] is None

    def test_roll_finds_the_spread_of_a_bounce(self) -> None:
        """Trades at bid and ask by turns: the changes are ±2 by turns, their successive covariance −4."""
        events = [trade(i, 101 if i % 2 else 99, 1, 1 if i % 2 else -1) for i in range(21)]
        found = last([book(-0.5, 99, 101), *events, book(21, 99, 101)])
        assert found["roll_spread"] == pytest.approx(2 * math.sqrt(-covariance([99, 101] * 10 + [99])), rel=1e-12)
        assert found["roll_spread"] == pytest.approx(4.0, rel=0.01)
        assert found["effective_spread"] == pytest.approx(0.02, rel=1e-12)
        assert found["amihud"] == 0.0
        assert found["kyle_lambda"] == 0.0

    def test_roll_is_null_in_a_trend(self) -> None:
        prices = [100, 101, 102, 104, 106, 109, 112, 113, 114]
        events = [trade(i, p, 1, 1) for i, p in enumerate(prices)]
        assert covariance(prices) > 0
        assert last([book(-0.5, 99, 101), *events, book(10, 99, 101)])["roll_spread"] is None
        for count, known in ((3, False), (4, True)):
            few = [trade(i, 101 - i % 2, 1, 1) for i in range(count)]
            assert (last([book(-0.5, 99, 101), *few, book(10, 99, 101)])["roll_spread"] is not None) == known

    def test_kyle_finds_the_impact_that_was_put_in(self) -> None:
        """Each second's mid moves by 0.5 per unit bought; seconds without trades lie on the line as well."""
        events: list[AnyEvent] = [book(-0.5, 99.5, 100.5)]
        mid = 100.0
        for i, flow in enumerate((1.0, -2.0, 0.0, 3.0, 0.5)):
            if flow:
                events.append(trade(i + 0.1, mid, abs(flow), 1 if flow > 0 else -1))
                mid += 0.5 * flow
                events.append(book(i + 0.2, mid - 0.5, mid + 0.5))
        found = last([*events, book(6, 90, 91)])
        assert found["kyle_lambda"] == pytest.approx(0.5, rel=1e-12)
        moves = [math.log((100 + 0.5 * s) / (100 + 0.5 * r)) for r, s in ((0, 1), (1, -1), (-1, 2), (2, 2.5))]
        notional = [100 * 1, 100.5 * 2, 99.5 * 3, 101 * 0.5]
        expected = sum(abs(r) / n for r, n in zip(moves, notional, strict=True)) / 4
        assert found["amihud"] == pytest.approx(expected, rel=1e-12)

    def test_the_running_second_and_what_left_the_window_do_not_count(self) -> None:
        events = [
            book(-1, 99, 101),
            trade(0.1, 100, 5, 1),
            book(0.2, 109, 111),
            trade(1.5, 110, 1, 1),
            book(2.9, 9, 11),
        ]
        assert last(events, impact_window=2)["kyle_lambda"] == pytest.approx((10 - 0) / (5 - 1), rel=1e-12)
        assert last([*events[:-1], book(3, 9, 11)], impact_window=2)["kyle_lambda"] == 0.0
        assert last([*events[:-1], book(4, 9, 11)], impact_window=2)["kyle_lambda"] is None

    def test_nothing_is_differenced_across_a_reset(self) -> None:
        events = [book(-1, 99, 101), trade(0.1, 100, 5, 1), reset(0.3), book(0.4, 199, 201)]
        events += [trade(1.5, 200, 1, 1), book(1.6, 200, 202), book(3, 9, 11)]
        assert last(events)["kyle_lambda"] == pytest.approx(1.0, rel=1e-12)
        assert last([*events[:3], trade(0.5, 100, 1, 1), book(4, 9, 11)])["effective_spread"] == 0.0
        assert last([reset(0), trade(0.5, 100, 1, 1), book(4, 9, 11)])["effective_spread"] is None

    def test_effective_spread_weighs_by_size_and_looks_back_to_the_very_nanosecond(self) -> None:
        events = [book(0.1, 99, 101), trade(0.5, 101, 3, 1), trade(1.5, 104, 1, 1), book(10.5, 99, 101)]
        assert last(events, impact_window=11)["effective_spread"] == pytest.approx((3 * 0.02 + 0.08) / 4, rel=1e-12)
        assert last(events, impact_window=10)["effective_spread"] == pytest.approx(0.08, rel=1e-12)
        events[1] = trade(0.500000256, 101, 3, 1)
        assert last(events, impact_window=10)["effective_spread"] == pytest.approx((3 * 0.02 + 0.08) / 4, rel=1e-12)

    def test_a_slope_is_the_textbooks(self) -> None:
        rng = Random(3)
        x = [rng.gauss(0, 2) for _ in range(50)]
        y = [0.3 * one + rng.gauss(0, 1) for one in x]
        assert slope(x, y) == pytest.approx(np.polyfit(x, y, 1)[0], rel=1e-12)


def market(seed: int, seconds: float) -> list[AnyEvent]:
    """Books that follow the flow, trades in bursts, silences, resets and invalid books."""
    rng = Random(seed)
    now, mid = 0.0, 100.0
    events: list[AnyEvent] = []
    while now < seconds:
        now += rng.choice([0.0, 0.05, 0.2, 0.3, 0.7, 0.7, 2.5])
        kind = rng.random()
        if kind < 0.5:
            size, side = rng.uniform(0.1, 4), rng.choice([-1, -1, 1, 1, 1, 0])
            mid += 0.01 * size * side
            price = mid + rng.uniform(0, 0.05) * side
            events.append(trade(now - rng.choice([0, 0, 0, 1.1]), price, size, side))
        elif kind < 0.95:
            mid += rng.gauss(0, 0.01)
            half = rng.choice([0.01, 0.02])
            events.append(book(now, mid - half, mid + half, rng.uniform(1, 9), rng.uniform(1, 9)))
        elif kind < 0.97:
            events.append(rng.choice([reset(now), book(now, mid, mid - 1)]))
        else:
            now += rng.choice([0.5, 5, 20])
            time = T0 + round(now * S)
            events.append(Heartbeat(**NAMES, ts=time - S, capture_ts=time))
    return events


def close(name: str, mine: float | None, theirs: float | None) -> None:
    assert (mine is None) == (theirs is None), f"{name}: kernel {mine}, reference {theirs}"
    if mine is not None and theirs is not None:
        # Of a zero (a slope, a covariance) nothing but the rounding of prices is left.
        floor = {"kyle_lambda": 1e-13, "ofi_beta": 1e-13, "roll_spread": 1e-9}.get(name, 0.0)
        assert math.isclose(mine, theirs, rel_tol=1e-9, abs_tol=floor), f"{name}: kernel {mine!r}, reference {theirs!r}"


def compare(events: Sequence[AnyEvent], config: FeatureConfig) -> Counter[str]:
    """How often each column had a value."""
    ours, theirs = rows(events, config), feature_rows(events, config)
    assert len(ours) == len(theirs) > 0
    for mine, other in zip(ours, theirs, strict=True):
        for name in COLUMNS:
            close(name, mine[name], other[name])
    return Counter(name for row in ours for name in COLUMNS if row[name] is not None)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("window", "buckets", "volume"), [(1, 1, 0.5), (5, 3, 2.7), (30, 10, 7.9), (300, 4, 1.0)])
def test_a_dense_market_against_the_reference(seed: int, window: int, buckets: int, volume: float) -> None:
    config = FeatureConfig(
        hf_emit_interval=0, horizons=(1,), impact_window=window, vpin_buckets=buckets, vpin_volume=volume
    )
    found = compare(market(seed, 240), config)
    assert set(found) >= set(COLUMNS) - ({"kyle_lambda", "ofi_beta", "roll_spread"} if window == 1 else set())


def test_a_midnight_empties_the_buckets() -> None:
    events = market(8, 200)
    shift = round(DAY - 100 * S) - (events[0].capture_ts - T0)
    moved = [type(e)(**{n: getattr(e, n) for n in e.__struct_fields__} | stamps(e, shift)) for e in events]
    config = FeatureConfig(hf_emit_interval=0, vpin_buckets=3, vpin_volume=9.0)
    compare(moved, config)
    full = [row["vpin"] is not None for row in rows(moved, config)]
    changes = sum(a != b for a, b in pairwise(full))
    assert full[-1] and changes == 3, "null, full, null again at 00:00 UTC, full"


def stamps(event: AnyEvent, by: int) -> dict[str, int]:
    assert event.ts is not None
    return {"ts": event.ts + by, "capture_ts": event.capture_ts + by}


@pytest.mark.recordings
def test_the_recorded_market(recordings: Path) -> None:
    """Minutes of ETH/USDT as Binance sent them, window 60 s."""
    ((_, lines),) = read_capture([recordings / "binance_spot" / "ethusdt_20240808.gz"])
    events = [event for line in islice(lines, 12_000) for event in line.events]
    events = [event for event in events if isinstance(event, BookSnapshot | BookDelta | Trade | Reset)]
    found = compare(events, FeatureConfig(impact_window=60, vpin_buckets=20, vpin_volume=5.0))
    assert min(found[name] for name in COLUMNS) > 50
