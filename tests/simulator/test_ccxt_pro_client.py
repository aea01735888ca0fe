"""The unmodified ccxt.pro client runs against the simulator with nothing but its URLs changed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import ccxt.pro
import pytest

from simulator import Fault, Market, RecordedMarket, Simulator, Start, SyntheticMarket


@asynccontextmanager
async def binance(simulator: Simulator) -> AsyncIterator[Any]:
    client = ccxt.pro.binance({"options": {"fetchMarkets": {"types": ["spot"]}}})
    client.urls["api"]["public"] = f"{simulator.url}/api/v3"
    client.urls["api"]["ws"]["spot"] = f"{simulator.ws_url}/stream/ws"
    try:
        yield client
    finally:
        await client.close()


def run(simulator: Simulator, test: Callable[[Any], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with simulator, binance(simulator) as client:
            await asyncio.wait_for(test(client), 60)

    asyncio.run(bounded())


def levels(side: list[Any]) -> list[tuple[float, float]]:
    return [(float(level[0]), float(level[1])) for level in side]


def check_book(simulator: Simulator, symbol: str, book: Any, depth: int) -> None:
    true = simulator.market.book(symbol, depth)
    assert book["nonce"] == true.last_id
    assert levels(book["bids"])[:depth] == levels(list(true.bids))
    assert levels(book["asks"])[:depth] == levels(list(true.asks))


async def watch_to_the_end(simulator: Simulator, client: Any, symbol: str, depth: int) -> tuple[Any, int, int]:
    """Watch a book until the market has ended; the last book, books seen, gaps reported."""
    book: Any = None
    seen = gaps = 0
    while True:
        try:
            book = await asyncio.wait_for(client.watch_order_book(symbol), 0.8)
            seen += 1
        except ccxt.pro.ChecksumError:
            gaps += 1
        except TimeoutError:
            if simulator.ended.is_set():
                check_book(simulator, symbol.replace("/", ""), book, depth)
                return book, seen, gaps


def markets(name: str, recordings: Path, folder: Path) -> Market:
    if name == "synthetic":
        return SyntheticMarket(2, 100, 5, duration=12)
    import gzip

    with gzip.open(recordings / "binance_spot" / "btcusdt_20240808.gz") as lines:
        (folder / "btcusdt.txt").write_bytes(b"".join(next(lines) for _ in range(3_000)))
    return RecordedMarket([folder / "btcusdt.txt"])


@pytest.mark.parametrize("name", ["synthetic", "recorded"])
def test_order_book_trades_and_ticker(name: str, recordings: Path, tmp_path: Path) -> None:
    simulator = Simulator(markets(name, recordings, tmp_path), speed=6, start=Start(3))

    async def test(client: Any) -> None:
        trades: list[Any] = []
        tickers: list[Any] = []

        async def watch_trades() -> None:
            while True:
                trades.extend(await client.watch_trades("BTC/USDT"))

        async def watch_tickers() -> None:
            while True:
                tickers.append(await client.watch_ticker("BTC/USDT", {"name": "ticker"}))

        others = [asyncio.create_task(watch_trades()), asyncio.create_task(watch_tickers())]
        _, seen, gaps = await watch_to_the_end(simulator, client, "BTC/USDT", 500)
        for task in others:
            task.cancel()
        assert await asyncio.gather(*others, return_exceptions=True)
        assert gaps == 0
        assert seen > 50

        tape = simulator.market.tape("BTCUSDT")
        seen_trades = {trade["id"]: trade for trade in trades}
        assert set(seen_trades) <= {str(trade.id) for trade in tape.prints}
        assert len(seen_trades) > 0.9 * len(tape.prints)
        for trade in tape.prints:
            if (got := seen_trades.get(str(trade.id))) is not None:
                expected = (float(trade.price), float(trade.size), trade.time, "sell" if trade.maker else "buy")
                assert (got["price"], got["amount"], got["timestamp"], got["side"]) == expected
        assert tickers
        assert all(ticker["bid"] < ticker["ask"] for ticker in tickers)

    run(simulator, test)


def test_a_gap_is_seen_and_the_book_is_right_again() -> None:
    simulator = Simulator(SyntheticMarket(1, 100, 5, duration=12), speed=4)

    async def test(client: Any) -> None:
        await client.watch_order_book("BTC/USDT")
        simulator.inject(Fault("skip", "BTCUSDT"))
        _, seen, gaps = await watch_to_the_end(simulator, client, "BTC/USDT", 500)
        assert gaps == 1
        assert seen > 20

    run(simulator, test)


def test_rest_answers_are_understood() -> None:
    simulator = Simulator(SyntheticMarket(3, 200, 5, duration=2), speed=20, start=Start(0))

    async def test(client: Any) -> None:
        await simulator.ended.wait()
        assert sorted(await client.load_markets()) == ["BTC/USDT", "ETH/USDT", "SOL/USDT"]
        assert client.market("BTC/USDT")["precision"] == {
            "amount": 0.00001,
            "price": 0.01,
            "base": 1e-08,
            "quote": 1e-08,
        }
        tape = simulator.market.tape("ETHUSDT")
        check_book(simulator, "ETHUSDT", await client.fetch_order_book("ETH/USDT", 100), 100)
        runs = await client.fetch_trades("ETH/USDT", limit=1000)
        assert sum(run["amount"] for run in runs) == pytest.approx(sum(float(trade.size) for trade in tape.prints))
        options = {"fetchTradesMethod": "publicGetTrades"}
        single = await client.fetch_trades("ETH/USDT", limit=10, params=options)
        assert [trade["id"] for trade in single] == [str(trade.id) for trade in tape.latest(10)]
        ticker = await client.fetch_ticker("ETH/USDT")
        assert ticker["last"] == float(tape.prints[-1].price)
        assert await client.fetch_time() == simulator.market.exchange_ms(simulator.pump.at)
        with pytest.raises(ccxt.pro.BadSymbol):
            await client.fetch_order_book("NO/USDT")
        with pytest.raises(ccxt.pro.BadSymbol):
            await client.publicGetDepth({"symbol": "NOUSDT"})
        simulator.inject(Fault("http", seconds=5, status=429))
        with pytest.raises(ccxt.pro.DDoSProtection):
            await client.fetch_time()

    run(simulator, test)
