"""What a collector tells while it works: whether it is ready, its queue, its log, so many markets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from collector.collect import collect
from fluxforge import condition, service
from fluxforge.clock import SystemClock
from fluxforge.condition import Condition
from fluxforge.settings import Settings
from observability.served import series, value
from on_loop import on_loop
from simulator.server import Simulator
from simulator.synthetic import SyntheticMarket


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> Condition:
    made = Condition()
    monkeypatch.setattr(condition, "PROCESS", made)
    return made


async def until(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(100):
        while not reached():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def settings(tmp_path: Path, simulator: Simulator, **more: Any) -> Settings:
    return Settings.model_validate(
        {
            "broker": {"url": f"sqlite:///{tmp_path / 'raw.db'}"},
            "collector": {"id": tmp_path.name},
            "binance": {"symbols": ["BTC/USDT", "ETH/USDT"], "rest": simulator.url, "ws": simulator.ws_url},
            **more,
        }
    )


@on_loop
async def test_is_ready_once_its_sockets_are_subscribed_and_no_longer_without_them(
    tmp_path: Path, process: Condition
) -> None:
    simulator = Simulator(SyntheticMarket(symbols=2, rate=50, seed=4), speed=1.0)
    stop = asyncio.Event()
    async with simulator:
        given = settings(tmp_path, simulator, metrics={"markets": 1})
        log = service.open_log(given)
        log.create(given.topic_specs())
        collecting = asyncio.create_task(collect(given, log, stop, SystemClock()))
        await until(lambda: process.unready != condition.STARTING)
        await until(lambda: process.unready == "")
        id_ = given.collector.id
        await until(lambda: bool(value("fluxforge_log_write_seconds_count", collector=id_)))
        assert value("fluxforge_queue_capacity_events", collector=id_) == 100_000
        assert value("fluxforge_gaps_total", source="binance", exchange="binance") is not None, "at 0 from the start"
        heard = series("fluxforge_market_heard_timestamp_seconds")
        assert [each for each in heard if each["source"] == "binance"] == [
            {"source": "binance", "exchange": "binance", "symbol": "BTC/USDT"}
        ]
    await until(lambda: process.unready == "binance: 0 of 1 sockets are subscribed")
    stop.set()
    await collecting
    log.close()


@on_loop
async def test_a_source_that_ends_for_good_is_told(tmp_path: Path, process: Condition) -> None:
    async with Simulator(SyntheticMarket(symbols=2, rate=50, seed=4), speed=1.0) as simulator:
        given = settings(tmp_path, simulator)
        other = {"symbols": ["NO/SUCH"], "rest": simulator.url, "ws": simulator.ws_url}
        given = Settings.model_validate({**given.model_dump(exclude_unset=True), "binanceus": other})
        stop = asyncio.Event()
        log = service.open_log(given)
        log.create(given.topic_specs())
        collecting = asyncio.create_task(collect(given, log, stop, SystemClock()))
        await until(lambda: process.unready == "a source has ended")
        stop.set()
        await collecting
        log.close()
