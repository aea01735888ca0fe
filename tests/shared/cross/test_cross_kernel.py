"""The cross-market kernel: its laws, and an outside reference."""

from __future__ import annotations

from random import Random
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cross_market import PARTITIONS, START, Row, interleaved, row_of, streams
from fluxforge.clock import NS
from fluxforge.cross.config import CrossConfig, base_asset
from fluxforge.cross.history import History, Kept
from fluxforge.cross.kernel import CrossKernel, Reading
from fluxforge.cross.table import table
from reference.naive_cross import cross_rows

CONFIG = CrossConfig()
OWNED = range(PARTITIONS)
PATIENT = CrossConfig(backlog=1e6)


def whole(parts: list[list[Row]]) -> pa.Table:
    return pa.Table.from_pylist([row for rows in parts for row in rows])


def touch(exchange: str, symbol: str, partition: int, seconds: float, bid: float, ask: float, **more: Any) -> Row:
    at = START + round(seconds * NS)
    row = row_of(exchange, symbol, partition, at, 1.0, Random(0))
    row |= {"capture_ts": at, "best_bid": bid, "best_ask": ask, "bid_size_L0": 1.0, "ask_size_L0": 1.0}
    return row | more


class TestAgainstTheReference:
    @pytest.mark.parametrize("seed", range(6))
    @pytest.mark.parametrize("config", [CONFIG, CrossConfig(interval=0.5, horizons=(1, 5), stale=3.0)])
    def test_every_number_of_every_closed_step(self, seed: int, config: CrossConfig) -> None:
        features = whole(streams(seed, 120))
        history = History(config, PARTITIONS)
        found = pl.DataFrame(list(history.rows(features)), infer_schema_length=None).sort("timestamp", "symbol")
        expected = cross_rows(pl.DataFrame(features), config, found["timestamp"].max())
        assert found.height > 200
        names = [name for name in table(config).schema.names if name not in ("exchange", "source")]
        for name in ("symbol", *names):
            ours, theirs = found[name], expected[name]
            if ours.dtype == pl.Float64:
                assert ours.is_null().to_list() == theirs.is_null().to_list(), name
                assert ours.drop_nulls().to_list() == pytest.approx(
                    theirs.drop_nulls().to_list(), rel=1e-9, abs=1e-12
                ), name
            else:
                assert ours.to_list() == theirs.to_list(), name


class TestTheOrderOfReading:
    @settings(max_examples=20)
    @given(seed=st.integers(0, 50), order=st.integers(0, 2**32))
    def test_no_order_that_partitions_allow_makes_a_difference(self, seed: int, order: int) -> None:
        parts = streams(seed, 90)
        expected = list(History(PATIENT, PARTITIONS).rows(whole(parts)))
        kernel, found = CrossKernel(PATIENT, PARTITIONS, Kept()), []
        for row, unread in interleaved(parts, Random(order)):
            taken = kernel.take(row, Reading(OWNED, unread))
            assert not taken.late
            found += taken.rows
        assert found == expected
        assert len(found) > 100

    @settings(max_examples=20)
    @given(order=st.integers(0, 2**32))
    def test_nor_what_its_reader_does_not_know_as_long_as_none_is_ahead_by_more_than_patience(self, order: int) -> None:
        parts, rng = streams(1, 120, silence=0.0), Random(order)
        expected = list(History(CONFIG, PARTITIONS).rows(whole(parts)))
        everything = sorted(
            (max(r["timestamp"] for r in rows[: i + 1]), p, i) for p, rows in enumerate(parts) for i in range(len(rows))
        )
        delay = [rng.uniform(0, (CONFIG.patience - 5) * NS) for _ in OWNED]
        kernel, found = CrossKernel(CONFIG, PARTITIONS, Kept()), []
        for _, p, i in sorted((at + delay[p], p, i) for at, p, i in everything):
            found += kernel.take(parts[p][i]).rows
        assert found == expected

    @settings(max_examples=20)
    @given(cut=st.integers(0, 900))
    def test_a_run_that_ends_and_goes_on_from_what_it_kept_is_one_run(self, cut: int) -> None:
        parts = streams(3, 90)
        rows = [row for row, _ in interleaved(parts, Random(4))]
        first, kept = [], Kept()
        for row in rows[:cut]:
            first += CrossKernel(CONFIG, PARTITIONS, kept).take(row).rows
        again = Kept(kept)
        for row in rows[cut:]:
            first += CrossKernel(CONFIG, PARTITIONS, again).take(row).rows
        kernel = CrossKernel(CONFIG, PARTITIONS, Kept())
        assert first == [made for row in rows for made in kernel.take(row).rows]


class TestSilence:
    def test_a_silent_partition_holds_steps_open_for_its_patience_and_no_longer(self) -> None:
        kernel = CrossKernel(CrossConfig(patience=10.0), 2, Kept())
        kernel.take(touch("a", "X/USD", 1, 0.5, 1, 2))
        closed = {}
        for second in range(20):
            for row in kernel.take(touch("b", "X/USD", 0, second + 0.25, 1, 2)).rows:
                closed[(row["timestamp"] - START) // NS] = second
        assert closed[1] == 11  # 11.25 s is more than 10 s after 0.5 s
        assert closed[12] == 12

    def test_a_partition_never_heard_is_waited_for_as_long_from_the_first_row_on(self) -> None:
        kernel = CrossKernel(CrossConfig(patience=10.0), 2, Kept())
        first = next(s for s in range(99) if kernel.take(touch("b", "X/USD", 0, s, 1, 2)).rows)
        assert first == 11

    def test_one_with_unread_rows_is_waited_for_longer(self) -> None:
        kernel = CrossKernel(CrossConfig(patience=10.0, backlog=30.0), 2, Kept())
        kernel.take(touch("a", "X/USD", 1, 0, 1, 2), Reading((0, 1), (0, 1)))
        first = next(s for s in range(99) if kernel.take(touch("b", "X/USD", 0, s, 1, 2), Reading((0,), ())).rows)
        assert first == 31

    def test_what_comes_too_late_counts_from_then_on_and_changes_no_closed_step(self) -> None:
        kernel = CrossKernel(CrossConfig(patience=10.0), 2, Kept())
        kernel.take(touch("a", "X/USD", 1, 0.5, 1, 2))
        before = [row for s in range(20) for row in kernel.take(touch("b", "X/USD", 0, s, 1, 2)).rows]
        assert before[-1]["timestamp"] == START + 19 * NS
        taken = kernel.take(touch("a", "X/USD", 1, 12.0, 1.5, 1.6))
        assert taken.late and not taken.rows
        kernel.take(touch("a", "X/USD", 1, 20.0, 1.5, 1.6))
        (row,) = kernel.take(touch("b", "X/USD", 0, 20.0, 1, 2)).rows
        assert (row["timestamp"], row["venues"], row["best_bid"]) == (START + 20 * NS, 2, 1.5)

    def test_a_market_that_has_gone_leaves_the_consolidated_book(self) -> None:
        kernel = CrossKernel(CrossConfig(stale=3.0), 1, Kept())
        kernel.take(touch("a", "X/USD", 0, 0.5, 1.5, 2))
        rows = [row for s in range(1, 7) for row in kernel.take(touch("b", "X/USD", 0, s, 1, 2)).rows]
        assert [row["venues"] for row in rows] == [1, 2, 2, 1, 1, 1]
        assert [row["bid_venue"][0] for row in rows] == ["a", "a", "a", "b", "b", "b"]


class TestValues:
    def test_by_hand(self) -> None:
        kernel = CrossKernel(CONFIG, 1, Kept())
        flows = {"ofi_sum_1s": 1.0, "ofi_sum_5s": 2.0, "ofi_sum_30s": 3.0}
        kernel.take(touch("a", "BTC/USDT", 0, 0.1, 99.0, 101.0, **flows))
        kernel.take(touch("b", "BTC/USD", 0, 0.2, 100.0, 102.0, **flows))
        kernel.take(touch("a", "BTC/USDT", 0, 1.1, 101.0, 103.0, ask_size_L0=3.0, **flows))
        (row,) = kernel.take(touch("b", "BTC/USD", 0, 2.0, 100.0, 102.0, **flows)).rows
        assert row == {
            "exchange": "all",
            "symbol": "BTC/USD",
            "source": "cross",
            "timestamp": START + 2 * NS,
            "capture_ts": START + 2 * NS,
            "venues": 2,
            "best_bid": 101.0,
            "bid_size": 1.0,
            "bid_venue": "a|BTC/USDT",
            "best_ask": 102.0,
            "ask_size": 1.0,
            "ask_venue": "b|BTC/USD",
            "mid_price": 101.5,
            "spread_bps": 1 / 101.5 * 1e4,
            "gap_bps": 1 / 101.5 * 1e4,
            "last_venue": "a|BTC/USDT",
            "last_moved": START + 1_100_000_000,
            "ofi_1s": 1.0,  # b has said nothing for more than a second
            "ofi_5s": 4.0,
            "ofi_30s": 6.0,
            "relative_ofi_1s": 1 / 6,
            "relative_ofi_5s": 4 / 6,
            "relative_ofi_30s": 1.0,
            "btc_return_1s": pytest.approx(0.5 * 0.01980262729617973),  # ln(102 / 100) of a, 0 of b
            "btc_return_5s": None,
            "btc_return_30s": None,
            "eth_return_1s": None,
            "eth_return_5s": None,
            "eth_return_30s": None,
        }

    def test_rows_have_the_columns_of_the_table(self) -> None:
        config = CrossConfig(horizons=(1, 5), references=("SOL",))
        rows = list(History(config, PARTITIONS).rows(whole(streams(1, 60))))
        assert list(rows[0]) == ["exchange", "symbol", "source", *table(config).schema.names]
        pa.Table.from_pylist([{n: row[n] for n in table(config).schema.names} for row in rows], table(config).schema)

    def test_a_row_that_lacks_a_column_changes_nothing(self) -> None:
        kept = Kept()
        kernel = CrossKernel(CONFIG, 1, kept)
        kernel.take(touch("a", "X/USD", 0, 0.5, 1, 2))
        before = dict(kept)
        for wrong in ({"best_bid": None}, {"source_partition": 7}):
            with pytest.raises((TypeError, LookupError)):
                kernel.take(touch("a", "X/USD", 0, 1.5, 1, 2) | wrong)
        assert kept == before

    def test_what_it_remembers_does_not_grow(self) -> None:
        kept = Kept()
        history = History(CONFIG, PARTITIONS, kept)
        sizes = []
        for start in range(0, 600, 60):
            parts = streams(start, 60, silence=0.0)
            for rows in parts:
                for row in rows:
                    row["timestamp"] += start * NS
            list(history.rows(whole(parts)))
            sizes.append(sum(map(len, kept.values())))
        assert max(sizes[2:]) < 1.2 * min(sizes[2:])


@pytest.mark.parametrize(
    ("symbol", "name", "base"),
    [
        ("BTC/USDT", "BTC/USD", "BTC"),
        ("BTC/USD", "BTC/USD", "BTC"),
        ("ETH/BTC", "ETH/BTC", "ETH"),
        ("BTC/USDT:USDT", "BTC/USD:USD", "BTC"),
        ("BTC/USD:BTC", "BTC/USD:BTC", "BTC"),
        ("BTC/USDT:USDT-250926", "BTC/USD:USD-250926", "BTC"),
    ],
)
def test_markets_of_the_same_thing_have_one_name(symbol: str, name: str, base: str) -> None:
    assert CONFIG.instrument(symbol) == name
    assert base_asset(name) == base


def test_how_long_rows_are_waited_for_is_no_part_of_what_they_are() -> None:
    assert CrossConfig(patience=1.0, backlog=1.0).hash() == CONFIG.hash()
    assert CrossConfig(stale=1.0).hash() != CONFIG.hash()
