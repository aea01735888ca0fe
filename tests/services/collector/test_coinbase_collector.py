"""The Coinbase adapter against a simulated exchange, into a real log, with everything going wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from collector.feed import NativeConfig
from collector.venues.coinbase import Coinbase
from fluxforge import metrics
from fluxforge.events import BookSnapshot, Reset, Trade
from native_run import Run, check_against_the_exchange, running
from on_loop import on_loop
from simulator.coinbase.venue import Coinbase as CoinbaseServer
from simulator.faults import Fault
from simulator.server import Simulator
from simulator.synthetic import SyntheticMarket

BTC = "BTC-USD"
CONFIG = NativeConfig(
    venue=Coinbase(),
    symbols=("BTC/USD", "ETH/USD"),
    channels=("orderbook", "trades", "ticker"),
    collector="c1",
    stall_timeout=20.0,
)


def exchange(seconds: float = 60, speed: float = 6.0) -> Simulator:
    return Simulator(
        SyntheticMarket(symbols=2, rate=100, seed=3, duration=seconds), CoinbaseServer(messages=None), speed=speed
    )


def synced(run: Run) -> bool:
    return run.stats.of(metrics.RESYNCS) >= 2


@on_loop
async def test_every_update_and_trade_arrives(tmp_path: Path):
    async with exchange(8, speed=4.0) as simulator, running(tmp_path, simulator, CONFIG) as run:
        await run.until(lambda: simulator.ended.is_set() and run.synced_to_the_end())
    btc = check_against_the_exchange(run)["coinbase|BTC/USD"]
    assert btc.resets == {"reconnect": 1}
    assert btc.diffs > 50
    assert run.stats.of(metrics.GAPS) == run.stats.of(metrics.BAD_FRAMES) == 0
    trades = [event for event in run.events()["coinbase|BTC/USD"] if isinstance(event, Trade)]
    tape = {one.id: one for one in simulator.market.tape("BTCUSDT").prints}
    for trade in trades:
        true = tape[int(trade.id)]
        assert (trade.price, trade.size) == (float(true.price), float(true.size))
        assert trade.side == (-1 if true.maker else 1), "the side is the taker's"
        assert not trade.backfilled
    run.log.close()


@on_loop
async def test_a_gap_in_the_connections_sequence_resets_and_renews_every_book(tmp_path: Path):
    """A message is lost, and nobody knows of which channel or symbol."""
    async with exchange() as simulator, running(tmp_path, simulator, CONFIG) as run:
        await run.until(lambda: synced(run))
        for channel in ("level2", "market_trades", "ticker"):
            before = {native: market.sync.counts["gaps"] for native, market in run.feed().markets.items()}
            connects = run.stats.of(metrics.CONNECTS)
            simulator.inject(Fault("skip", BTC, channel))
            await run.until(
                lambda before=before: all(
                    market.sync.counts["gaps"] > before[native] for native, market in run.feed().markets.items()
                )
            )
            await run.until(lambda: all(not m.sync.wants_snapshot for m in run.feed().markets.values()))
            assert run.stats.of(metrics.CONNECTS) == connects, "the socket stays"
        await run.until(lambda: simulator.ended.is_set() and run.synced_to_the_end())
    readers = check_against_the_exchange(run)
    assert all(reader.resets["gap"] >= 3 for reader in readers.values())
    assert readers["coinbase|BTC/USD"].backfilled > 0, "the trades of the lost message came over REST"
    numbers = [int(e.id) for e in run.events()["coinbase|BTC/USD"] if isinstance(e, Trade)]
    assert numbers == list(range(numbers[0], numbers[-1] + 1))
    run.log.close()


@on_loop
async def test_every_fault_is_seen_and_repaired(tmp_path: Path):
    config = replace(CONFIG, refresh_interval=0.5, stall_timeout=1.5)
    async with exchange() as simulator, running(tmp_path, simulator, config) as run:
        await run.until(lambda: synced(run))
        market = run.feed().markets[BTC]

        async def hit(fault: Fault, counted: Callable[[], int]) -> None:
            before = counted()
            simulator.inject(fault)
            await run.until(lambda: counted() > before and not market.sync.wants_snapshot and not market.holding)

        await hit(Fault("reorder", BTC), lambda: market.sync.counts["gaps"])
        await hit(Fault("garbage", BTC), lambda: run.stats.of(metrics.BAD_FRAMES))
        await hit(Fault("garbage", BTC, replace=True), lambda: market.sync.counts["gaps"])
        await hit(Fault("drop"), lambda: run.stats.of(metrics.CONNECTS))
        simulator.inject(Fault("refuse", seconds=0.5))
        await hit(Fault("drop"), lambda: run.stats.of(metrics.CONNECTS))
        await hit(Fault("stall", seconds=2.0), lambda: run.stats.by(metrics.DISCONNECTS, 2).get("stalled", 0))
        await run.until(lambda: simulator.ended.is_set() and run.synced_to_the_end())
    btc = check_against_the_exchange(run)["coinbase|BTC/USD"]
    assert btc.resets["gap"] >= 2
    assert btc.resets["reconnect"] >= 4
    incomplete = [e for e in run.events()["coinbase|BTC/USD"] if isinstance(e, Reset) and e.incomplete]
    assert [reset.detail for reset in incomplete] == ["first trade to come"], "every missed trade was fetched"
    numbers = [int(e.id) for e in run.events()["coinbase|BTC/USD"] if isinstance(e, Trade)]
    assert numbers == list(range(numbers[0], numbers[-1] + 1))
    run.log.close()


@on_loop
async def test_a_book_that_drifted_is_found_by_the_audit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("collector.repairs.CACHED_S", 0.2)
    config = replace(CONFIG, audit_interval=1.0)
    async with exchange(30, speed=2.0) as simulator, running(tmp_path, simulator, config) as run:
        await run.until(lambda: synced(run))
        await run.until(lambda: run.stats.of(metrics.AUDITS) >= 3)
        assert run.stats.of(metrics.DRIFTED) == 0
        market = run.feed().markets[BTC]
        market.sync.book.bids[min(market.sync.book.bids)] += 1.0
        await run.until(lambda: market.sync.counts["mismatches"] > 0)
        await run.until(lambda: not market.sync.wants_snapshot and run.stats.of(metrics.DRIFTED) > 0)
        assert market.sync.counts["mismatches"] == 1
    events = run.events()["coinbase|BTC/USD"]
    [at] = [at for at, event in enumerate(events) if isinstance(event, Reset) and event.reason == "mismatch"]
    assert any(isinstance(event, BookSnapshot) and not event.refresh for event in events[at:])
    run.log.close()
