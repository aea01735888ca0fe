"""ccxt Pro's OKX, unmodified, against a simulated exchange: snapshots in the stream, and checksums."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from ccxt_run import running
from collector.ccxt_source.exchange import CcxtConfig
from collector.continuation import last_trades
from fluxforge import metrics
from fluxforge.clock import SystemClock
from fluxforge.events import AnyEvent, BookDelta, BookSnapshot, Reset, Trade
from on_loop import on_loop
from raw_log import read_all
from simulator.faults import Fault
from simulator.okx.venue import Okx
from simulator.server import Simulator
from simulator.synthetic import SyntheticMarket

CONFIG = CcxtConfig(
    exchange="okx",
    symbols=("BTC/USDT", "ETH/USDT"),
    channels=("orderbook", "trades", "ticker"),
    collector="c1",
)


def to(simulator: Simulator) -> CcxtConfig:
    """The configuration that sends ccxt's OKX to the simulator; nothing but addresses."""
    return replace(
        CONFIG,
        urls={"api": {"rest": simulator.url, "ws": f"{simulator.ws_url}/ws/v5"}},
        options={"fetchMarkets": {"types": ["spot"]}},
    )


def levels(side: Iterable[tuple[str, str]]) -> dict[float, float]:
    return {float(price): float(size) for price, size in side}


def trades_of(events: list[AnyEvent]) -> list[str]:
    return [event.id for event in events if isinstance(event, Trade)]


@on_loop
async def test_books_follow_their_numbers_and_checksums(tmp_path: Path):
    market = SyntheticMarket(symbols=2, rate=100, seed=8, duration=15)
    async with Simulator(market, Okx(), speed=3.0) as simulator, running(tmp_path, to(simulator)) as run:
        await run.until(simulator.ended.is_set)
        done = run.stats.of(metrics.FRAMES)
        await run.until(lambda: run.stats.of(metrics.FRAMES) >= done and run.count("heartbeat") >= 2)
    found = read_all(run.log)
    assert set(found) == {"okx|BTC/USDT", "okx|ETH/USDT"}
    for key, events in found.items():
        native = market.instruments[events[0].native.replace("-", "")].symbol
        assert [event.reason for event in events if isinstance(event, Reset)] == ["reconnect"], key
        assert sum(isinstance(event, BookSnapshot) and not event.refresh for event in events) == 1
        assert any(isinstance(event, BookDelta) for event in events)
        ids = trades_of(events)
        assert len(ids) == len(set(ids)) > 0
        follower = run.collector.sessions[0].followers[events[0].symbol]
        truth = market.book(native, 400)
        assert dict(follower.sync.book.bids) == levels(truth.bids)
        assert dict(follower.sync.book.asks) == levels(truth.asks)
    run.log.close()


@on_loop
async def test_one_bad_book_begins_anew_and_no_other(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    market = SyntheticMarket(symbols=2, rate=100, seed=9)
    async with Simulator(market, Okx(), speed=2.0) as simulator, running(tmp_path, to(simulator)) as run:

        async def flows() -> None:
            """Books and trades of both symbols arrive, and nothing is out of step."""
            before = (run.count("book_delta"), run.count("trade"))
            await run.until(lambda: run.count("book_delta") > before[0] + 10 and run.count("trade") > before[1] + 5)
            await run.until(run.books_stand)

        await flows()
        connects = run.stats.of(metrics.CONNECTS)
        simulator.inject(Fault("checksum", "BTC-USDT"))
        await run.until(lambda: run.resets("checksum") == 1)
        await flows()
        simulator.inject(Fault("skip", "BTC-USDT"))
        await run.until(lambda: run.resets("gap") == 1)
        await flows()
        assert run.stats.of(metrics.CONNECTS) == connects, "the same socket, a new subscription"
        simulator.inject(Fault("drop"))
        await run.until(lambda: run.stats.of(metrics.CONNECTS) > connects)
        await flows()
    for key, events in read_all(run.log).items():
        reasons = [event.reason for event in events if isinstance(event, Reset)]
        assert ("checksum" in reasons) == ("gap" in reasons) == (key == "okx|BTC/USDT"), reasons
        ids = trades_of(events)
        assert len(ids) == len(set(ids))
    run.log.close()


@on_loop
async def test_a_book_that_drifted_is_found_by_the_audit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The exchange gives no checksums any more, as it does since June 2026."""
    monkeypatch.setattr("collector.ccxt_source.repairs.CACHED_S", 0.2)
    market = SyntheticMarket(symbols=2, rate=100, seed=8)
    async with (
        Simulator(market, Okx(checksums=False), speed=1.0) as simulator,
        running(tmp_path, replace(to(simulator), audit_interval=1.0)) as run,
    ):
        await run.until(lambda: run.stats.of(metrics.AUDITS) >= 4)
        assert run.stats.of(metrics.DRIFTED) == 0, "a true book is never held to be wrong"
        connects = run.stats.of(metrics.CONNECTS)
        follower = run.collector.sessions[0].followers["BTC/USDT"]
        bids = follower.sync.book.bids
        bids[sorted(bids)[len(bids) // 2]] += 1.0
        await run.until(lambda: run.resets("mismatch") == 1 and not follower.wants_snapshot)
        await run.until(lambda: run.stats.of(metrics.DRIFTED) > 0)
        assert run.stats.of(metrics.CONNECTS) == connects, "the same socket, a new subscription"
    events = read_all(run.log)["okx|BTC/USDT"]
    [at] = [at for at, event in enumerate(events) if isinstance(event, Reset) and event.reason == "mismatch"]
    assert any(isinstance(event, BookSnapshot) and not event.refresh for event in events[at:])
    run.log.close()


@on_loop
async def test_a_restart_fetches_what_was_missed_in_between(tmp_path: Path):
    """One record of the socket may join fills that REST tells one by one: none may count twice."""
    market = SyntheticMarket(symbols=1, rate=100, seed=8, duration=40)
    config = replace(CONFIG, symbols=("BTC/USDT",))
    async with Simulator(market, Okx(), speed=4.0) as simulator:
        target = replace(to(simulator), symbols=config.symbols)
        async with running(tmp_path, target) as first:
            await first.until(lambda: first.count("trade") > 20)
        found = last_trades(first.log, "market.raw", "c1", ["okx"], SystemClock().now())
        first.log.close()
        assert set(found) == {"okx|BTC/USDT"}
        async with running(tmp_path, target, found) as second:
            await second.until(lambda: second.count("trade") > 40)
            await second.until(simulator.ended.is_set)
            await second.until(second.books_stand)
    events = read_all(second.log)["okx|BTC/USDT"]
    resets = [event for event in events if isinstance(event, Reset)]
    assert [reset.detail for reset in resets if reset.incomplete] == ["first trade to come"], "only of the first life"
    ids = trades_of(events)
    assert len(ids) == len(set(ids))
    assert any(isinstance(event, Trade) and event.backfilled for event in events)
    numbers = [int(number) for number in ids]
    lives = {event.connection for event in events if isinstance(event, Trade)}
    assert len(lives) >= 2
    true = [one.id for one in market.tape("BTCUSDT").prints if numbers[0] <= one.id <= numbers[-1]]
    sizes = sum(event.size for event in events if isinstance(event, Trade))
    assert sizes == pytest.approx(sum(float(one.size) for one in market.tape("BTCUSDT").prints if one.id in set(true)))
    second.log.close()
