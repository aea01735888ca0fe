"""Information-driven bars: examples by hand, laws, and the naive reference."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from itertools import islice, pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest

from fluxforge import rows
from fluxforge.batch import build
from fluxforge.events import AnyEvent, BookSnapshot, Reset, Trade
from fluxforge.kernels import layout
from fluxforge.kernels.bars import BarKernel
from fluxforge.kernels.config import DEFAULT, INFORMATION, BarConfig
from fluxforge_cli.importer.binance_capture import read as read_capture
from reference.naive_information_bars import information_rows

S = 1_000_000_000
DAY = 86_400 * S
T0 = 1_723_161_600 * S - DAY  # a midnight
NAMES = {"exchange": "x", "native": "AB", "source": "s", "collector": "c", "connection": "1"}


def book(seconds: float, mid: float, half: float = 1.0, symbol: str = "A/B", size: float = 1.0) -> BookSnapshot:
    time = T0 + round(seconds * S)
    sides = {"bids": struct.pack("<2d", mid - half, size), "asks": struct.pack("<2d", mid + half, 2.0)}
    return BookSnapshot(**NAMES, symbol=symbol, ts=time, capture_ts=time, **sides)


def trade(seconds: float, price: float, size: float, side: int, symbol: str = "A/B", late: float = 0.0) -> Trade:
    time = T0 + round(seconds * S)
    stamp = time - round(late * S)
    return Trade(**NAMES, symbol=symbol, ts=stamp, capture_ts=time, id="", price=price, size=size, side=side)


def reset(seconds: float, incomplete: bool, symbol: str = "A/B") -> Reset:
    time = T0 + round(seconds * S)
    return Reset(**NAMES, symbol=symbol, ts=time, capture_ts=time, reason="gap", incomplete=incomplete)


def config(**thresholds: float) -> BarConfig:
    return BarConfig(durations=(60,), information=tuple((kind, DEFAULT, t) for kind, t in thresholds.items()))


def run(events: Sequence[AnyEvent], how: BarConfig, cuts: Sequence[int] = ()) -> list[dict[str, Any]]:
    """Rows as they are published, NaN as None; the events handed over in pieces cut at `cuts`."""
    kernel, found = BarKernel(how), []
    for start, end in pairwise([0, *cuts, len(events)]):
        piece = events[start:end]
        batch = build(piece, [kernel.arena.slot(e.key) for e in piece], range(start, end))
        out = kernel.run(batch)
        of_rows = [rows.Market("x", piece[i].symbol, "s") for i in out.bars["event"].tolist()]
        found += rows.to_rows(rows.bar_columns(out, batch, 0), of_rows)
    return [{name: None if value != value else value for name, value in row.items()} for row in found]


def bars(events: Sequence[AnyEvent], **thresholds: float) -> list[dict[str, Any]]:
    """Only the information-driven ones."""
    return [row for row in run(events, config(**thresholds)) if row["bar_type"] != "time"]


FLOW = [trade(1, 10, 1.0, 1), trade(2, 11, 2.0, -1), trade(3, 12, 0.5, 1), trade(4, 12, 4.0, 1), trade(5, 10, 1.0, -1)]


class TestByHand:
    def test_the_trade_that_reaches_the_threshold_is_in_the_bar(self) -> None:
        first, second = bars(FLOW, tick=2)
        assert (first["trade_count"], first["volume"], first["timestamp"], first["end"]) == (2, 3.0, T0 + S, T0 + 2 * S)
        assert (second["trade_open"], second["trade_close"], second["source_offset"]) == (12, 12, 3)
        assert {(row["bar_type"], row["duration"]) for row in (first, second)} == {("tick", 0)}

    def test_volume_and_dollar(self) -> None:
        assert [row["volume"] for row in bars(FLOW, volume=3)] == [3.0, 4.5]
        assert [row["notional"] for row in bars(FLOW, dollar=30)] == [32.0, 54.0]

    def test_tick_imbalance_either_way_and_by_the_tick_rule(self) -> None:
        assert [row["trade_count"] for row in bars(FLOW, tick_imbalance=2)] == [4]
        sold = [trade(i, 10, 1, -1) for i in range(4)]
        assert [row["trade_count"] for row in bars(sold, tick_imbalance=2)] == [2, 2]
        unknown = [trade(i, price, 1, 0) for i, price in enumerate((10, 11, 11, 12))]  # 0, +, + as before, +
        assert [row["trade_count"] for row in bars(unknown, tick_imbalance=2)] == [3]
        assert [row["trade_count"] for row in bars(unknown, tick_imbalance=3)] == [4]

    def test_decimal_sizes_that_add_up_to_the_threshold_reach_it(self) -> None:
        assert sum([0.1] * 10) < 1
        assert len(bars([trade(i, 10, 0.1, 1) for i in range(20)], volume=1)) == 2

    def test_books_between_the_trades_are_in_the_bar(self) -> None:
        events = [book(0, 10), FLOW[0], book(1.5, 12), FLOW[1], book(2.5, 9), FLOW[2], FLOW[3]]
        first, second = bars(events, tick=2)
        assert (first["count"], first["open"], first["close"], first["timestamp"]) == (2, 10, 12, T0)
        assert first["realized_variance"] == pytest.approx(math.log(1.2) ** 2)
        assert (second["count"], second["open"], second["timestamp"]) == (1, 9, T0 + round(2.5 * S))

    def test_midnight_drops_what_is_open(self) -> None:
        events = [trade(86_399, 10, 1, 1), book(86_400, 10), trade(86_401, 10, 1, 0), trade(86_402, 10, 1, 1)]
        (bar,) = bars(events, tick=2)
        assert (bar["timestamp"], bar["trade_count"]) == (T0 + DAY, 2)
        # Nor does the tick rule look back over it.
        assert bars(events, tick_imbalance=2) == []

    def test_a_late_trade_counts_where_it_stands_in_the_log(self) -> None:
        (bar,) = bars([trade(100, 10, 1, 1), trade(101, 11, 1, 1, late=90)], tick=2)
        assert (bar["trade_close"], bar["timestamp"], bar["end"]) == (11, T0 + 100 * S, T0 + 100 * S)

    def test_lost_trades_mark_the_bar_they_would_be_in(self) -> None:
        events = [*FLOW[:2], reset(2.2, True), reset(2.3, False), *FLOW[2:], trade(6, 10, 1, 1)]
        assert [row["incomplete"] for row in bars(events, tick=2)] == [False, True, False]
        assert next(row["incomplete"] for row in bars([*events[:2], reset(2.2, False), *events[2:4]], tick=1)) is False

    def test_thresholds_are_the_markets_own(self) -> None:
        how = BarConfig(
            durations=(60,),
            information=(("tick", DEFAULT, 2.0), ("tick", "C/D", 1.0), ("tick", "x|E/F", 4.0), ("volume", "A/B", 3.0)),
        )
        events = [trade(i, 10, 1, 1, symbol) for i in range(4) for symbol in ("A/B", "C/D", "E/F")]
        counted = [(row["symbol"], row["bar_type"], row["trade_count"]) for row in run(events, how)]
        assert sorted(counted) == [
            *[("A/B", "tick", 2)] * 2, ("A/B", "volume", 3), *[("C/D", "tick", 1)] * 4, ("E/F", "tick", 4),
        ]  # fmt: skip


def market(seed: int, count: int, start: float = 0.0) -> list[AnyEvent]:
    """Two markets over a midnight."""
    rng = Random(seed)
    now, mid, events = start, 100.0, []
    for _ in range(count):
        now += rng.choice([0.0, 0.1, 0.5, 2.0, 9.0])
        symbol = rng.choice(["A/B", "A/B", "C/D"])
        mid += rng.choice([-0.5, 0, 0, 0.5])
        kind = rng.random()
        if kind < 0.6:
            late = rng.choice([0, 0, 0, 4.0])
            events.append(trade(now, mid, rng.randint(1, 40) / 10, rng.choice([-1, 0, 1]), symbol, late))
        elif kind < 0.95:
            events.append(book(now, mid, rng.choice([0.25, 1.0, -1.0]), symbol, rng.uniform(1, 9)))
        else:
            events.append(reset(now, rng.random() < 0.5, symbol))
    return events


THRESHOLDS = {"tick": 3, "volume": 4.7, "dollar": 900.0, "tick_imbalance": 2}


def compare(events: Sequence[AnyEvent], thresholds: dict[str, float]) -> int:
    ours = bars(events, **thresholds)
    for kind, threshold in thresholds.items():
        for key, theirs in information_rows(events, kind, threshold).items():
            mine = [row for row in ours if row["bar_type"] == kind and row["symbol"] == key.partition("|")[2]]
            assert [row["source_offset"] for row in mine] == [row["source_offset"] for row in theirs], (kind, key)
            for one, other in zip(mine, theirs, strict=True):
                for name, value in other.items():
                    where = f"{kind} {name} at {other['source_offset']}"
                    if isinstance(value, float):
                        near = math.isclose(one[name], value, rel_tol=1e-9, abs_tol=1e-9)
                        assert near, f"{where}: kernel {one[name]!r}, reference {value!r}"
                    else:
                        assert one[name] == value, where
    return len(ours)


@pytest.mark.parametrize("seed", range(6))
def test_a_random_market_against_the_reference(seed: int) -> None:
    assert compare(market(seed, 250, start=86_400 - 200), THRESHOLDS) > 100


@pytest.mark.recordings
def test_a_recorded_market(recordings: Path) -> None:
    ((_, lines),) = read_capture([recordings / "binance_spot" / "ethusdt_20240808.gz"])
    events = [event for line in islice(lines, 6_000) for event in line.events]
    assert compare(events, {"tick": 20, "volume": 5.0, "dollar": 20_000.0, "tick_imbalance": 10}) > 20


def test_time_bars_are_the_same_bits_beside_them() -> None:
    events = market(3, 300)
    plain = run(events, BarConfig(durations=(1, 60)))
    beside = run(events, BarConfig(durations=(1, 60), information=config(**THRESHOLDS).information))
    assert len(plain) > 100
    assert [row for row in beside if row["bar_type"] == "time"] == plain


def test_batches_may_be_cut_anywhere_and_records_restored() -> None:
    events, how = market(4, 300), config(**THRESHOLDS)
    whole = run(events, how)
    assert run(events, how, sorted(Random(1).sample(range(1, 300), 20))) == whole
    events = [event for event in events if event.symbol == "A/B"]
    for stop in (3, 50, 111):
        first, second = BarKernel(how), BarKernel(how)
        slot = first.arena.slot("x|A/B")
        first.run(build(events[:stop], [slot] * stop, range(stop)))
        begin = max(0, int(first.arena.record(slot)[layout.BOOK_OFFSET]))
        assert second.arena.restore("x|A/B", first.arena.save(slot), stop) == slot
        outs = []
        for kernel, at in ((first, stop), (second, begin)):
            out = kernel.run(build(events[at:], [slot] * (len(events) - at), range(at, len(events))))
            outs.append([bar.tolist()[1:] for bar in out.bars])
        assert repr(outs[0]) == repr(outs[1])
        assert {kind for _, kind, *_ in outs[0]} == set(range(1 + len(INFORMATION)))


def test_many_bars_at_once_do_not_overflow() -> None:
    """Each trade closes four bars: more than the output has room for at first."""
    events = [trade(i / 1000, 10, 1, 1) for i in range(2000)]
    assert len(bars(events, tick=1, volume=1, dollar=1, tick_imbalance=1)) == 8000
