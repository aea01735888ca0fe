"""The native collector against a simulated exchange, into a real log, with everything going wrong."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from collector.feed import NativeConfig
from collector.venues.binance import Binance
from fluxforge import metrics
from fluxforge.errors import UnknownSymbol
from fluxforge.events import Reset, Trade
from native_run import check_against_the_exchange, running
from on_loop import on_loop
from simulator.faults import Fault
from simulator.pump import Start
from simulator.recorded import RecordedMarket
from simulator.server import Simulator
from simulator.synthetic import SyntheticMarket

BTC = "binance|BTC/USDT"


CONFIG = NativeConfig(
    venue=Binance("binance"),
    symbols=("BTC/USDT", "ETH/USDT"),
    channels=("orderbook", "trades", "ticker"),
    collector="c1",
    stall_timeout=20.0,
)


def synthetic(seconds: float, **options: float) -> SyntheticMarket:
    return SyntheticMarket(symbols=2, rate=100, seed=3, duration=seconds)


@pytest.mark.recordings
@on_loop
async def test_a_recording_at_full_speed_arrives_whole(recordings: Path, tmp_path: Path):
    files = sorted(recordings.glob("binance_spot/*_*.gz"))  # noqa: ASYNC240
    config = replace(CONFIG, channels=("orderbook", "trades"), refresh_interval=1.0)
    async with (
        Simulator(RecordedMarket(files), speed=None, start=Start(4)) as simulator,
        running(tmp_path, simulator, config) as run,
    ):
        await run.until(lambda: simulator.ended.is_set() and run.synced_to_the_end(), within=300)
    readers = check_against_the_exchange(run)
    btc, eth = readers[BTC], readers["binance|ETH/USDT"]
    assert (btc.diffs, btc.trades) == (6495, 19904)
    assert (eth.diffs, eth.trades) == (6470, 14515)
    assert btc.resets == eth.resets == {"reconnect": 1}
    assert btc.books == 1
    assert btc.refreshes > 0
    assert run.stats.of(metrics.GAPS) == run.stats.of(metrics.BAD_FRAMES) == 0
    run.log.close()


@on_loop
async def test_every_fault_is_seen_repaired_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    async with (
        Simulator(synthetic(60), speed=6.0) as simulator,
        running(tmp_path, simulator, replace(CONFIG, refresh_interval=0.5, stall_timeout=1.5)) as run,
    ):
        await run.until(lambda: run.stats.of(metrics.RESYNCS) == 2)
        market = run.feed().markets["BTCUSDT"]

        async def hit(fault: Fault, counted: Callable[[], int]) -> None:
            before = counted()
            simulator.inject(fault)
            await run.until(lambda: counted() > before and not market.wants_snapshot and not market.holding)

        await hit(Fault("skip", "BTCUSDT"), lambda: market.sync.counts["gaps"])
        await hit(Fault("repeat", "BTCUSDT"), lambda: market.sync.counts["duplicates"])
        await hit(Fault("reorder", "BTCUSDT"), lambda: market.sync.counts["gaps"])
        await hit(Fault("garbage", "BTCUSDT"), lambda: run.stats.of(metrics.BAD_FRAMES))
        await hit(Fault("garbage", "BTCUSDT", replace=True), lambda: market.sync.counts["gaps"])
        await hit(Fault("skip", "BTCUSDT", "trade", count=3), lambda: market.line.counts["backfilled"])
        await hit(Fault("repeat", "BTCUSDT", "trade"), lambda: market.line.counts["duplicates"])
        await hit(Fault("drop"), lambda: run.stats.of(metrics.CONNECTS))
        simulator.inject(Fault("refuse", seconds=0.5))
        await hit(Fault("drop"), lambda: run.stats.of(metrics.CONNECTS))
        await hit(Fault("stall", seconds=2.0), lambda: run.stats.by(metrics.DISCONNECTS, 2).get("stalled", 0))
        await run.until(lambda: simulator.ended.is_set() and run.synced_to_the_end())
        assert len(simulator.log) >= 11
    readers = check_against_the_exchange(run)
    btc = readers[BTC]
    assert btc.resets["gap"] >= 3
    assert btc.resets["reconnect"] >= 4
    assert btc.backfilled >= 3
    assert btc.refreshes > 0
    tape = simulator.market.tape("BTCUSDT")
    incomplete = [e for e in run.events()[BTC] if isinstance(e, Reset) and e.incomplete]
    assert [reset.detail for reset in incomplete] == ["first trade to come"], "every missed trade was fetched"
    numbers = [int(e.id) for e in run.events()[BTC] if isinstance(e, Trade)]
    assert numbers == list(range(numbers[0], numbers[-1] + 1))
    assert numbers[-1] == max(trade.id for trade in tape.latest(1))
    assert any("does not parse" in record.message for record in caplog.records)
    run.log.close()


@on_loop
async def test_trades_that_cannot_be_had_are_said_to_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("collector.fetches.HOLD_S", 0.5)
    monkeypatch.setattr("collector.fetches.GRACE_S", 0.2)
    async with (
        Simulator(synthetic(20), speed=4.0) as simulator,
        running(tmp_path, simulator, CONFIG) as run,
    ):
        await run.until(lambda: run.stats.of(metrics.RESYNCS) == 2)
        market = run.feed().markets["BTCUSDT"]
        await run.until(lambda: market.line.last is not None)
        simulator.inject(Fault("http", seconds=1.5, status=429))
        simulator.inject(Fault("skip", "BTCUSDT", "trade"))
        await run.until(lambda: market.line.counts["incomplete"] == 1)
        await run.until(lambda: simulator.ended.is_set() and run.synced_to_the_end())
    btc = check_against_the_exchange(run)[BTC]
    [reset] = [e for e in run.events()[BTC] if isinstance(e, Reset) and e.reason == "gap"]
    assert reset.incomplete
    assert "429" in reset.detail
    assert btc.books >= 2, "the book stands again behind the Reset"
    run.log.close()


@on_loop
async def test_silence_gives_heartbeats_that_do_not_outrun_the_data(tmp_path: Path):
    async with (
        Simulator(SyntheticMarket(symbols=2, rate=20, seed=5, rebase=True), speed=1.0) as simulator,
        running(tmp_path, simulator, CONFIG) as run,
    ):
        await run.until(lambda: run.stats.of(metrics.RESYNCS) == 2)
        simulator.pump.pause()
        await run.until(lambda: run.stats.by(metrics.EVENTS, 2).get("heartbeat", 0) >= 4)
        simulator.pump.resume()
        seen = run.stats.of(metrics.FRAMES)
        await run.until(lambda: run.stats.of(metrics.FRAMES) > seen + 50)
    for events in run.events().values():
        beats = [e for e in events if type(e).__name__ == "Heartbeat"]
        assert len(beats) >= 2
        for beat in beats:
            assert beat.ts is not None
            assert abs(beat.capture_ts + beat.skew - 10**9 - beat.ts) == 0
    run.log.close()


@on_loop
async def test_an_unknown_symbol_is_named_and_the_others_go_on(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    config = replace(CONFIG, symbols=("BTC/USDT", "ETH/USTD"))
    async with (
        Simulator(synthetic(3), speed=3.0) as simulator,
        running(tmp_path, simulator, config) as run,
    ):
        await run.until(lambda: simulator.ended.is_set() and run.synced_to_the_end())
    assert set(run.events()) == {BTC}
    [said] = [record.message for record in caplog.records if record.levelno == logging.ERROR]
    assert "ETH/USTD" in said
    assert "ETH/USDT" in said
    run.log.close()


@on_loop
async def test_only_unknown_symbols_is_an_error(tmp_path: Path):
    with pytest.raises(UnknownSymbol, match="FOO/BAR"):
        async with (
            Simulator(synthetic(3)) as simulator,
            running(tmp_path, simulator, replace(CONFIG, symbols=("FOO/BAR",))) as run,
        ):
            await asyncio.wait_for(run.collector.run(), 120)


@on_loop
async def test_reads_in_batches_lose_nothing(tmp_path: Path):
    config = replace(CONFIG, read_batch=0.05)
    async with Simulator(synthetic(12), speed=4.0) as simulator, running(tmp_path, simulator, config) as run:
        await run.until(lambda: simulator.ended.is_set() and run.synced_to_the_end())
    btc = check_against_the_exchange(run)[BTC]
    assert btc.resets == {"reconnect": 1}
    pauses = sorted(b - a for a, b in pairwise(e.capture_ts for e in run.events()[BTC] if isinstance(e, Trade)))
    assert pauses[-10] > 40_000_000, "frames come in batches"
    run.log.close()


@on_loop
async def test_a_socket_that_is_lost_between_batches_is_replaced(tmp_path: Path):
    config = replace(CONFIG, read_batch=0.05)
    async with Simulator(synthetic(20), speed=4.0) as simulator, running(tmp_path, simulator, config) as run:
        await run.until(lambda: run.stats.of(metrics.RESYNCS) == 2)
        simulator.inject(Fault("drop"))
        await run.until(lambda: run.stats.of(metrics.CONNECTS) == 2)
        await run.until(lambda: simulator.ended.is_set() and run.synced_to_the_end())
    assert check_against_the_exchange(run)[BTC].resets == {"reconnect": 2}
    run.log.close()


@on_loop
async def test_a_book_that_drifted_is_found_by_the_audit_at_its_very_update(tmp_path: Path):
    config = replace(CONFIG, audit_interval=1.0)
    async with Simulator(synthetic(60), speed=4.0) as simulator, running(tmp_path, simulator, config) as run:
        await run.until(lambda: run.stats.of(metrics.RESYNCS) == 2)
        await run.until(lambda: run.stats.of(metrics.AUDITS) >= 4)
        assert run.stats.of(metrics.DRIFTED) == 0, "a true book is never held to be wrong"
        market = run.feed().markets["BTCUSDT"]
        market.sync.book.bids[min(market.sync.book.bids)] += 1.0
        await run.until(lambda: market.sync.counts["mismatches"] == 1 and not market.sync.wants_snapshot)
        await run.until(lambda: simulator.ended.is_set() and run.synced_to_the_end())
    btc = check_against_the_exchange(run)[BTC]
    assert btc.resets["mismatch"] == 1
    run.log.close()
