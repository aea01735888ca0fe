"""`python -m collector` as an operator runs it: the check, the run, the signal, what is left behind."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from fluxforge.errors import UnknownTopic
from fluxforge.events import AnyEvent, Reset, Trade
from fluxforge.log import Log, open_log
from fluxforge.topics import Topics
from on_loop import on_loop
from raw_log import KeyReader, read_all
from simulator.server import Simulator
from simulator.synthetic import SyntheticMarket


def configure(tmp_path: Path, simulator: Simulator, **more: object) -> Path:
    config = {
        "broker": {"url": f"sqlite:///{tmp_path / 'raw.db'}"},
        "binance": {"symbols": ["BTC/USDT"], "rest": simulator.url, "ws": simulator.ws_url},
        "metrics": {"port": None},
        "ingestion": {"stats_interval": 1},
        **more,
    }
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


async def collector(config: Path, *options: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "collector", "--config", str(config), *options,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, cwd=config.parent,
    )  # fmt: skip


async def said(process: asyncio.subprocess.Process) -> tuple[int, str]:
    async with asyncio.timeout(40):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode() + err.decode()


@on_loop
async def test_sigterm_drains_and_leaves_everything_in_the_log(tmp_path: Path):
    async with Simulator(SyntheticMarket(symbols=1, rate=300, seed=2), speed=1.0) as simulator:
        process = await collector(configure(tmp_path, simulator))
        assert process.stderr is not None
        lines: list[str] = []
        async with asyncio.timeout(120):
            while not any("trade=" in line for line in lines):
                lines.append((await process.stderr.readline()).decode())
        process.send_signal(signal.SIGTERM)
        code, rest = await said(process)
    assert code == 0, rest
    log = open_log(f"sqlite:///{tmp_path / 'raw.db'}")
    [events] = read_all(log).values()
    reader = KeyReader().read(events)
    assert reader.has_book
    assert reader.unexcused_trade_gaps == 0
    assert f"book_delta={reader.diffs} " in rest, "the last line counts what the log holds"
    assert f"trade={reader.trades} " in rest
    assert "queue=0" in rest
    log.close()


def by_ccxt(simulator: Simulator) -> dict[str, object]:
    """The same exchange by the other road."""
    urls = {"api": {"public": f"{simulator.url}/api/v3", "ws": {"spot": f"{simulator.ws_url}/stream/ws"}}}
    section = {"symbols": ["BTC/USDT"], "urls": urls, "options": {"fetchMarkets": {"types": ["spot"]}}}
    return {"binance": None, "ccxt": {"exchanges": {"binance": section}}}


@pytest.mark.parametrize("road", ["native", "ccxt"])
@on_loop
async def test_a_restart_makes_up_for_the_trades_it_missed(tmp_path: Path, road: str):
    log = open_log(f"sqlite:///{tmp_path / 'raw.db'}")
    # REST reaches back 1,000 trades: of 60 events a second, a minute
    async with Simulator(SyntheticMarket(symbols=1, rate=60, seed=2), speed=1.0) as simulator:
        config = configure(tmp_path, simulator, **(by_ccxt(simulator) if road == "ccxt" else {}))
        before, lives = 0, 0
        while lives < 2 or (lives < 6 and told_late(logged(log)[before:])):  # a stalled machine may miss the 10 s
            if lives:
                before = len(logged(log))
            process = await collector(config)
            async with asyncio.timeout(120):
                while not any(isinstance(event, Trade) for event in logged(log)[before:]):  # noqa: ASYNC110
                    await asyncio.sleep(0.5)
            process.kill()
            await said(process)
            lives += 1
    events = logged(log)
    assert KeyReader().read(events).unexcused_trade_gaps == 0
    assert isinstance(events[0], Reset) and events[0].incomplete, "no life before it"
    starts = [event for event in events[before:] if isinstance(event, Reset)]
    assert starts[0] is events[before] and starts[0].connection != events[before - 1].connection
    assert not any(start.incomplete for start in starts)
    # ccxt gives trades and books a socket each, and a life may have ended before its book's
    assert len(starts) in ([1] if road == "native" else [1, 2])
    trades = [event for event in events if isinstance(event, Trade)]
    earlier = sum(isinstance(event, Trade) for event in events[:before])
    numbers = [int(trade.id) for trade in trades[earlier - 1 :]]
    assert numbers == list(range(numbers[0], numbers[-1] + 1)), "the trades missed in between were fetched"
    assert any(trade.backfilled for trade in trades[earlier:])
    log.close()


def logged(log: Log) -> list[AnyEvent]:
    """The one market's events, as soon as there is a topic."""
    try:
        return next(iter(read_all(log).values()), [])
    except UnknownTopic:
        return []


def told_late(life: Sequence[AnyEvent]) -> bool:
    """Whether a life gave up on what the one before it missed, and said so."""
    return any(isinstance(event, Reset) and event.incomplete for event in life)


@on_loop
async def test_check_names_what_is_well_and_what_is_not(tmp_path: Path):
    async with Simulator(SyntheticMarket(symbols=2)) as simulator:
        config = configure(tmp_path, simulator)
        code, text = await said(await collector(config, "--check"))
        assert code == 0, text
        assert "market.raw will be created with 4 partitions" in text
        log = open_log(f"sqlite:///{tmp_path / 'raw.db'}")
        log.create(Topics().specs(4))
        log.close()
        code, text = await said(await collector(config, "--check"))
        assert code == 0, text
        assert "4 partitions" in text
        assert "binance: reached, 1 of 1 symbols are listed" in text
        config = configure(
            tmp_path, simulator, binance={"symbols": ["BTC/USTD"], "rest": simulator.url, "ws": simulator.ws_url}
        )
        code, text = await said(await collector(config, "--check"))
        assert code == 1
        assert "BTC/USTD" in text
        assert "BTC/USDT" in text
    code, text = await said(await collector(config, "--check"))
    assert code == 1
    assert "cannot be reached" in text


@pytest.mark.parametrize("options", [(), ("--check",)])
@on_loop
async def test_nothing_configured_is_said(tmp_path: Path, options: tuple[str, ...]):
    config = tmp_path / "config.yaml"
    config.write_text(
        yaml.safe_dump({"broker": {"url": f"sqlite:///{tmp_path / 'raw.db'}"}, "metrics": {"port": None}})
    )
    code, text = await said(await collector(config, *options))
    assert code == 2
    assert "no exchange is configured" in text


def test_a_native_collector_stays_small():
    """None of what weighs is loaded; a Raspberry Pi runs one of these per exchange."""
    heavy = ("ccxt", "confluent_kafka", "duckdb", "numba", "numpy", "pandas", "polars", "pyarrow", "rich")
    code = (
        "import sys, collector.__main__, collector.native, fluxforge.log.sqlite\n"
        f"print(*(name for name in {heavy!r} if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == ""
