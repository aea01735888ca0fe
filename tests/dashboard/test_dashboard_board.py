"""The board keeps the last row of each second, and only so many."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fluxforge.clock import NS
from fluxforge_cli.dashboard.board import BARS, Board, Market, bar_of
from made_market import bar_row, feature_row

KEPT = 5
T = 1_700_000_000 * NS


def row(time: int, **values: float | None) -> dict[str, object]:
    return {"exchange": "x", "symbol": "A/B", "source": "x", "timestamp": time, "capture_ts": time + 7, **values}


@given(st.lists(st.integers(0, 20 * 4), min_size=1, max_size=60))
def test_the_last_row_of_each_second_is_kept(quarters: list[int]) -> None:
    market = Market(KEPT)
    expected: dict[int, tuple[int, float]] = {}
    newest = 0
    for number, quarter in enumerate(quarters):
        time = T + quarter * NS // 4
        market.add_row(row(time, value=float(number)))
        if time >= newest:  # an older one is left out
            newest = time
            expected[time // NS] = (time, float(number))
    found = market.rows()
    kept = [expected[second] for second in sorted(expected)][-KEPT:]
    assert found.times.tolist() == [time for time, _ in kept]
    assert found.values[:, 0].tolist() == [value for _, value in kept]
    assert market.time == newest


def test_rows_after_a_time_are_asked_for() -> None:
    market = Market(KEPT)
    for second in range(4):
        market.add_row(row(T + second * NS, value=1.0))
    assert market.rows(after=T + NS).times.tolist() == [T + 2 * NS, T + 3 * NS]


def test_null_is_not_a_number_and_other_columns_may_come() -> None:
    market = Market(KEPT)
    market.add_row(row(T, a=1.0, b=None))
    market.add_row(row(T + NS, b=2.0, c=3.0))
    assert market.columns == ("a", "b", "c")
    np.testing.assert_array_equal(market.rows().values, [[1.0, math.nan, math.nan], [math.nan, 2.0, 3.0]])


def test_texts_and_lists_of_a_row_are_no_columns() -> None:
    market = Market(KEPT)
    market.add_row(feature_row("BTC/USDT", T) | {"bids": [{"price": 1.0, "size": 1.0}], "asks": []})
    assert not {"sampling", "bids", "asks", "exchange", "timestamp"} & set(market.columns)
    assert {"mid_price", "bid_price_L9", "quality", "vpin"} <= set(market.columns)


def test_bars_are_bounded_and_one_that_comes_again_changes_nothing() -> None:
    market = Market(KEPT)
    for at in [*range(BARS + 10), BARS + 9, 3]:
        duration, bar = bar_of(bar_row("BTC/USDT", at, 1)) or (0, None)
        assert bar is not None
        market.add_bar(duration, bar)
    assert market.first_bar(1) == 10
    assert market.first_bar(60) is None
    assert [bar.time for bar in market.candles(1, 3, 1)] == [BARS + 7, BARS + 8, BARS + 9]


def test_a_bar_that_trades_close_has_no_duration() -> None:
    assert bar_of(bar_row("BTC/USDT", 60, 0, bar_type="tick")) is None


def test_markets_come_in_the_order_of_their_names() -> None:
    board = Board(KEPT)
    for name in ("b|X", "a|Z", "a|Y"):
        board.market(name)
    assert [name for name, _ in board] == ["a|Y", "a|Z", "b|X"]
    assert board.market("a|Y") is board.markets["a|Y"]
    board.clear()
    assert not board.markets
