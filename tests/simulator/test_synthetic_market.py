"""The synthetic market: the same bytes for the same seed, and every stream tells the same story."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from decimal import Decimal
from itertools import islice, pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from binance_rules import LocalBook, ticker_best
from fluxforge.errors import ConfigError
from simulator import SyntheticMarket
from simulator.binance import wire
from simulator.market import Frame, Hold


def play(market: SyntheticMarket) -> list[Frame]:
    return [item for item in market.frames() if isinstance(item, Frame)]


def by_channel(frames: list[Frame], symbol: str) -> dict[str, list[dict[str, Any]]]:
    channels: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for frame in frames:
        name, _, channel = frame.stream.partition("@")
        if name == symbol.lower():
            channels[channel].append(json.loads(frame.payload))
    return channels


def snapshot(market: SyntheticMarket, symbol: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(wire.depth_answer(market.snapshot(symbol, 5000)))
    return answer


def digest(frames: list[Frame]) -> str:
    return hashlib.sha256(b"".join(b"%d %b %b\n" % (f.at, f.stream.encode(), f.payload) for f in frames)).hexdigest()


def test_one_seed_one_sequence_of_bytes() -> None:
    runs = [digest(play(SyntheticMarket(3, 80, seed, duration=5))) for seed in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]


def test_a_symbol_is_the_same_whatever_others_there_are() -> None:
    alone, among = (play(SyntheticMarket(count, 50, 4, duration=5)) for count in (1, 5))
    assert digest(alone) == digest([frame for frame in among if frame.stream.startswith("btcusdt@")])


@pytest.mark.parametrize("rate", [5, 50, 400])
def test_the_rate_is_messages_per_second_and_symbol(rate: int) -> None:
    frames = play(SyntheticMarket(2, rate, 9, duration=60))
    fast = {"depth@100ms", "trade", "bookTicker", "ticker"}
    count = sum(frame.stream.partition("@")[2] in fast for frame in frames)
    assert count / 120 == pytest.approx(rate, rel=0.12)


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10_000), rate=st.sampled_from([3, 30, 300]), taken=st.integers(0, 400))
def test_a_snapshot_at_any_moment_and_the_diffs_rebuild_the_book(seed: int, rate: int, taken: int) -> None:
    market, book = SyntheticMarket(1, rate, seed, duration=12), LocalBook()
    frames = market.frames()
    for item in islice(frames, taken):
        if isinstance(item, Frame) and item.stream.endswith("@depth@100ms"):
            book.diff(item.payload)
    book.snapshot(snapshot(market, "BTCUSDT"))
    for item in frames:
        if isinstance(item, Frame) and item.stream.endswith("@depth@100ms"):
            book.diff(item.payload)
            own = market.book("BTCUSDT", 100_000)
            assert book.last_id == own.last_id
            bids, asks = book.levels(100_000)
            assert bids == [(float(p), float(q)) for p, q in own.bids]
            assert asks == [(float(p), float(q)) for p, q in own.asks]
            assert bids[0][0] < asks[0][0]


@pytest.mark.parametrize("symbol", ["BTCUSDT", "ETHUSDT", "XRPUSDT", "DOGEUSDT"])
def test_the_book_ticker_is_the_best_of_the_book(symbol: str) -> None:
    market = SyntheticMarket(6, 150, 3, duration=20)
    first = snapshot(market, symbol)
    channels = by_channel(play(market), symbol)
    book = LocalBook()
    book.snapshot(first)
    tickers = iter(channels["bookTicker"])
    ticker = next(tickers)
    following = next(tickers, None)
    compared = 0
    for diff in channels["depth@100ms"]:
        book.diff(diff)
        while following is not None and following["u"] <= diff["u"]:
            ticker, following = following, next(tickers, None)
        if ticker["u"] <= diff["u"]:
            assert ticker_best(ticker) == book.best()
            compared += 1
    assert compared > 150


def test_ids_run_without_a_hole() -> None:
    channels = by_channel(play(SyntheticMarket(1, 200, 5, duration=20)), "BTCUSDT")
    for name in ("depth@100ms", "depth"):
        assert all(later["U"] == earlier["u"] + 1 for earlier, later in pairwise(channels[name]))
        assert all(diff["U"] <= diff["u"] for diff in channels[name])
    trades = [trade["t"] for trade in channels["trade"]]
    assert trades == list(range(trades[0], trades[0] + len(trades)))
    assert all(later["u"] > earlier["u"] for earlier, later in pairwise(channels["bookTicker"]))
    assert all(b["E"] >= a["E"] for rows in channels.values() for a, b in pairwise(rows) if "E" in a)


def test_trades_take_the_best_price_and_leave_the_book_smaller() -> None:
    frames = [json.loads(f.payload) for f in play(SyntheticMarket(1, 200, 6, duration=30))]
    ticker: dict[str, Any] | None = None
    fresh, seen = True, 0
    for message in frames:
        if message.get("e") == "trade":
            assert Decimal(message["q"]) > 0
            if ticker is not None and fresh:
                side = "b" if message["m"] else "a"
                assert message["p"] == ticker[side]
                assert Decimal(message["q"]) <= Decimal(ticker[side.upper()])
                seen += 1
            fresh = False
        elif "A" in message and "e" not in message:
            ticker, fresh = message, True
    assert seen > 300


def test_derived_streams_agree_with_those_they_come_from() -> None:
    market = SyntheticMarket(1, 300, 8, duration=30)
    slow, first = LocalBook(), snapshot(market, "BTCUSDT")
    slow.snapshot(first)
    fast = LocalBook()
    fast.snapshot(first)
    traded, aggregated, covered = Decimal(0), Decimal(0), 0
    compared = 0
    for frame in play(market):
        channel, message = frame.stream.partition("@")[2], json.loads(frame.payload)
        if channel == "depth@100ms":
            fast.diff(message)
        elif channel == "depth":
            slow.diff(message)
            assert slow.levels(10_000) == fast.levels(10_000)
            compared += 1
        elif channel == "trade":
            traded += Decimal(message["q"])
        elif channel == "aggTrade":
            assert message["f"] == covered + 1 or not covered
            covered = message["l"]
            aggregated += Decimal(message["q"])
        elif channel == "ticker":
            assert Decimal(message["v"]) == traded
            assert message["n"] == message["L"] - message["F"] + 1
            assert ticker_best(message) == fast.best()
    assert compared >= 29
    assert 0 <= traded - aggregated < traded / 50


def test_a_market_begins_with_a_hold_for_every_symbol() -> None:
    market = SyntheticMarket(3, 10, 1)
    assert [item.symbol for item in islice(market.frames(), 3) if isinstance(item, Hold)] == list(market.instruments)


def test_rebased_time_begins_at_the_wall_clock() -> None:
    market = SyntheticMarket(1, 50, 1, duration=1, rebase=True)
    market.begin(1_900_000_000_123)
    times = [json.loads(frame.payload).get("E", 1_900_000_000_100) for frame in play(market)]
    assert all(1_900_000_000_100 <= time <= 1_900_000_001_100 for time in times)


@pytest.mark.parametrize(("symbols", "rate"), [(0, 10.0), (1, 0.0), (1, -5.0), (1, 1e9)])
def test_a_market_that_cannot_be_is_refused(symbols: int, rate: float) -> None:
    with pytest.raises(ConfigError):
        SyntheticMarket(symbols, rate)


def test_more_symbols_than_well_known_ones() -> None:
    market = SyntheticMarket(40, 5, 1, duration=2)
    assert len(market.instruments) == 40
    assert {frame.stream.partition("@")[0].upper() for frame in play(market)} == set(market.instruments)
