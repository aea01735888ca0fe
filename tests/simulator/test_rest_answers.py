"""REST answers and refusals in the exchange's own shapes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from simulator import SyntheticMarket
from simulator.binance.rest import answer
from simulator.market import Frame

TRADES: list[dict[str, Any]] = []


@pytest.fixture(scope="module")
def market() -> SyntheticMarket:
    """Ten seconds in; TRADES holds what its BTCUSDT trade stream carried."""
    made = SyntheticMarket(3, 200, 2, duration=10)
    TRADES.clear()
    for item in made.frames():
        if isinstance(item, Frame) and item.stream == "btcusdt@trade":
            TRADES.append(json.loads(item.payload))
    return made


def get(market: SyntheticMarket, path: str, **query: str) -> Any:
    made = answer(market, f"/api/v3/{path}", query, 1_704_067_210_000)
    assert made.status == 200, made.body
    return json.loads(made.body)


@pytest.mark.parametrize(
    ("path", "query", "status", "code"),
    [
        ("depth", {}, 400, -1102),
        ("depth", {"symbol": ""}, 400, -1102),
        ("depth", {"symbol": "NOPE"}, 400, -1121),
        ("depth", {"symbol": "btcusdt"}, 400, -1121),
        ("depth", {"symbol": "BTCUSDT", "limit": "x"}, 400, -1100),
        ("depth", {"symbol": "BTCUSDT", "limit": "0"}, 400, -1130),
        ("trades", {}, 400, -1102),
        ("historicalTrades", {"symbol": "BTCUSDT", "fromId": "-1"}, 400, -1100),
        ("exchangeInfo", {"symbol": "NOPE"}, 400, -1121),
        ("exchangeInfo", {"symbols": '["NOPE"]'}, 400, -1121),
        ("ticker/24hr", {"symbols": "BTCUSDT"}, 400, -1100),
        ("order", {}, 404, -1000),
    ],
)
def test_refusals(market: SyntheticMarket, path: str, query: dict[str, str], status: int, code: int) -> None:
    made = answer(market, f"/api/v3/{path}", query, 0)
    body = json.loads(made.body)
    assert (made.status, body["code"]) == (status, code)
    assert body["msg"]


def test_ping_and_time(market: SyntheticMarket) -> None:
    assert get(market, "ping") == {}
    assert get(market, "time") == {"serverTime": 1_704_067_210_000}


def test_exchange_info_lists_what_was_asked_for(market: SyntheticMarket) -> None:
    everything = get(market, "exchangeInfo")
    assert [row["symbol"] for row in everything["symbols"]] == ["BTCUSDT", "ETHUSDT", "SOLUSDT"]
    assert [row["symbol"] for row in get(market, "exchangeInfo", symbols='["SOLUSDT"]')["symbols"]] == ["SOLUSDT"]
    row = get(market, "exchangeInfo", symbol="BTCUSDT")["symbols"][0]
    filters = {one["filterType"]: one for one in row["filters"]}
    assert (row["baseAsset"], row["quoteAsset"], row["status"]) == ("BTC", "USDT", "TRADING")
    assert filters["PRICE_FILTER"]["tickSize"] == "0.01000000"
    assert filters["LOT_SIZE"]["stepSize"] == "0.00001000"


@pytest.mark.parametrize(("limit", "levels", "weight"), [("5", 5, 5), ("100", 100, 5), ("500", None, 25)])
def test_depth_is_best_first_and_weighed(market: SyntheticMarket, limit: str, levels: int | None, weight: int) -> None:
    made = answer(market, "/api/v3/depth", {"symbol": "BTCUSDT", "limit": limit}, 0)
    depth = json.loads(made.body)
    bids, asks = ([float(price) for price, _ in depth[side]] for side in ("bids", "asks"))
    assert bids == sorted(bids, reverse=True)
    assert asks == sorted(asks)
    assert bids[0] < asks[0]
    assert levels is None or len(bids) == len(asks) == levels
    assert (made.weight, made.snapshot_of) == (weight, "BTCUSDT")
    assert depth["lastUpdateId"] == market.book("BTCUSDT", 1).last_id


def test_depth_weights_of_deep_queries(market: SyntheticMarket) -> None:
    weights = [answer(market, "/api/v3/depth", {"symbol": "BTCUSDT", "limit": n}, 0).weight for n in ("1000", "9999")]
    assert weights == [50, 250]


def test_trades_are_those_of_the_stream(market: SyntheticMarket) -> None:
    latest = get(market, "trades", symbol="BTCUSDT", limit="20")
    assert [(row["id"], row["price"], row["qty"], row["time"], row["isBuyerMaker"]) for row in latest] == [
        (one["t"], one["p"], one["q"], one["T"], one["m"]) for one in TRADES[-20:]
    ]
    since = get(market, "historicalTrades", symbol="BTCUSDT", fromId=str(TRADES[40]["t"]), limit="7")
    assert [row["id"] for row in since] == [one["t"] for one in TRADES[40:47]]


def test_aggregate_trades_cover_every_trade_once(market: SyntheticMarket) -> None:
    runs = get(market, "aggTrades", symbol="BTCUSDT", limit="1000")
    covered = [number for run in runs for number in range(run["f"], run["l"] + 1)]
    assert covered == [one["t"] for one in TRADES]
    middle = runs[len(runs) // 2]
    assert get(market, "aggTrades", symbol="BTCUSDT", fromId=str(middle["a"]), limit="1") == [middle]
    window = {"startTime": str(runs[3]["T"]), "endTime": str(runs[9]["T"])}
    assert get(market, "aggTrades", symbol="BTCUSDT", **window) == [
        run for run in runs if runs[3]["T"] <= run["T"] <= runs[9]["T"]
    ]


def test_tickers_are_one_or_all(market: SyntheticMarket) -> None:
    one = get(market, "ticker/24hr", symbol="BTCUSDT")
    depth = get(market, "depth", symbol="BTCUSDT", limit="1")
    assert one["lastPrice"] == TRADES[-1]["p"]
    assert one["count"] == len(TRADES)
    assert [one["bidPrice"], one["bidQty"]] == depth["bids"][0]
    assert [row["symbol"] for row in get(market, "ticker/24hr")] == list(market.instruments)
    best = get(market, "ticker/bookTicker", symbol="BTCUSDT")
    assert [best["askPrice"], best["askQty"]] == depth["asks"][0]
    assert get(market, "ticker/price", symbol="BTCUSDT") == {"symbol": "BTCUSDT", "price": TRADES[-1]["p"]}


def test_a_market_without_trades_answers_zeros() -> None:
    row = get(SyntheticMarket(1, 10, 1), "ticker/24hr", symbol="BTCUSDT")
    assert (row["lastPrice"], row["volume"], row["count"]) == ("0.00000000", "0.00000000", 0)
    assert float(row["bidPrice"]) > 0
