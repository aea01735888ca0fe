"""The reference against rows worked out by hand."""

from __future__ import annotations

import math
import struct
from typing import Any

import pytest

from fluxforge.events import AnyEvent, BookDelta, BookSnapshot, ClockSource, Heartbeat, Reset, Trade
from fluxforge.kernels.config import BarConfig, FeatureConfig
from reference import golden
from reference.naive_bars import bar_rows
from reference.naive_features import feature_rows

S = 1_000_000_000
T0 = 1_700_000_000 * S  # a Tuesday, 22:13:20 UTC; whole seconds
EVERY = FeatureConfig(hf_emit_interval=0)
COMMON: dict[str, Any] = {
    "exchange": "x",
    "symbol": "A/B",
    "native": "AB",
    "source": "ccxt",
    "collector": "c",
    "connection": "1",
}


def blob(*levels: tuple[float, float]) -> bytes:
    flat = [x for level in levels for x in level]
    return struct.pack(f"<{len(flat)}d", *flat)


def at(seconds: float | None, skew: int = 0) -> dict[str, Any]:
    ts = None if seconds is None else T0 + round(seconds * S)
    return {**COMMON, "ts": ts, "capture_ts": ts or T0, "skew": skew}


def book(seconds: float | None, bid: float, qb: float, ask: float, qa: float, **more: Any) -> BookSnapshot:
    return BookSnapshot(**(at(seconds) | more), bids=blob((bid, qb)), asks=blob((ask, qa)))


def trade(seconds: float, price: float, size: float, side: int) -> Trade:
    return Trade(**at(seconds), id="1", price=price, size=size, side=side)


def delta(seconds: float, bids: tuple[tuple[float, float], ...], asks: tuple[tuple[float, float], ...]) -> BookDelta:
    return BookDelta(**at(seconds), bids=blob(*bids), asks=blob(*asks))


def test_golden_ofi() -> None:
    books = [book(i, *quote) for i, (quote, _) in enumerate(golden.OFI)]
    steps = [step for _, step in golden.OFI]
    rows = feature_rows(books, EVERY)
    assert [row["ofi_step"] for row in rows] == steps
    assert rows[-1]["ofi_sum_60s"] == sum(step for step in steps if step is not None) == -1
    (bars,) = bar_rows([*books, Heartbeat(**at(200))], BarConfig(durations=(20,))).values()
    assert [bar["sum_ofi"] for bar in bars.rows] == [-1]


def test_stoikov_notebook_row() -> None:
    (row,) = feature_rows([book(0, *golden.NOTEBOOK)])
    assert (row["imbalance_L0"] + 1) / 2 == pytest.approx(golden.NOTEBOOK_SHARE, abs=5e-7)
    assert row["microprice"] == pytest.approx(golden.NOTEBOOK_MICROPRICE, abs=5e-7)


def test_a_row_is_the_first_valid_book_of_each_bucket() -> None:
    events = [
        book(0.0, 100, 1, 101, 1),
        book(0.4, 100, 2, 101, 1),
        book(1.9, 100, 3, 101, 1),
        book(2.0, 100, 1, 101, 1),
    ]
    rows = feature_rows(events)
    assert [(row["timestamp"] - T0) / S for row in rows] == [0.0, 1.9, 2.0]
    assert [row["updates_since_last"] for row in rows] == [1, 2, 1]
    assert [row["source_offset"] for row in rows] == [0, 2, 3]


def test_windows_are_open_at_the_left() -> None:
    events: list[AnyEvent] = [
        book(0, 100, 1, 101, 1),
        book(1, 100, 4, 101, 1),  # step +3
        trade(1, 100, 2.0, 1),
        book(2, 100, 5, 101, 1),  # step +1; (1, 2]
        trade(2, 100, 0.5, -1),
        trade(2, 100, 0.25, 0),
        book(2, 100, 5, 101, 1),
    ]
    row = feature_rows(events, EVERY)[-1]
    assert row["ofi_sum_1s"] == 1
    assert row["ofi_sum_5s"] == 4
    assert row["ofi_decay_1s"] == 1 + 3 * 0.5
    assert row["trade_vol_1s"] == 0.75
    assert row["tfi_1s"] == -1
    assert row["tfi_5s"] == (2.0 - 0.5) / 2.5
    assert row["mid_velocity"] is None  # dt = 0


def test_nothing_is_differenced_across_a_reset_but_windows_survive() -> None:
    events: list[AnyEvent] = [
        book(0, 100, 1, 101, 1),
        book(1, 102, 1, 103, 1),
        Reset(**at(2), reason="gap"),
        delta(3, ((102, 5),), ()),  # no book to change
        book(4, 110, 1, 111, 1),
        book(5, 110, 1, 111, 1),
    ]
    rows = feature_rows(events, EVERY)
    assert len(rows) == 4
    assert rows[2]["log_return_step"] is None
    assert rows[2]["quality"] & 1
    assert not rows[3]["quality"] & 1
    assert rows[3]["rv_60s"] == pytest.approx(math.log(102.5 / 100.5))


def test_time_without_a_book_belongs_to_no_spread() -> None:
    tight = FeatureConfig(hf_emit_interval=0, tight_spread_threshold=0.005)
    events: list[AnyEvent] = [
        book(0, 100, 1, 100.1, 1),  # tight for 2 s
        book(2, 100, 1, 101, 1),  # wide for 1 s
        Reset(**at(3), reason="gap"),
        book(9, 100, 1, 100.1, 1),
    ]
    assert feature_rows(events, tight)[-1]["spread_regime_tight_frac"] == pytest.approx(2 / 3)
    assert feature_rows(events, tight)[0]["spread_regime_tight_frac"] is None


def test_regimes_against_their_own_mean() -> None:
    events = [
        book(0, 100, 8, 100.02, 8),
        book(50, 100, 1, 100.02, 1),
        book(59, 100, 8, 100.4, 8),
        book(60, 100, 1, 100.02, 1),
    ]
    row = feature_rows(events, EVERY)[-1]
    # over (0, 60]: depth 16 for 50 s, 2 for 9 s, 0 within 5 bps for 1 s; mean 13.6; over the last 30 s: 16 for 20 s
    assert row["liquidity_regime_thin_frac"] == pytest.approx(10 / 30)
    assert row["spread_regime_wide_frac"] == pytest.approx(1 / 30)


def test_bands_and_reach() -> None:
    snapshot = BookSnapshot(
        **at(0),
        bids=blob((9999.0, 1), (9994.0, 2), (9990.0, 4), (9900.0, 8)),
        asks=blob((10001.0, 1), (10006.0, 2), (10060.0, 3)),
    )
    (row,) = feature_rows([snapshot])
    assert row["bid_vol_band_0_5bps"] == 1
    assert row["bid_vol_band_5_10bps"] == 2
    assert row["bid_vol_band_10_25bps"] == 4
    assert row["total_bid_volume"] == 7
    assert row["bid_reach_bps"] == pytest.approx(100)
    assert row["ask_vol_band_5_10bps"] == 2
    assert row["book_depth"] == 3
    assert row["bid_price_L4"] is None
    assert row["imbalance_L3"] is None
    assert row["quality"] == 0


def test_truncated_band_flag() -> None:
    (row,) = feature_rows([book(0, 9999, 1, 10001, 1)])
    assert row["quality"] == 4


@pytest.mark.parametrize(
    "bad",
    [
        book(1, 101, 1, 101, 1),
        book(1, 102, 1, 101, 1),
        book(1, math.nan, 1, 101, 1),
        book(1, 100, 0, 101, 1),
        book(1, 100, math.inf, 101, 1),
        BookSnapshot(**at(1), bids=b"", asks=blob((101, 1))),
        BookSnapshot(**at(1), bids=blob((99, 1), (100, 1)), asks=blob((101, 1))),
        BookSnapshot(**at(1), bids=blob((100, 1)), asks=blob((101, 1), (101, 2))),
    ],
)
def test_an_invalid_book_gives_no_row_and_clears_the_previous(bad: BookSnapshot) -> None:
    rows = feature_rows([book(0, 100, 1, 101, 1), bad, book(2, 100, 2, 101, 1), book(3, 100, 3, 101, 1)], EVERY)
    assert [(row["timestamp"] - T0) // S for row in rows] == [0, 2, 3]
    assert [row["ofi_step"] for row in rows] == [None, None, 1]
    assert [row["quality"] & 1 for row in rows] == [0, 1, 0]


def test_an_invalid_book_moves_time_and_keeps_the_levels() -> None:
    crossing = delta(5, ((101.5, 1),), ())
    back = delta(3, ((101.5, 0),), ())
    rows = feature_rows([book(0, 100, 1, 101, 1), crossing, back], EVERY)
    assert len(rows) == 2
    assert rows[1]["timestamp"] == T0 + 5 * S
    assert rows[1]["best_bid"] == 100
    assert rows[1]["quality"] & 3 == 3


def test_a_refresh_never_counts_as_a_book() -> None:
    same, other = (book(5, 100, q, 101, 1, refresh=True) for q in (1, 9))
    assert [
        row["ofi_step"] for row in feature_rows([book(0, 100, 1, 101, 1), same, book(6, 100, 2, 101, 1)], EVERY)
    ] == [
        None,
        1,
    ]
    rows = feature_rows([book(0, 100, 1, 101, 1), other, delta(6, ((99, 1),), ())], EVERY)
    assert [row["ofi_step"] for row in rows] == [None, None]
    assert rows[1]["bid_size_L0"] == 9
    assert [row["best_bid"] for row in feature_rows([same, delta(6, ((99, 1),), ())], EVERY)] == [100]


def test_a_stamp_from_the_future_is_rejected() -> None:
    edge = book(0, 100, 1, 101, 1, capture_ts=T0 - 6 * S, skew=S)
    over = book(0, 100, 1, 101, 1, capture_ts=T0 - 6 * S - 1, skew=S)
    assert len(feature_rows([edge], EVERY)) == 1
    assert feature_rows([over], EVERY) == []


def test_events_without_a_time() -> None:
    untimed = book(None, 100, 1, 101, 1)
    assert feature_rows([untimed], EVERY) == []
    assert [row["timestamp"] for row in feature_rows([book(3, 100, 1, 101, 1), untimed], EVERY)] == [T0 + 3 * S] * 2
    stamped = book(None, 100, 1, 101, 1, clock=ClockSource.CAPTURE, capture_ts=T0 + 7)
    assert [row["timestamp"] for row in feature_rows([stamped], EVERY)] == [T0 + 7]


def test_time_of_day() -> None:
    (row,) = feature_rows([book(0, 100, 1, 101, 1)])
    assert (row["hour_of_day"], row["minute_of_hour"], row["day_of_week"], row["is_weekend"]) == (22, 13, 1, False)


def test_a_bar_by_hand() -> None:
    events: list[AnyEvent] = [
        book(0, 100, 1, 102, 3),
        trade(1, 101, 2, 1),
        book(2, 101, 1, 102, 1),
        trade(3, 103, 1, -1),
        trade(4, 102, 1, 0),
        book(20, 99, 1, 100, 1),  # the next bucket, [20, 40)
        Heartbeat(**at(21.9)),
    ]
    config = BarConfig(durations=(20,))
    (bars,) = bar_rows(events, config).values()
    assert bars.rows == []
    (bars,) = bar_rows([*events, Heartbeat(**at(22))], config).values()
    (bar,) = bars.rows
    assert (bar["timestamp"], bar["end"]) == (T0, T0 + 20 * S)
    assert (bar["open"], bar["high"], bar["low"], bar["close"]) == (101, 101.5, 101, 101.5)
    assert (bar["mean_spread"], bar["min_spread"], bar["max_spread"]) == (1.5, 1, 2)
    assert bar["mean_l1_imbalance"] == -0.25
    assert bar["realized_variance"] == pytest.approx(math.log(101.5 / 101) ** 2)
    assert (bar["count"], bar["trade_count"], bar["volume"], bar["buy_volume"], bar["sell_volume"]) == (2, 3, 4, 2, 1)
    assert (bar["notional"], bar["vwap"]) == (407, 101.75)
    assert (bar["trade_open"], bar["trade_high"], bar["trade_low"], bar["trade_close"]) == (101, 103, 101, 102)


def test_a_bar_without_a_book() -> None:
    (bars,) = bar_rows([trade(0, 100, 1, 1), Heartbeat(**at(9))], BarConfig(durations=(5,))).values()
    (bar,) = bars.rows
    assert bar["count"] == 0
    assert bar["open"] is None
    assert bar["mean_spread"] is None
    assert bar["vwap"] == 100


def test_grace_and_late_events() -> None:
    config = BarConfig(durations=(1, 5), grace=2.0)
    events: list[AnyEvent] = [
        trade(0.5, 100, 1, 1),
        trade(2.9, 100, 1, 1),
        trade(0.9, 100, 2, 1),  # in time: t = 2.9 < 1 + 2
        Heartbeat(**at(3)),
        trade(0.95, 100, 4, 1),  # late for 1 s, in time for 5 s
        Heartbeat(**at(7)),
    ]
    (bars,) = bar_rows(events, config).values()
    assert [(bar["duration"], (bar["timestamp"] - T0) // S, bar["volume"]) for bar in bars.rows] == [
        (1, 0, 3),
        (1, 2, 1),
        (5, 0, 8),
    ]
    assert bars.late == [(4, [1])]
