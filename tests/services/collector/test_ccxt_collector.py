"""ccxt Pro, unmodified, against a simulated exchange: nothing of it may cost an event."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from collector.ccxt_events import book_of, ticker_of, trade_of
from collector.ccxt_exchange import CcxtConfig, make_exchange
from collector.ccxt_pro import CcxtCollector
from collector.identity import Stamp
from collector.pipeline import Pipeline
from collector.seen import Seen
from collector.stats import Stats
from fluxforge import metrics
from fluxforge.clock import SystemClock
from fluxforge.errors import ConfigError, UnknownSymbol
from fluxforge.events import AnyEvent, BookSnapshot, Heartbeat, Reset, Ticker, Trade
from fluxforge.log import open_log
from fluxforge.topics import Topics
from on_loop import on_loop
from raw_log import KeyReader, read_all
from simulator.faults import Fault
from simulator.server import Simulator
from simulator.synthetic import SyntheticMarket

BTC = "binance|BTC/USDT"
STAMP: Stamp = {
    "exchange": "x",
    "symbol": "A/B",
    "native": "AB",
    "source": "ccxt",
    "collector": "c",
    "connection": "1",
    "capture_ts": 7,
    "skew": 0,
}
CONFIG = CcxtConfig(
    exchange="binance",
    symbols=("BTC/USDT", "ETH/USDT"),
    channels=("orderbook", "trades", "ticker"),
    collector="c1",
    book_levels=20,
)


def to(simulator: Simulator) -> CcxtConfig:
    """The configuration that sends ccxt's Binance to the simulator; nothing but addresses."""
    return replace(
        CONFIG,
        urls={"api": {"public": f"{simulator.url}/api/v3", "ws": {"spot": f"{simulator.ws_url}/stream/ws"}}},
        options={"fetchMarkets": {"types": ["spot"]}},
    )


class Run:
    """A ccxt collector at work, and its log once it has stopped."""

    def __init__(self, url: str, config: CcxtConfig) -> None:
        self.stats = Stats()
        self.log = open_log(url)
        self.log.create(Topics().specs(2))
        self.pipeline = Pipeline(self.log.appender(), "market.raw", stats=self.stats)
        self.collector = CcxtCollector(config, self.pipeline, self.stats, SystemClock())
        self.collecting: asyncio.Task[None] | None = None

    def count(self, kind: str) -> int:
        return self.stats.by(metrics.EVENTS, 2).get(kind, 0)

    async def until(self, reached: Callable[[], bool], within: float = 30.0) -> None:
        async with asyncio.timeout(within):
            while not reached():
                if self.collecting is not None and self.collecting.done():
                    self.collecting.result()
                await asyncio.sleep(0.01)


@asynccontextmanager
async def running(tmp_path: Path, config: CcxtConfig) -> AsyncIterator[Run]:
    run = Run(f"sqlite:///{tmp_path / 'raw.db'}", config)
    writing, collecting = asyncio.create_task(run.pipeline.run()), asyncio.create_task(run.collector.run())
    run.collecting = collecting
    try:
        yield run
        if collecting.done():
            collecting.result()
    finally:
        collecting.cancel()
        await asyncio.gather(collecting, return_exceptions=True)
        run.pipeline.close()
        await writing


def trade_ids(events: list[AnyEvent]) -> list[int]:
    return [int(event.id) for event in events if isinstance(event, Trade)]


@on_loop
async def test_books_trades_and_tickers_of_every_symbol(tmp_path: Path):
    market = SyntheticMarket(symbols=2, rate=200, seed=8, duration=20)
    async with Simulator(market, speed=4.0) as simulator, running(tmp_path, to(simulator)) as run:
        await run.until(simulator.ended.is_set)
        done = run.stats.of(metrics.FRAMES)
        await run.until(lambda: run.stats.of(metrics.FRAMES) >= done and run.count("heartbeat") >= 2)
    found = read_all(run.log)
    assert set(found) == {BTC, "binance|ETH/USDT"}
    for key, events in found.items():
        native = events[0].native
        books = [event for event in events if isinstance(event, BookSnapshot)]
        assert all(event.conflated and event.source == "ccxt" and event.clock == 0 for event in books)
        assert isinstance(events[0], Reset), "what came before this connection is unknown"
        truth = market.book(native, 20)
        last = books[-1]
        assert last.seq == truth.last_id
        assert struct.unpack("<40d", last.bids) == tuple(float(x) for level in truth.bids for x in level)
        assert struct.unpack("<40d", last.asks) == tuple(float(x) for level in truth.asks for x in level)
        offered = simulator.hub.offered[f"{native.lower()}@depth@100ms"]
        assert len(books) <= sum(book.updates for book in books) <= offered + 1, "each diff, and the first snapshot"
        assert sum(book.updates for book in books) >= 0.9 * offered
        ids = trade_ids(events)
        assert ids == list(range(ids[0], market.tape(native).latest(1)[0].id + 1)), key
        tickers = [event for event in events if isinstance(event, Ticker)]
        assert tickers
        assert all(event.bid is not None and event.ask is not None and event.raw for event in tickers)
        beats = [event for event in events if isinstance(event, Heartbeat)]
        assert beats
        assert all(beat.ts is not None for beat in beats)
    run.log.close()


@on_loop
async def test_lost_connections_gaps_and_garbage_cost_no_trade(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    market = SyntheticMarket(symbols=2, rate=100, seed=9)
    async with (
        Simulator(market, speed=3.0) as simulator,
        running(tmp_path, replace(to(simulator), stall_timeout=2.0)) as run,
    ):

        async def flows() -> None:
            """Books and trades of both symbols arrive."""
            before = (run.count("book_snapshot"), run.count("trade"))
            await run.until(lambda: run.count("book_snapshot") > before[0] + 10 and run.count("trade") > before[1] + 10)

        await flows()
        simulator.inject(Fault("garbage", "BTCUSDT", count=2))
        await run.until(lambda: run.stats.of(metrics.BAD_FRAMES) >= 2)
        await flows()
        simulator.inject(Fault("skip", "BTCUSDT"))
        await run.until(lambda: run.stats.by(metrics.RESETS, 2).get("checksum", 0) >= 1)
        await flows()
        resets = run.stats.by(metrics.RESETS, 2)["reconnect"]
        simulator.inject(Fault("drop"))
        await run.until(lambda: run.stats.by(metrics.RESETS, 2)["reconnect"] >= resets + 2)
        await flows()
        simulator.inject(Fault("stall", seconds=3.0))
        await run.until(lambda: run.stats.by(metrics.DISCONNECTS, 2).get("stalled", 0) >= 1)
        await flows()
        await run.until(lambda: not any(key.held for key in run.collector._keys.values()))
        await flows()
    for key, events in read_all(run.log).items():
        assert KeyReader().read(events).unexcused_trade_gaps == 0, key
        incomplete = [event.detail for event in events if isinstance(event, Reset) and event.incomplete]
        at_the_end = "trades may be missing: the collector stopped"
        assert [detail for detail in incomplete if detail != at_the_end] == ["first connection"], incomplete
        assert any(event.backfilled for event in events if isinstance(event, Trade)), key
    assert "does not parse" in caplog.text
    run.log.close()


@on_loop
async def test_an_unknown_symbol_is_named_and_the_others_go_on(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    async with Simulator(SyntheticMarket(symbols=1, rate=100), speed=2.0) as simulator:
        config = replace(to(simulator), symbols=("BTC/USDT", "BTC/USTD"))
        async with running(tmp_path, config) as run:
            await run.until(lambda: run.count("book_snapshot") > 3)
        assert set(read_all(run.log)) == {BTC}
        assert "BTC/USTD" in caplog.text
        assert "nearest: BTC/USDT" in caplog.text
        run.log.close()
        with pytest.raises(UnknownSymbol, match="FOO/BAR"):
            await Run(f"sqlite:///{tmp_path / 'none.db'}", replace(config, symbols=("FOO/BAR",))).collector.run()


def test_an_unknown_exchange_names_its_neighbours():
    with pytest.raises(ConfigError, match="binnance") as caught:
        make_exchange(replace(CONFIG, exchange="binnance"))
    assert "binance" in caught.value.hint


def test_keys_reach_ccxt_and_no_repr():
    config = replace(CONFIG, api_key="open sesame", secret="hush")
    assert "sesame" not in repr(config)
    assert "hush" not in repr(config)
    exchange = make_exchange(config)
    assert (exchange.apiKey, exchange.secret) == ("open sesame", "hush")


def test_a_book_is_copied_to_its_depth():
    live = {"bids": [[10.0, 1.0, 3], [9.0, 2.0, 1], [8.0, 1.0, 1]], "asks": [[11.0, 4.0]], "timestamp": 5, "nonce": 77}
    event = book_of(live, 2, STAMP, updates=3)
    live["bids"][0][0] = 0.0
    assert struct.unpack("<4d", event.bids) == (10.0, 1.0, 9.0, 2.0)
    assert (event.ts, event.seq, event.updates, event.conflated) == (5_000_000, 77, 3, True)
    timeless = book_of({"bids": [], "asks": [], "timestamp": None, "nonce": None}, 2, STAMP, updates=0)
    assert (timeless.ts, timeless.seq, timeless.updates, timeless.bids) == (None, None, 1, b"")
    with pytest.raises(ValueError, match="finite"):
        book_of({"bids": [[float("nan"), 1.0]], "asks": []}, 2, STAMP, updates=1)
    with pytest.raises(TypeError):
        book_of({"bids": [[None, 1.0]], "asks": []}, 2, STAMP, updates=1)


def test_a_trade_of_unknown_side_and_a_ticker_of_nothing():
    trade = trade_of(
        {"id": None, "price": 1.5, "amount": 2, "side": None, "timestamp": 9, "info": {"p": "1.50"}}, STAMP
    )
    assert (trade.id, trade.side, trade.price, trade.size, trade.ts) == ("", 0, 1.5, 2.0, 9_000_000)
    assert trade.raw == b'{"p":"1.50"}'
    with pytest.raises(ValueError, match="nan"):
        trade_of({"id": "1", "price": float("nan"), "amount": 1}, STAMP)
    ticker = ticker_of({"last": 3.0, "bid": float("nan")}, STAMP)
    assert (ticker.last, ticker.bid, ticker.ts, ticker.raw) == (3.0, None, None, None)


def test_seen_forgets_the_oldest_and_never_an_empty_id():
    seen = Seen(size=2)
    assert not seen
    assert [seen.add(id_) for id_ in ("a", "a", "", "", "b", "c", "a")] == [True, False, True, True, True, True, True]
    assert "b" not in seen
    assert "c" in seen
