"""Coinbase Advanced Trade over real sockets: channels, the one sequence, habits, refusals, REST, ccxt's own client."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import aiohttp
import ccxt.pro
import pytest

from simulator import Coinbase, Simulator, Start, SyntheticMarket, server
from simulator.book import book_digest
from simulator_client import Client, Frames, Levels, messages, playing, run, until

TOKEN = ".".join(
    base64.urlsafe_b64encode(part).decode().rstrip("=") for part in (b'{"alg":"ES256"}', b'{"sub":"k"}', b"signed")
)


def brisk(venue: Coinbase | None = None, **more: Any) -> Simulator:
    return Simulator(SyntheticMarket(2, 60, 1), venue or Coinbase(), speed=10, **more)


async def subscribe(socket: Any, channel: str, *products: str, **more: Any) -> None:
    await socket.send_json({"type": "subscribe", "channel": channel, "product_ids": list(products), **more})


@asynccontextmanager
async def subscribed(client: Client, *channels: str) -> AsyncIterator[Any]:
    async with client.socket("/") as socket:
        for channel in channels:
            await subscribe(socket, channel, "BTC-USD")
        yield socket


class L2(Levels):
    """`level2` as its documentation says to keep it; the digest and time after each update."""

    def __init__(self) -> None:
        super().__init__()
        self.states: list[tuple[int, str]] = []

    def take(self, message: dict[str, Any]) -> None:
        (event,) = message["events"]
        if event["type"] == "snapshot":
            self.clear()
        for update in event["updates"]:
            side = {"bid": self.bids, "offer": self.asks}[update["side"]]
            self.set(side, [(update["price_level"], update["new_quantity"])])
        if event["type"] == "update":
            ms = ccxt.pro.coinbase().parse8601(event["updates"][0]["event_time"])
            self.states.append((ms, f"{book_digest(self.bids.items(), self.asks.items()):016x}"))


def of(frames: Frames, channel: str) -> Frames:
    return [frame for frame in frames if frame["channel"] == channel]


def test_one_sequence_spans_all_channels_of_a_connection() -> None:
    async def test() -> None:
        async with playing(brisk()) as client, subscribed(client, "level2", "market_trades", "ticker") as socket:
            await subscribe(socket, "heartbeats")
            frames: Frames = []
            while len(of(frames, "heartbeats")) < 2:
                frames += await messages(socket, 1)
            assert [frame["sequence_num"] for frame in frames] == list(range(len(frames)))
            assert {frame["channel"] for frame in frames} == {
                "subscriptions",
                "l2_data",
                "market_trades",
                "ticker",
                "heartbeats",
            }
            acknowledged = of(frames, "subscriptions")[-1]["events"][0]["subscriptions"]
            assert acknowledged.pop("heartbeats") == ["heartbeats"]
            assert acknowledged == {name: ["BTC-USD"] for name in ("level2", "market_trades", "ticker")}
            first, second = (beat["events"][0]["heartbeat_counter"] for beat in of(frames, "heartbeats")[:2])
            assert second == first + 1
            async with subscribed(client, "ticker") as other:
                assert (await messages(other, 1))[0]["sequence_num"] == 0

    run(test)


def test_a_snapshot_and_its_updates_are_the_true_book_at_every_step() -> None:
    async def test() -> None:
        async with playing(brisk(start=Start(0))) as client:
            await asyncio.sleep(0.3)
            book = L2()
            async with subscribed(client, "level2") as socket:
                frames = await messages(socket, 60)
            assert [frame["events"][0]["type"] for frame in of(frames, "l2_data")[:2]] == ["snapshot", "update"]
            for frame in of(frames, "l2_data"):
                book.take(frame)
            truth = {ms: digest for _, ms, digest in await client.get("/control/digests", symbol="BTC-USD")}
            assert len(book.states) > 50
            assert all(truth[ms] == digest for ms, digest in book.states)

    run(test)


def test_every_trade_comes_once_and_the_newest_first() -> None:
    async def test() -> None:
        async with playing(brisk(start=Start(0))) as client:
            await asyncio.sleep(0.3)
            async with subscribed(client, "market_trades") as socket:
                frames = of(await messages(socket, 20), "market_trades")
            kinds = [frame["events"][0]["type"] for frame in frames]
            assert kinds == ["snapshot"] + ["update"] * (len(frames) - 1)
            batches = [[int(one["trade_id"]) for one in frame["events"][0]["trades"]] for frame in frames]
            ids = [trade for batch in batches for trade in reversed(batch)]
            assert ids == list(range(ids[0], ids[-1] + 1))
            assert max(map(len, batches[1:])) > 1
            true = {print_.id: print_ for print_ in client.simulator.market.tape("BTCUSDT").prints}
            for one in (one for frame in frames for one in frame["events"][0]["trades"]):
                print_ = true[int(one["trade_id"])]
                assert (float(one["price"]), float(one["size"])) == (float(print_.price), float(print_.size))
                assert one["side"] == ("BUY" if print_.maker else "SELL")  # the maker's

    run(test)


def test_a_channel_ends_when_it_is_unsubscribed() -> None:
    async def test() -> None:
        async with playing(brisk()) as client, subscribed(client, "level2", "market_trades") as socket:
            await messages(socket, 10)
            await socket.send_json({"type": "unsubscribe", "channel": "level2"})
            frames: Frames = []
            while not of(frames, "subscriptions"):
                frames += await messages(socket, 1)
            assert frames[-1]["events"] == [{"subscriptions": {"market_trades": ["BTC-USD"]}}]
            assert not of(await messages(socket, 5), "l2_data")

    run(test)


def test_a_usdc_product_answers_in_the_name_of_its_dollar_book() -> None:
    async def test() -> None:
        async with playing(brisk()) as client, client.socket("/") as socket:
            await subscribe(socket, "level2", "BTC-USDC")
            snapshot, acknowledged = await messages(socket, 2)
            assert snapshot["events"][0]["product_id"] == "BTC-USD"
            assert acknowledged["events"] == [{"subscriptions": {"level2": ["BTC-USD"]}}]

    run(test)


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        ("{", {"message": "malformed JSON"}),
        ({"type": "shout"}, {"message": "unknown type"}),
        ({"type": "subscribe", "channel": "user"}, {"message": "authentication failure"}),
        (
            {"type": "subscribe", "channel": "level2", "product_ids": ["NO-USD"]},
            {"message": "Failed to subscribe", "reason": "NO-USD is not a valid product"},
        ),
        (
            {"type": "subscribe", "channel": "level2", "product_ids": ["BTC-USD"], "jwt": "no token"},
            {"message": "authentication failure"},
        ),
    ],
)
def test_a_wrong_request_is_an_error_without_a_sequence_number(request_: object, answer: dict[str, str]) -> None:
    async def test() -> None:
        async with playing(brisk()) as client, client.socket("/") as socket:
            await socket.send_str(request_ if isinstance(request_, str) else json.dumps(request_))
            assert await messages(socket, 1) == [{"type": "error"} | answer]

    run(test)


def test_a_token_can_be_demanded_and_lifts_the_limit_of_messages() -> None:
    async def test() -> None:
        async with playing(brisk(Coinbase(require_jwt=True, messages=2))) as client, client.socket("/") as socket:
            await subscribe(socket, "level2", "BTC-USD")
            assert (await messages(socket, 1))[0]["message"] == "authentication failure"
            for _ in range(4):
                await subscribe(socket, "heartbeats", jwt=TOKEN)
            assert {frame["channel"] for frame in await messages(socket, 4)} <= {"subscriptions", "heartbeats"}

    run(test)


def test_more_messages_than_allowed_in_a_second_are_refused() -> None:
    async def test() -> None:
        async with playing(brisk(Coinbase(messages=2), start=Start(None))) as client, client.socket("/") as socket:
            for product in ("BTC-USD", "ETH-USD", "BTC-USD"):
                await subscribe(socket, "ticker", product)
            first, second, third = await messages(socket, 3)
            assert first["channel"] == second["channel"] == "subscriptions"
            assert third == {"type": "error", "message": "rate limit exceeded"}

    run(test)


@pytest.mark.parametrize("channel", [None, "ticker"])
def test_a_socket_is_closed_without_a_subscription_and_when_nothing_is_sent(
    channel: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "BEAT", 0.05)

    async def test() -> None:
        venue = Coinbase(subscribe_within=0.2 if channel is None else 10, idle=10 if channel is None else 0.2)
        async with playing(brisk(venue, start=Start(None))) as client, client.socket("/") as socket:
            if channel:
                await subscribe(socket, channel, "BTC-USD")
                await messages(socket, 1)
            message = await socket.receive(timeout=60)
            assert (message.type, socket.close_code) == (aiohttp.WSMsgType.CLOSE, 1000)

    run(test)


def test_heartbeats_keep_a_quiet_socket_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "BEAT", 0.05)

    async def test() -> None:
        async with playing(brisk(Coinbase(idle=0.2), start=Start(None))) as client, client.socket("/") as socket:
            await subscribe(socket, "heartbeats")
            assert len(of(await messages(socket, 10), "heartbeats")) >= 9

    run(test)


@pytest.mark.parametrize("channel", ["level2", "market_trades", "heartbeats"])
def test_a_lost_frame_of_any_channel_is_a_gap_in_the_sequence(channel: str) -> None:
    async def test() -> None:
        async with playing(brisk()) as client, subscribed(client, "level2", "market_trades") as socket:
            await subscribe(socket, "heartbeats")
            frames = await messages(socket, 10)
            symbol = {} if channel == "heartbeats" else {"symbol": "BTC-USD"}
            number = await client.fault("skip", channel=channel, **symbol)
            while frames[-1]["sequence_num"] == len(frames) - 1:
                frames += await messages(socket, 1)
            (line,) = await client.log()
            assert (line["id"], line["kind"], line["stream"].partition("@")[2]) == (number, "skip", channel)
            (hit,) = line["hits"]
            assert hit["sequence"] == frames[-1]["sequence_num"] - 1

    run(test)


def test_a_repeated_frame_repeats_its_number_and_a_reordered_one_comes_late() -> None:
    async def test() -> None:
        async with playing(brisk()) as client, subscribed(client, "level2") as socket:
            frames = await messages(socket, 5)
            await client.fault("repeat", symbol="BTC-USD")
            await client.fault("reorder", symbol="BTC-USD")
            await until(lambda: len(client.simulator.log) == 2)
            last = client.simulator.log[1].hits[0].sequence
            assert last is not None
            while frames[-1]["sequence_num"] < last + 2:
                frames += await messages(socket, 1)
            steps = [later["sequence_num"] - earlier["sequence_num"] for earlier, later in pairwise(frames)]
            assert [step for step in steps if step != 1] == [0, 2, -1, 2]

    run(test)


def test_rest_gives_products_books_trades_and_errors() -> None:
    async def test() -> None:
        simulator = Simulator(SyntheticMarket(2, 200, 5, duration=2), Coinbase(), speed=20, start=Start(0))
        async with playing(simulator) as client:
            await simulator.ended.wait()
            root = "/api/v3/brokerage/market"
            products = await client.get(f"{root}/products")
            assert [one["product_id"] for one in products["products"]] == [
                "BTC-USD",
                "BTC-USDC",
                "ETH-USD",
                "ETH-USDC",
            ]
            book = (await client.get(f"{root}/product_book", product_id="ETH-USD", limit=5))["pricebook"]
            true = simulator.market.book("ETHUSDT", 5)
            assert [(one["price"], one["size"]) for one in book["bids"]] == list(true.bids)
            tape = simulator.market.tape("ETHUSDT")
            answer = await client.get(f"{root}/products/ETH-USD/ticker", limit=10)
            assert [one["trade_id"] for one in answer["trades"]] == [str(one.id) for one in reversed(tape.latest(10))]
            second = tape.prints[0].time // 1000
            answer = await client.get(f"{root}/products/ETH-USD/ticker", limit=1000, start=second, end=second)
            expected = [str(one.id) for one in tape.prints if one.time // 1000 == second]
            assert [one["trade_id"] for one in reversed(answer["trades"])] == expected
            assert (await client.get(f"{root}/products/NO-USD"))["error"] == "NOT_FOUND"
            assert (await client.get(f"{root}/products/BTC-USD/ticker"))["error"] == "INVALID_ARGUMENT"
            assert (await client.get("/api/v3/brokerage/accounts"))["error"] == "NOT_FOUND"

    run(test)


def test_ccxt_s_own_client_lists_watches_and_fetches() -> None:
    simulator = brisk()

    async def test() -> None:
        exchange = ccxt.pro.coinbase()
        async with simulator:
            exchange.urls["api"]["rest"], exchange.urls["api"]["ws"] = simulator.url, simulator.ws_url
            try:
                assert {"BTC/USD", "BTC/USDC", "ETH/USD"} <= set(await exchange.load_markets())
                book: Any = None
                for _ in range(20):
                    book = await exchange.watch_order_book("BTC/USD")
                state = simulator.truth.at("BTCUSDT", exchange_ms=book["timestamp"])
                assert state is not None
                assert book_digest(map(tuple, book["bids"]), map(tuple, book["asks"])) == state.digest
                trades = await exchange.watch_trades("BTC/USD")
                assert {int(one["id"]) for one in trades} <= set(simulator.truth.trades("BTCUSDT"))
                ticker = await exchange.watch_ticker("BTC/USD")
                assert ticker["bid"] < ticker["ask"]
                fetched = await exchange.fetch_trades("BTC/USD", limit=5)
                assert len(fetched) == 5
                top = await exchange.fetch_order_book("BTC/USD", 10)
                assert top["bids"][0][0] < top["asks"][0][0]
            finally:
                await exchange.close()

    run(test)
