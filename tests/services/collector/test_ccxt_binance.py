"""ccxt Pro's Binance, unmodified, against a simulated exchange: nothing of it may cost an event."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from ccxt_run import Run, running
from collector.ccxt_source.exchange import CcxtConfig, make_exchange
from fluxforge import metrics
from fluxforge.errors import ConfigError, UnknownSymbol
from fluxforge.events import AnyEvent, BookDelta, BookSnapshot, Heartbeat, Reset, Ticker, Trade
from on_loop import on_loop
from raw_log import KeyReader, read_all
from simulator.faults import Fault
from simulator.server import Simulator
from simulator.synthetic import SyntheticMarket

BTC = "binance|BTC/USDT"
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


def trade_ids(events: list[AnyEvent]) -> list[int]:
    return [int(event.id) for event in events if isinstance(event, Trade)]


def levels(side: Iterable[tuple[str, str]]) -> dict[float, float]:
    return {float(price): float(size) for price, size in side}


@on_loop
async def test_every_update_of_every_symbol_is_an_event(tmp_path: Path):
    market = SyntheticMarket(symbols=2, rate=200, seed=8, duration=20)
    async with Simulator(market, speed=4.0) as simulator, running(tmp_path, to(simulator)) as run:
        await run.until(simulator.ended.is_set)
        done = run.stats.of(metrics.FRAMES)
        await run.until(lambda: run.stats.of(metrics.FRAMES) >= done and run.count("heartbeat") >= 2)
    found = read_all(run.log)
    assert set(found) == {BTC, "binance|ETH/USDT"}
    for key, events in found.items():
        native = events[0].native
        assert all(event.source == "ccxt" and event.clock == 0 for event in events)
        assert not any(event.conflated for event in events if isinstance(event, BookSnapshot))
        assert isinstance(events[0], Reset), "what came before this connection is unknown"
        truth = market.book(native, 5000)
        reader = KeyReader().read(events)
        assert (reader.bids, reader.asks) == (levels(truth.bids), levels(truth.asks))
        assert reader.seq == truth.last_id
        diffs = [event.seq for event in events if isinstance(event, BookDelta)]
        assert len(diffs) == simulator.hub.offered[f"{native.lower()}@depth@100ms"], "each diff exactly once"
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
            """Books and trades of both symbols arrive, and nothing is out of step."""
            before = (run.count("book_delta"), run.count("trade"))
            await run.until(lambda: run.count("book_delta") > before[0] + 10 and run.count("trade") > before[1] + 10)
            await run.until(run.books_stand)

        await flows()
        simulator.inject(Fault("garbage", "BTCUSDT", count=2))
        await run.until(lambda: run.stats.of(metrics.BAD_FRAMES) >= 2)
        await flows()
        simulator.inject(Fault("skip", "BTCUSDT"))
        await run.until(lambda: run.resets("gap") >= 1)
        await flows()
        assert run.resets("gap") == 1, "the other symbol is untouched"
        resets = run.resets("reconnect")
        simulator.inject(Fault("drop"))
        await run.until(lambda: run.resets("reconnect") >= resets + 2)
        await flows()
        simulator.inject(Fault("stall", seconds=3.0))
        await run.until(lambda: run.stats.by(metrics.DISCONNECTS, 2).get("stalled", 0) >= 1)
        await flows()
    for key, events in read_all(run.log).items():
        assert KeyReader().read(events).unexcused_trade_gaps == 0, key
        incomplete = [event.detail for event in events if isinstance(event, Reset) and event.incomplete]
        assert incomplete[0] == "first trade to come"
        assert not [detail for detail in incomplete[1:] if not detail.endswith("the collector stopped")], incomplete
        assert any(event.backfilled for event in events if isinstance(event, Trade)), key
    assert "does not parse" in caplog.text
    run.log.close()


@on_loop
async def test_a_book_that_drifted_is_found_by_the_audit_at_its_very_update(tmp_path: Path):
    market = SyntheticMarket(symbols=2, rate=100, seed=9)
    async with (
        Simulator(market, speed=2.0) as simulator,
        running(tmp_path, replace(to(simulator), audit_interval=1.0)) as run,
    ):
        await run.until(lambda: run.stats.of(metrics.AUDITS) >= 4)
        assert run.stats.of(metrics.DRIFTED) == 0, "a true book is never held to be wrong"
        follower = run.collector.sessions[0].followers["BTC/USDT"]
        best, second = sorted(follower.sync.book.bids, reverse=True)[:2]
        follower.sync.book.bids[(best + second) / 2] = 1.0  # no update is ever of this level
        await run.until(lambda: run.resets("mismatch") >= 1 and not follower.wants_snapshot)
    events = read_all(run.log)[BTC]
    assert [event.reason for event in events if isinstance(event, Reset)].count("mismatch") == 1
    run.log.close()


@on_loop
async def test_an_unknown_symbol_is_named_and_the_others_go_on(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    async with Simulator(SyntheticMarket(symbols=1, rate=100), speed=2.0) as simulator:
        config = replace(to(simulator), symbols=("BTC/USDT", "BTC/USTD"))
        async with running(tmp_path, config) as run:
            await run.until(lambda: run.count("book_delta") > 3)
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
