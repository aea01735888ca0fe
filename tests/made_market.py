"""Feature rows and bars of a made-up market, as the topics carry them, and a page's server over them."""

from __future__ import annotations

import asyncio
import math
import random
import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from typing import Any

from aiohttp import web

from fluxforge import catalogue, rows
from fluxforge.clock import MS, NS
from fluxforge.kernels.config import FeatureConfig
from fluxforge.log import Log, Output
from fluxforge.settings import Settings
from fluxforge.topics import Topics
from fluxforge_cli.dashboard.server import application
from fluxforge_cli.dashboard.source import Source

CONFIG = FeatureConfig()
TICK = 0.5


def market(symbol: str = "BTC/USDT", exchange: str = "binance") -> dict[str, Any]:
    return {"exchange": exchange, "symbol": symbol, "source": exchange}


def feature_row(symbol: str, time: int, captured: int | None = None, exchange: str = "binance") -> dict[str, Any]:
    """Of a market that goes up and down; `time` in ns. The same for the same arguments."""
    second = time / NS
    mid = 60_000 + 20 * math.sin(second / 40) + 6 * math.sin(second / 7) + 0.25
    dice = random.Random(int(second) * 1000 + len(symbol))
    row: dict[str, Any] = {
        **market(symbol, exchange), "timestamp": time, "capture_ts": captured or time, "source_partition": 0,
        "source_offset": 0, "updates_since_last": 5, "sampling": "event", "quality": 0,
        **{f.name: math.sin(second / (3 + k)) for k, f in enumerate(catalogue.features(CONFIG))},
    }  # fmt: skip
    bid = math.floor(mid / TICK) * TICK
    for k in range(CONFIG.max_levels):
        row[f"bid_price_L{k}"], row[f"ask_price_L{k}"] = bid - k * TICK, bid + (k + 1) * TICK
        row[f"bid_size_L{k}"], row[f"ask_size_L{k}"] = (round(dice.expovariate(1.0) + 0.01, 5) for _ in "ba")
    return row | {"mid_price": bid + TICK / 2, "best_bid": bid, "best_ask": bid + TICK, "vpin": None}


def bar_row(symbol: str, start: int, duration: int, exchange: str = "binance", **more: Any) -> dict[str, Any]:
    """Of the same market; `start` in s."""

    def mid(at: float) -> float:
        return 60_000 + 20 * math.sin(at / 40) + 6 * math.sin(at / 7)

    path = [mid(start + k * duration / 8) for k in range(9)]
    own = {"open": path[0], "high": max(path), "low": min(path), "close": path[-1], "volume": 1 + math.sin(start) ** 2}
    return {
        **dict.fromkeys(rows.BARS.schema.names), **market(symbol, exchange), "timestamp": start * NS,
        "capture_ts": (start + duration) * NS, "source_partition": 0, "source_offset": 0, "bar_type": "time",
        "duration": duration, "trade_count": 3 * duration, "incomplete": False, **own, **more,
    }  # fmt: skip


def publish(log: Log, topic: str, found: Iterable[Mapping[str, Any]]) -> None:
    """Rows to their topic, in order, with the times of capture."""
    appender = log.appender()
    for row in found:
        key = f"{row['exchange']}|{row['symbol']}".encode()
        appender.append(Output(topic, key, rows.encode(row), (), row["capture_ts"] // MS))
    appender.flush()
    appender.close()


def publish_past(log: Log, topics: Topics, symbols: Iterable[str], now: int, seconds: int = 240) -> None:
    """A row a second and bars of 1, 5 and 60 s up to `now`, ns."""
    first, last = now // NS - seconds, now // NS
    publish(
        log,
        topics.features,
        (feature_row(symbol, at * NS + 5 * MS) for at in range(first, last + 1) for symbol in symbols),
    )
    publish(
        log,
        topics.bars,
        (
            bar_row(symbol, at - duration, duration)
            for at in range(first, last + 1)
            for duration in (1, 5, 60)
            for symbol in symbols
            if at % duration == 0
        ),
    )


class Page:
    """The dashboard's server on a thread of its own; `url` is its address."""

    def __init__(self, source: Source, settings: Settings, port: int = 0) -> None:
        self._started: Future[int] = Future()
        self._loop = asyncio.new_event_loop()
        self._runner = web.AppRunner(application(source, settings), access_log=None, shutdown_timeout=1.0)
        self._port = port
        self._thread = threading.Thread(target=self._run, name="page", daemon=True)

    def __enter__(self) -> Page:
        self._thread.start()
        self.port = self._started.result(20)
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """The server is gone when this returns; stopping it twice is no error."""
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(20)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(20)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._started.set_result(self._loop.run_until_complete(self._serve()))
            self._loop.run_forever()
        except OSError as error:
            self._started.set_exception(error)
        finally:
            self._loop.close()

    async def _serve(self) -> int:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        return int(self._runner.addresses[0][1])
