"""The kernels against the independent naive reference: every column, on small histories of every kind of trouble.

Tolerance: 1e-9 relative, and for sums that cancel 1e-13 of all magnitudes that went in. Nulls must be equal.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from itertools import islice, pairwise
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fluxforge import catalogue, rows
from fluxforge.batch import build
from fluxforge.events import AnyEvent, BookDelta, BookSnapshot, ClockSource, Heartbeat, Reset, Ticker, Trade
from fluxforge.kernels.bars import BarKernel
from fluxforge.kernels.config import BarConfig, FeatureConfig
from fluxforge.kernels.features import FeatureKernel
from fluxforge_cli.importer.binance_capture import read as read_capture
from reference.naive_bars import bar_rows
from reference.naive_features import feature_rows

S = 1_000_000_000
T0 = 1_723_161_254_000_000_000
MID, TICK = 1000.37, 0.0137  # prices off any round grid: no level lies on the edge of a band
SYMBOLS = ("A/B", "A/B", "C/D")
LAGS = (0, 0, 0, 0, 0, 0, S // 3, 4 * S, None)

WAITS = (0, 0, 1, S // 10, S // 2, S, S, 3 * S, 7 * S, 31 * S, 61 * S, 700 * S)
KINDS = (*["snapshot"] * 4, *["delta"] * 8, *["trade"] * 5)
KINDS += ("invalid", "heartbeat", "reset", "refresh", "restate", "ticker", "bad trade", "future")


def blob(levels: Sequence[tuple[float, float]]) -> bytes:
    flat = [x for level in levels for x in level]
    return struct.pack(f"<{len(flat)}d", *flat)


def price(ticks: int) -> float:
    return MID + TICK * ticks


def size(rng: Random) -> float:
    return rng.uniform(0.5, 50.0)


def sound_sides(rng: Random) -> dict[str, Any]:
    middle, half = rng.randint(-40, 40), rng.choice([1, 1, 2, 5, 30])
    bids, asks = (sorted(rng.sample(range(400), rng.randint(1, 14))) for _ in range(2))
    return {
        "bids": blob([(price(middle - half - k), size(rng)) for k in bids]),
        "asks": blob([(price(middle + half + k), size(rng)) for k in asks]),
    }


SIDE = [(price(0), 1.0), (price(-3), 2.0)]
INVALID = (
    ([], [(price(1), 1.0)]),
    (SIDE, []),
    (SIDE, [(price(0), 1.0)]),
    (SIDE, [(price(-5), 1.0)]),
    (SIDE[::-1], [(price(1), 1.0)]),
    (SIDE, [(price(1), 1.0), (price(1), 2.0)]),
    (SIDE, [(price(1), 0.0)]),
    (SIDE, [(price(1), -1.0)]),
    (SIDE, [(price(1), math.nan)]),
    (SIDE, [(price(1), 2.0), (math.inf, 1.0)]),
    ([(math.nan, 1.0)], [(price(1), 2.0)]),
)


def changed_side(rng: Random, sign: int) -> bytes:
    """Up to three level changes, mostly behind the touch, at times across it."""
    low, high = (-45, 45) if rng.random() < 0.1 else (20, 90)
    count = rng.randint(0, 3)
    return blob([(price(sign * rng.randint(low, high)), rng.choice([0.0, size(rng), size(rng)])) for _ in range(count)])


def event_of(kind: str, common: dict[str, Any], rng: Random, last: dict[str, dict[str, Any]]) -> AnyEvent:
    symbol = common["symbol"]
    match kind:
        case "snapshot":
            last[symbol] = sound_sides(rng)
            more = {"conflated": rng.random() < 0.5, "updates": rng.randint(1, 3)}
            return BookSnapshot(**common, **last[symbol], **more)
        case "refresh":
            bids, asks = rng.choice(INVALID)
            sides = {"bids": blob(bids), "asks": blob(asks)} if rng.random() < 0.2 else sound_sides(rng)
            return BookSnapshot(**common, **sides, refresh=True)
        case "restate":
            return BookSnapshot(**common, **last.get(symbol, {"bids": b"", "asks": b""}), refresh=True)
        case "invalid":
            bids, asks = rng.choice(INVALID)
            return BookSnapshot(**common, bids=blob(bids), asks=blob(asks))
        case "delta":
            return BookDelta(**common, bids=changed_side(rng, -1), asks=changed_side(rng, 1))
        case "trade":
            side = rng.randint(-1, 1)
            return Trade(**common, id="1", price=price(rng.randint(-9, 9)), size=size(rng), side=side)
        case "bad trade":
            return Trade(**common, id="1", side=1, **rng.choice([BAD_PRICE, BAD_SIZE]))
        case "ticker":
            return Ticker(**common)
        case "heartbeat":
            return Heartbeat(**common)
        case "future":
            late = rng.choice([5 * S, 5 * S + 1, 900 * S])
            stamped = {"ts": common["capture_ts"] + common["skew"] + late, "clock": ClockSource.EXCHANGE}
            return BookSnapshot(**(common | stamped), **sound_sides(rng))
        case _:
            return Reset(**common, reason="gap")


BAD_PRICE, BAD_SIZE = {"price": math.nan, "size": 1.0}, {"price": 1.0, "size": -1.0}


@st.composite
def histories(draw: st.DrawFn) -> list[AnyEvent]:
    """What happens and when is drawn, so that it shrinks; prices and sizes follow from a drawn seed."""
    steps = draw(
        st.lists(
            st.tuples(
                st.sampled_from(KINDS),
                st.sampled_from(SYMBOLS),
                st.sampled_from(WAITS),
                st.sampled_from(LAGS),
                st.integers(0, 2**16),
            ),
            min_size=1,
            max_size=60,
        )
    )
    clock = ClockSource.CAPTURE if draw(st.integers(0, 5)) == 5 else ClockSource.EXCHANGE
    now, last, events = T0, {}, []
    for kind, symbol, wait, lag, seed in steps:
        now += wait
        rng = Random(seed)
        if kind == "future" and clock == ClockSource.CAPTURE:
            kind = "trade"
        skew = 0 if clock == ClockSource.CAPTURE else rng.choice([0, 0, 7 * S, -2 * S])
        common = {
            "exchange": "x",
            "symbol": symbol,
            "native": symbol,
            "source": "ccxt",
            "collector": "c",
            "connection": "1",
            "ts": None if lag is None else now - lag,
            "capture_ts": now - skew,
            "skew": skew,
            "clock": clock,
        }
        events.append(event_of(kind, common, rng, last))
    return events


def magnitude(events: Sequence[AnyEvent]) -> float:
    """Σ |size| of all that could enter a sum."""
    total = 1.0
    for event in events:
        if isinstance(event, BookSnapshot | BookDelta):
            numbers = np.frombuffer(event.bids + event.asks)[1::2]
            total += float(np.abs(numbers[np.isfinite(numbers)]).sum())
        if isinstance(event, Trade) and math.isfinite(event.size):
            total += abs(event.size)
    return total


def run_features(events: Sequence[AnyEvent], config: FeatureConfig, cuts: Sequence[int] = ()) -> list[dict[str, Any]]:
    """The kernel's rows, NaN as None; the history is handed over in pieces cut at `cuts`."""
    kernel = FeatureKernel(config)
    markets: dict[int, rows.Market] = {}
    found: list[dict[str, Any]] = []
    edges = sorted({0, len(events), *(cut for cut in cuts if cut <= len(events))})
    for start, end in pairwise(edges):
        piece = events[start:end]
        slots = [kernel.arena.slot(event.key) for event in piece]
        for slot, event in zip(slots, piece, strict=True):
            markets[slot] = rows.Market(event.exchange, event.symbol, event.source)
        batch = build(piece, slots, range(start, end))
        out = kernel.run(batch)
        of_rows = [markets[int(slot)] for slot in batch.events["slot"][out.rows["event"]]]
        found += rows.to_rows(rows.hf_columns(config, out, batch, 0), of_rows)
    return [{name: None if value != value else value for name, value in row.items()} for row in found]


def run_bars(events: Sequence[AnyEvent], config: BarConfig) -> tuple[list[dict[str, Any]], list[Any]]:
    kernel = BarKernel(config)
    slots = [kernel.arena.slot(event.key) for event in events]
    batch = build(events, slots, range(len(events)))
    out = kernel.run(batch)
    names = {slot: event.symbol for slot, event in zip(slots, events, strict=True)}
    found = []
    for bar in out.bars:
        row = {name: bar[name].item() for name in bar.dtype.names if name not in ("event", "slot", "incomplete")}
        found.append({"symbol": names[int(bar["slot"])]} | {k: None if v != v else v for k, v in row.items()})
    return found, list(out.late)


def same(name: str, ours: Any, theirs: Any, scale: float, relative: float = 1e-9) -> None:
    """Equal, or both null, or close."""
    assert (ours is None) == (theirs is None), f"{name}: kernel {ours}, reference {theirs}"
    if isinstance(theirs, float):
        assert math.isclose(ours, theirs, rel_tol=relative, abs_tol=1e-13 * scale), (
            f"{name}: kernel {ours!r}, reference {theirs!r}"
        )
    else:
        assert ours == theirs, f"{name}: kernel {ours}, reference {theirs}"


def compare_features(events: Sequence[AnyEvent], config: FeatureConfig, cuts: Sequence[int] = ()) -> int:
    ours = run_features(events, config, cuts)
    theirs = feature_rows(events, config)
    key = lambda row: (row["symbol"], row["source_offset"])  # noqa: E731
    ours.sort(key=key)
    theirs.sort(key=key)
    assert [key(row) for row in ours] == [key(row) for row in theirs]
    scale = magnitude(events)
    names = ("timestamp", "capture_ts", "sampling", "updates_since_last", "quality", *catalogue.columns(config))
    for mine, other in zip(ours, theirs, strict=True):
        for name in names:
            same(f"{name} at {key(mine)}", mine[name], other[name], scale)
        assert set(other) - {"exchange", "symbol"} == set(mine) - {"exchange", "symbol", "source", "source_partition"}
    return len(ours)


SMALL = FeatureConfig(max_levels=3, ofi_levels=2, horizons=(1, 5, 60), bands_bps=(5.0, 25.0))
relaxed = settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])


@relaxed
@given(histories(), st.sampled_from([0.0, 0.25, 1.0, 60.0]), st.lists(st.integers(0, 40), max_size=4))
def test_features_of_any_history(events: list[AnyEvent], interval: float, cuts: list[int]) -> None:
    config = FeatureConfig(
        max_levels=3, ofi_levels=2, horizons=(1, 5, 60), bands_bps=(5.0, 25.0), hf_emit_interval=interval
    )
    compare_features(events, config, cuts)


@settings(relaxed, max_examples=100)
@given(histories())
def test_features_of_the_default_configuration(events: list[AnyEvent]) -> None:
    compare_features(events, FeatureConfig(hf_emit_interval=0))


@relaxed
@given(histories(), st.sampled_from([0.0, 2.0, 10.0]))
def test_bars_of_any_history(events: list[AnyEvent], grace: float) -> None:
    compare_bars(events, BarConfig(durations=(1, 5, 60, 900), grace=grace))


def compare_bars(events: Sequence[AnyEvent], config: BarConfig) -> int:
    ours, late = run_bars(events, config)
    by_key = bar_rows(events, config)
    theirs = [row for bars in by_key.values() for row in bars.rows]
    key = lambda row: (row["symbol"], row["duration"], row["timestamp"])  # noqa: E731
    ours.sort(key=key)
    theirs.sort(key=key)
    assert [key(row) for row in ours] == [key(row) for row in theirs]
    scale = magnitude(events) * MID
    for mine, other in zip(ours, theirs, strict=True):
        for name in other:
            if name != "exchange":
                same(f"{name} at {key(mine)}", mine[name], other[name], scale)
    missed = {
        (offset, sum(1 << config.durations.index(d) for d in ds)) for b in by_key.values() for offset, ds in b.late
    }
    assert {(int(event), int(bits)) for event, bits in (one.tolist() for one in late)} == missed
    return len(ours)


@pytest.mark.recordings
def test_a_recorded_market(recordings: Path) -> None:
    """The first minutes of ETH/USDT as Binance sent them: full book from diffs, trades, tickers."""
    ((_, lines),) = read_capture([recordings / "binance_spot" / "ethusdt_20240808.gz"])
    events = [event for line in islice(lines, 15_000) for event in line.events]
    assert compare_features(events, FeatureConfig()) > 100
    assert compare_bars(events, BarConfig()) > 100


@pytest.mark.parametrize("spike", [1e6, 1e12])
def test_a_spike_that_left_the_windows_leaves_no_trace(spike: float) -> None:
    """1e6 in size and price, then quiet for longer than any window: right to 1e-12 relative."""

    def quote(second: float, shift: float, size: float) -> BookSnapshot:
        ts = T0 + round(second * S)
        common = {"exchange": "x", "symbol": "A/B", "native": "", "source": "s", "collector": "c", "connection": "1"}
        sides = {"bids": blob([(MID + shift, size)]), "asks": blob([(MID + shift + TICK, 2 * size)])}
        return BookSnapshot(**common, ts=ts, capture_ts=ts, **sides)

    quiet = [quote(i / 4, TICK * math.sin(i), 1 + 0.5 * math.cos(i * i)) for i in range(4 * 700)]
    events = [quote(-1, 0, 1.0), quote(-0.5, spike, spike), quote(-0.25, 0, 1.0), *quiet]
    config = FeatureConfig(hf_emit_interval=5)
    ours, theirs = run_features(events, config)[-1], feature_rows(events, config)[-1]
    assert (ours["timestamp"] - T0) // S == 696
    for name in catalogue.columns(config):
        mine, other = ours[name], theirs[name]
        assert (mine is None) == (other is None)
        if mine is not None:
            assert math.isclose(mine, other, rel_tol=1e-12, abs_tol=1e-12 if "ofi" in name or "frac" in name else 0), (
                f"{name}: kernel {mine!r}, reference {other!r}"
            )
