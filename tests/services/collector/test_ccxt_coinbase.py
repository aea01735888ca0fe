"""ccxt Pro's Coinbase, unmodified, against a simulated exchange: one sequence over all channels of a socket."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from ccxt_run import running
from collector.ccxt_source.exchange import CcxtConfig
from fluxforge import metrics
from fluxforge.events import AnyEvent, BookDelta, BookSnapshot, Reset, Ticker, Trade
from on_loop import on_loop
from raw_log import KeyReader, read_all
from simulator.coinbase.venue import Coinbase
from simulator.faults import Fault
from simulator.server import Simulator
from simulator.synthetic import SyntheticMarket

BTC = "coinbase|BTC/USD"
CONFIG = CcxtConfig(
    exchange="coinbase",
    symbols=("BTC/USD", "ETH/USD"),
    channels=("orderbook", "trades", "ticker"),
    collector="c1",
)


def to(simulator: Simulator) -> CcxtConfig:
    """The configuration that sends ccxt's Coinbase to the simulator; nothing but addresses."""
    return replace(CONFIG, urls={"api": {"rest": simulator.url, "ws": simulator.ws_url}})


def levels(side: Iterable[tuple[str, str]]) -> dict[float, float]:
    return {float(price): float(size) for price, size in side}


def trade_ids(events: list[AnyEvent]) -> list[int]:
    return [int(event.id) for event in events if isinstance(event, Trade)]


@on_loop
async def test_every_update_and_trade_arrives(tmp_path: Path):
    market = SyntheticMarket(symbols=2, rate=100, seed=3, duration=15)
    async with Simulator(market, Coinbase(), speed=3.0) as simulator, running(tmp_path, to(simulator)) as run:
        await run.until(simulator.ended.is_set)
        done = run.stats.of(metrics.FRAMES)
        await run.until(lambda: run.stats.of(metrics.FRAMES) > done + 2 and run.count("heartbeat") >= 2)
    assert run.stats.of(metrics.GAPS) == run.stats.of(metrics.BAD_FRAMES) == 0
    found = read_all(run.log)
    assert set(found) == {BTC, "coinbase|ETH/USD"}
    for key, events in found.items():
        instrument = simulator.desk.symbols[events[0].native]
        assert [event.reason for event in events if isinstance(event, Reset)] == ["reconnect"], key
        truth = market.book(instrument, 10**6)
        reader = KeyReader().read(events)
        assert (reader.bids, reader.asks) == (levels(truth.bids), levels(truth.asks))
        assert sum(isinstance(event, BookDelta) for event in events) > 50
        tape = {one.id: one for one in market.tape(instrument).prints}
        trades = [event for event in events if isinstance(event, Trade)]
        ids = trade_ids(events)
        assert ids == list(range(ids[0], ids[-1] + 1))
        assert len(ids) > 100
        assert all(trade.side == (-1 if tape[int(trade.id)].maker else 1) for trade in trades), "the taker's"
        assert any(isinstance(event, Ticker) and event.bid is not None for event in events)
    run.log.close()


@on_loop
async def test_a_gap_in_the_sequence_and_a_lost_connection_cost_no_trade(tmp_path: Path):
    """A message is lost, and nobody knows of which channel or symbol; then the socket is."""
    market = SyntheticMarket(symbols=2, rate=100, seed=9)
    async with Simulator(market, Coinbase(), speed=4.0) as simulator, running(tmp_path, to(simulator)) as run:

        async def flows() -> None:
            """Books and trades of both symbols arrive, and nothing is out of step."""
            before = (run.count("book_delta"), run.count("trade"))
            await run.until(lambda: run.count("book_delta") > before[0] + 10 and run.count("trade") > before[1] + 5)
            await run.until(run.books_stand)

        await flows()
        connects = run.stats.of(metrics.CONNECTS)
        for at, channel in enumerate(("level2", "market_trades", "ticker"), 1):
            simulator.inject(Fault("skip", "BTC-USD", channel))
            await run.until(lambda at=at: run.resets("gap") >= 2 * at)
            await flows()
        assert run.stats.of(metrics.CONNECTS) == connects, "the same socket, new subscriptions"
        simulator.inject(Fault("drop"))
        await run.until(lambda: run.stats.of(metrics.CONNECTS) > connects)
        await flows()
    for key, events in read_all(run.log).items():
        assert KeyReader().read(events).unexcused_trade_gaps == 0, key
        ids = trade_ids(events)
        assert ids == list(range(ids[0], ids[-1] + 1)), "every missed trade was fetched"
        incomplete = [event.detail for event in events if isinstance(event, Reset) and event.incomplete]
        assert incomplete[0] == "first trade to come"
        assert not [detail for detail in incomplete[1:] if not detail.endswith("the collector stopped")], incomplete
        resets = [event.reason for event in events if isinstance(event, Reset)]
        assert resets.count("gap") >= 3, "the book of every symbol began anew"
        assert resets.count("reconnect") >= 2
        books = [event for event in events if isinstance(event, BookSnapshot) and not event.refresh]
        assert len(books) >= 5
    taken = [event for event in read_all(run.log)[BTC] if isinstance(event, Trade) and event.backfilled]
    tape = {one.id: one for one in market.tape("BTCUSDT").prints}
    assert taken
    assert all(trade.side == (-1 if tape[int(trade.id)].maker else 1) for trade in taken), "of fetched ones too"
    run.log.close()
