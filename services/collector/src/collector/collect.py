"""The collector as a whole: every configured exchange, one pipeline, one log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Protocol

from collector.binance import ENDPOINTS, Endpoints
from collector.connection import NativeConfig
from collector.native import NativeCollector
from collector.pipeline import Pipeline
from collector.stats import Stats
from fluxforge import metrics
from fluxforge.clock import Clock
from fluxforge.errors import ConfigError
from fluxforge.log import Log
from fluxforge.settings import NativeExchange, Settings

_log = logging.getLogger(__name__)


class Source(Protocol):
    """One exchange by one road."""

    async def run(self) -> None: ...


async def collect(settings: Settings, log: Log, stop: asyncio.Event, clock: Clock) -> Stats:
    """Collect into `log` until `stop` is set; then stop the sockets, drain the queue and flush.

    A source that fails for good (an exchange that lists none of its symbols) ends alone and is logged; when every one
    has, the last one's error is raised.
    """
    require_exchanges(settings)
    stats = Stats()
    capacity = settings.ingestion.queue_size
    pipeline = Pipeline(log.appender(), settings.topic_names().raw, stats=stats, capacity=capacity)
    metrics.QUEUE_CAPACITY.set(capacity)
    writing = asyncio.create_task(pipeline.run())
    reporting = asyncio.create_task(_report(pipeline, stats, settings.ingestion.stats_interval))
    running = [asyncio.create_task(source.run()) for source in sources(settings, pipeline, stats, clock)]
    try:
        await _supervise(running, stop, writing)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        reporting.cancel()
        pipeline.close()
        await writing
        stats.publish()
        _log.info("stopped; %s", stats.line(len(pipeline)))
    return stats


def require_exchanges(settings: Settings) -> None:
    """Raises ConfigError where no exchange is configured."""
    if not settings.native and not settings.ccxt.exchanges:
        raise ConfigError(
            "no exchange is configured", hint="add binance, binanceus or ccxt.exchanges to config.yaml, with symbols"
        )


def sources(settings: Settings, pipeline: Pipeline, stats: Stats, clock: Clock) -> Iterable[Source]:
    """One source per configured exchange. ccxt is imported only where it is wanted: it costs 100 MB."""
    for name, section in settings.native.items():
        yield NativeCollector(native_config(name, section, settings), pipeline, stats, clock)
    if settings.ccxt.exchanges:
        from collector.ccxt_pro import CcxtCollector  # noqa: PLC0415
        from collector.ccxt_settings import ccxt_config  # noqa: PLC0415

        for name, exchange in settings.ccxt.exchanges.items():
            yield CcxtCollector(ccxt_config(name, exchange, settings), pipeline, stats, clock)


def native_config(name: str, section: NativeExchange, settings: Settings) -> NativeConfig:
    """The native adapter's plain arguments; base URLs of the settings go before the exchange's own."""
    own = ENDPOINTS[name]
    return NativeConfig(
        exchange=name,
        symbols=section.symbols,
        channels=section.channels,
        endpoints=Endpoints(section.rest or own.rest, section.ws or own.ws, own.api),
        collector=settings.collector.id,
        stall_timeout=settings.collector.stall_timeout,
        refresh_interval=settings.collector.refresh_interval,
    )


async def _supervise(running: list[asyncio.Task[None]], stop: asyncio.Event, writing: asyncio.Task[None]) -> None:
    stopping = asyncio.create_task(stop.wait())
    alive = set(running)
    try:
        while alive:
            done, _ = await asyncio.wait({*alive, stopping, writing}, return_when=asyncio.FIRST_COMPLETED)
            if stopping in done:
                return
            if writing in done:
                writing.result()
                return
            for task in done:
                alive.discard(task)
                error = task.exception()
                if error is not None and not alive:
                    raise error
                _log.error("a source has ended: %s", error)
    finally:
        stopping.cancel()


async def _report(pipeline: Pipeline, stats: Stats, interval: float) -> None:
    """Gauges each second, a line of statistics each `interval` s."""
    loop = asyncio.get_running_loop()
    said = loop.time()
    while True:
        await asyncio.sleep(1.0)
        stats.publish()
        metrics.QUEUE.set(len(pipeline))
        if loop.time() - said >= interval:
            said = loop.time()
            _log.info("%s", stats.line(len(pipeline)))
