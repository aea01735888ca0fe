"""The simulator's own truth, and its account of what it made go wrong."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator import Binance, Coinbase, Okx, Simulator, Start, SyntheticMarket, schedule, server
from simulator.book import Book, book_digest
from simulator.faults import FRAME_KINDS, SPELL_KINDS
from simulator.ledger import Hit, Injected, Ledger
from simulator.market import Diff, Frame, Hold, Traded
from simulator.truth import Truth
from simulator_client import Client, playing, received, run, until

SIDES = st.lists(st.tuples(st.integers(1, 12), st.integers(0, 3)), max_size=6)


def text(levels: list[tuple[int, int]]) -> list[tuple[str, str]]:
    return [(f"{price}.50", str(size)) for price, size in levels]


@given(st.lists(st.tuples(SIDES, SIDES)))
def test_a_book_is_a_dictionary_sorted_and_its_digest_that_of_its_levels(diffs: list[tuple[Any, Any]]) -> None:
    book, bids, asks = Book(), {}, {}
    for number, (bid, ask) in enumerate(diffs):
        book.apply(number, text(bid), text(ask))
        for side, levels in ((bids, bid), (asks, ask)):
            side.update({price + 0.5: float(size) for price, size in levels})
        bids, asks = ({price: size for price, size in side.items() if size} for side in (bids, asks))
        depth = book.depth(100)
        assert [(float(price), float(size)) for price, size in depth.bids] == sorted(bids.items(), reverse=True)
        assert [(float(price), float(size)) for price, size in depth.asks] == sorted(asks.items())
        assert book.digest == book_digest(bids.items(), asks.items())


def test_truth_gives_the_book_after_any_diff_it_remembers() -> None:
    truth, books = Truth(history=20), {}
    market = SyntheticMarket(1, 60, 3, duration=4, levels=50)
    for item in market.frames():
        if isinstance(item, Hold):
            truth.load(item.symbol, market.book(item.symbol, 1000), 0)
        elif isinstance(item.fact, Diff):
            truth.diff(item.fact, item.at // 1_000_000)
            books[item.fact.last] = truth.book("BTCUSDT").depth(1000)
    assert len(books) > 30
    remembered = list(books)[-21:]
    for last in remembered:
        assert truth.book_at("BTCUSDT", last).depth(1000) == books[last]
    assert truth.book_at("BTCUSDT", next(iter(books))) is None
    assert truth.book_at("BTCUSDT", remembered[-1] + 1) is None
    for last, state in zip(books, truth.states("BTCUSDT")[1:], strict=True):
        assert state == truth.at("BTCUSDT", sequence=last) == truth.at("BTCUSDT", exchange_ms=state.exchange_ms)
        levels = ([(float(price), float(size)) for price, size in side] for side in books[last][1:])
        assert state.digest == book_digest(*levels)


def test_a_trade_that_is_yet_to_be_published_is_not_given() -> None:
    market = SyntheticMarket(1, 60, 3, duration=4, levels=50)
    desk = Simulator(market, Coinbase()).desk
    for item in market.frames():
        if isinstance(item, Frame) and isinstance(item.fact, Traded):
            number = item.fact.print.id
            assert [one.id for one in desk.trades("BTCUSDT", 3)] == list(range(max(1001, number - 3), number))
            desk.truth.trade("BTCUSDT", number)
            assert [one.id for one in desk.trades("BTCUSDT", 1)] == [number]
            assert [one.id for one in desk.trades("BTCUSDT", 3, before=number - 1001)] == [1001]


def test_a_ledger_is_written_as_it_grows(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "faults.ndjson")
    line = Injected(1, "skip", "BTCUSDT", 5, 6, 7, "btcusdt@trade", 8, 9, hits=(Hit(1, 4711, 3),))
    ledger.add(line)
    assert ledger.ndjson() == (tmp_path / "faults.ndjson").read_bytes()
    assert json.loads(ledger.ndjson()) == {
        "id": 1,
        "kind": "skip",
        "symbol": "BTCUSDT",
        "wall_ns": 5,
        "at": 6,
        "exchange_ms": 7,
        "stream": "btcusdt@trade",
        "first": 8,
        "last": 9,
        "frames": 1,
        "hits": [{"connection": 1, "peer": 4711, "sequence": 3}],
        "seconds": None,
        "connections": 1,
    }
    ledger.close()


VENUES = {
    "binance": (Binance, "/stream?streams=btcusdt@depth@100ms/btcusdt@trade", None),
    "coinbase": (
        partial(Coinbase, messages=None),
        "/",
        {"type": "subscribe", "channel": "level2", "product_ids": ["BTC-USD"]},
    ),
    "okx": (Okx, "/ws/v5/public", {"op": "subscribe", "args": [{"channel": "books", "instId": "BTC-USDT"}]}),
}
"""How to make it, where sockets open, and what subscribes to a book there."""
BOOKS = {
    "binance": "/api/v3/depth?symbol=BTCUSDT",
    "coinbase": "/api/v3/brokerage/market/product_book?product_id=BTC-USD",
    "okx": "/api/v5/market/books?instId=BTC-USDT&sz=5",
}


class Exchange:
    """One venue, ten times as fast as its clock, and how to subscribe there."""

    def __init__(self, name: str, **more: Any) -> None:
        made, self.path, self.request = VENUES[name]
        self.simulator = Simulator(SyntheticMarket(1, 60, 1, levels=190), made(), speed=10, patience=0, **more)
        self.book = BOOKS[name]

    @asynccontextmanager
    async def watching(self, client: Client) -> AsyncIterator[Any]:
        async with client.socket(self.path) as socket:
            if self.request:
                await socket.send_json(self.request)
            yield socket


def noted(ledger: Ledger, number: int) -> bool:
    return any(line.id == number for line in ledger)


async def over(client: Client, kind: str) -> None:
    """A spell ends when a later one of its kind does."""
    await client.fault(kind, seconds=0.001)
    await asyncio.sleep(0.01)


@pytest.mark.parametrize("name", VENUES)
def test_every_kind_of_fault_is_on_the_ledger_with_whom_it_hit(name: str) -> None:
    async def test() -> None:
        exchange = Exchange(name)
        kinds = set(schedule.spread(1, name == "okx"))
        async with playing(exchange.simulator) as client:
            for kind in sorted(kinds):
                async with exchange.watching(client) as socket:
                    await received(socket, 3)
                    number = await client.fault(kind, seconds=30)
                    await until(partial(noted, client.simulator.log, number))
                    line = next(line for line in await client.log() if line["id"] == number)
                    assert line["kind"] == kind
                    assert line["connections"] == (0 if kind in SPELL_KINDS else 1)
                    if kind in FRAME_KINDS:
                        assert line["first"] <= line["last"]
                        assert (line["symbol"], line["frames"]) == (line["stream"].partition("@")[0].upper(), 1)
                if kind in SPELL_KINDS:
                    await over(client, kind)

    run(test)


@pytest.mark.parametrize("name", VENUES)
def test_a_stall_is_followed_by_what_it_cost(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "BEAT", 0.05)

    async def test() -> None:
        exchange = Exchange(name)
        async with playing(exchange.simulator) as client, exchange.watching(client) as socket:
            await received(socket, 4)
            stall = await client.fault("stall", seconds=0.3)
            await until(lambda: any(line.kind == "lost" for line in client.simulator.log))
            lost = [line for line in await client.log() if line["kind"] == "lost"]
            assert {line["id"] for line in lost} == {stall}
            assert all(line["frames"] > 3 and line["first"] < line["last"] for line in lost)
            await received(socket, 2)

    run(test)


@pytest.mark.parametrize("name", VENUES)
def test_new_sockets_are_closed_with_1008_for_a_while(name: str) -> None:
    async def test() -> None:
        exchange = Exchange(name)
        async with playing(exchange.simulator) as client:
            await client.fault("policy", seconds=30)
            async with client.socket(exchange.path) as socket:
                assert (await socket.receive(timeout=60)).type is aiohttp.WSMsgType.CLOSE
                assert socket.close_code == 1008
            await over(client, "policy")
            async with exchange.watching(client) as socket:
                await received(socket, 2)

    run(test)


@pytest.mark.parametrize(
    ("name", "request_", "answer"),
    [
        ("binance", {"method": "SUBSCRIBE", "params": ["btcusdt@trade"], "id": 1}, "Too many requests"),
        ("coinbase", VENUES["coinbase"][2], "rate limit exceeded"),
        ("okx", VENUES["okx"][2], "60014"),
    ],
)
def test_subscriptions_are_refused_for_a_while(name: str, request_: object, answer: str) -> None:
    async def test() -> None:
        exchange = Exchange(name)
        async with playing(exchange.simulator) as client:
            await client.fault("reject", seconds=30)
            async with client.socket(exchange.path.partition("?")[0]) as socket:
                await socket.send_json(request_)
                assert answer in (await received(socket, 1))[0]
            assert client.simulator.hub.streams == []

    run(test)


@pytest.mark.parametrize("name", VENUES)
def test_a_book_over_rest_can_fail_be_late_and_be_old(name: str) -> None:
    async def test() -> None:
        exchange = Exchange(name, start=Start(0), history=5)
        simulator = exchange.simulator
        async with playing(simulator) as client:
            await until(lambda: len(simulator.truth.states("BTCUSDT")) > 10)
            await client.fault("rest", seconds=30, status=503)
            async with client.session.get(simulator.url + exchange.book) as answer:
                assert answer.status == 503
                assert answer.content_type == "application/json"
            await over(client, "rest")
            await client.fault("slow", seconds=30, ms=300)
            begun = asyncio.get_running_loop().time()
            assert await client.get(exchange.book)
            assert asyncio.get_running_loop().time() - begun >= 0.3
            await over(client, "slow")
            await client.post("/control/pause")
            fresh = await client.get(exchange.book)
            await client.fault("stale", seconds=30)
            assert await client.get(exchange.book) != fresh
            if name == "binance":
                oldest = simulator.truth.states("BTCUSDT")[-6]
                assert (await client.get(exchange.book))["lastUpdateId"] == oldest.sequence

    run(test)


@pytest.mark.parametrize("name", VENUES)
def test_the_exchange_s_clock_can_run_ahead(name: str) -> None:
    async def test() -> None:
        exchange = Exchange(name, start=Start(0))
        simulator = exchange.simulator
        async with playing(simulator) as client:
            await until(lambda: len(simulator.truth.states("BTCUSDT")) > 3)
            await client.fault("clock", seconds=30, ms=60_037)
            await until(lambda: simulator.truth.at("BTCUSDT").exchange_ms % 100 == 37)
            assert simulator.desk.exchange_ms - simulator.desk.at // 1_000_000 == 60_037
            await over(client, "clock")
            await until(lambda: simulator.desk.exchange_ms == simulator.desk.at // 1_000_000)

    run(test)


def test_control_gives_books_digests_and_trades_of_any_moment() -> None:
    async def test() -> None:
        simulator = Exchange("okx", start=Start(0)).simulator
        async with playing(simulator) as client:
            await until(lambda: len(simulator.truth.states("BTCUSDT")) > 20)
            digests = await client.get("/control/digests", symbol="BTC-USDT")
            for sequence, _, digest in digests[-10:]:
                book = await client.get("/control/book", symbol="BTC-USDT", sequence=sequence)
                levels = ([(float(price), float(size)) for price, size in book[side]] for side in ("bids", "asks"))
                assert (book["lastUpdateId"], f"{book_digest(*levels):016x}") == (sequence, digest)
            assert "no diff" in (await client.get("/control/book", symbol="BTC-USDT", sequence=1))["error"]
            ids = await client.get("/control/trades", symbol="BTC-USDT")
            assert ids == list(range(ids[0], ids[0] + len(ids)))
            assert "BTC-USDT" in (await client.get("/control/digests", symbol="BTCUSDT"))["error"]

    run(test)
