"""The collector as a whole: every configured exchange, one pipeline, one log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import Protocol

from collector.continuation import last_trades
from collector.feed import NativeConfig
from collector.native import NativeCollector
from collector.pipeline import Pipeline
from collector.stats import Stats
from collector.venues import venue_of
from fluxforge import condition, metrics
from fluxforge.clock import NS, Clock
from fluxforge.errors import ConfigError
from fluxforge.events import Trade
from fluxforge.log import Log
from fluxforge.settings import CcxtExchange, NativeExchange, Settings

_log = logging.getLogger(__name__)

PROBE_S, PROBE_STEP_S = 2.0, 0.02


class Source(Protocol):
    """One exchange by one road."""

    async def run(self) -> None: ...

    @property
    def waits_for(self) -> str:
        """What it lacks to follow all of its markets; "" where nothing."""


async def collect(settings: Settings, log: Log, stop: asyncio.Event, clock: Clock) -> Stats:
    """Collect into `log` until `stop` is set; then stop the sockets, drain the queue and flush.

    A source that fails for good (an exchange that lists none of its symbols) ends alone and is logged; when every one
    has, the last one's error is raised.
    """
    require_exchanges(settings)
    stats = Stats()
    capacity = settings.ingestion.queue_size
    names = settings.topic_names()
    wire = names.wire if settings.ingestion.capture_wire else None
    pipeline = Pipeline(log.appender(), names.raw, stats=stats, capacity=capacity, wire_topic=wire)
    metrics.QUEUE_CAPACITY.labels(settings.collector.id).set(capacity)
    writing = asyncio.create_task(pipeline.run())
    following: dict[Source, asyncio.Task[None]] = {}
    reporting = asyncio.create_task(_report(settings, pipeline, following, stats, clock))
    probing = asyncio.create_task(_probe(settings.collector.id, pipeline, stats))
    resume = await _left_off(settings, log, clock)
    for source in sources(settings, pipeline, stats, clock, resume):
        following[source] = asyncio.create_task(source.run())
    running = list(following.values())
    try:
        await _supervise(running, stop, writing)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        reporting.cancel()
        probing.cancel()
        for page in pipeline.ledger.close(clock.now()):
            pipeline.offer(page)
        pipeline.close()
        await writing
        stats.publish()
        _log.info("stopped; %s", stats.line(len(pipeline)))
    return stats


def require_exchanges(settings: Settings) -> None:
    """Raises ConfigError where no exchange is configured."""
    if not settings.native and not settings.ccxt.exchanges:
        raise ConfigError(
            "no exchange is configured", hint="add binance, coinbase… or ccxt.exchanges to config.yaml, with symbols"
        )


async def _left_off(settings: Settings, log: Log, clock: Clock) -> dict[str, Trade]:
    """The newest trades in the log that this collector wrote."""
    sections: list[tuple[str, NativeExchange | CcxtExchange]] = [
        *settings.native.items(),
        *settings.ccxt.exchanges.items(),
    ]
    names = [name for name, section in sections if "trades" in section.channels]
    if not names:
        return {}
    topic = settings.topic_names().raw
    return await asyncio.to_thread(last_trades, log, topic, settings.collector.id, names, clock.now())


def sources(
    settings: Settings, pipeline: Pipeline, stats: Stats, clock: Clock, resume: Mapping[str, Trade]
) -> Iterable[Source]:
    """One source per configured exchange; `resume` as in `collector.feed.Feed`.

    ccxt is imported only where it is wanted: it costs 100 MB.
    """
    for name, section in settings.native.items():
        yield NativeCollector(native_config(name, section, settings), pipeline, stats, clock, resume)
    if settings.ccxt.exchanges:
        from collector.ccxt_source import CcxtCollector  # noqa: PLC0415
        from collector.ccxt_source.settings import ccxt_config  # noqa: PLC0415

        for name, exchange in settings.ccxt.exchanges.items():
            yield CcxtCollector(ccxt_config(name, exchange, settings), pipeline, stats, clock, resume)


def native_config(name: str, section: NativeExchange, settings: Settings) -> NativeConfig:
    """The native adapter's plain arguments. Raises ConfigError."""
    return NativeConfig(
        venue=venue_of(name, section),
        symbols=section.symbols,
        channels=section.channels,
        collector=settings.collector.id,
        stall_timeout=settings.collector.stall_timeout,
        refresh_interval=settings.collector.refresh_interval,
        audit_interval=settings.collector.audit_interval,
        read_batch=settings.collector.read_batch_ms / 1000,
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


async def _probe(id_: str, pipeline: Pipeline, stats: Stats) -> None:
    """Now and then measure how long it takes until the log has what it has been given."""
    loop, seconds = asyncio.get_running_loop(), metrics.LOG_WRITE.labels(id_)
    while True:
        await asyncio.sleep(PROBE_S)
        since, given = loop.time(), stats.of(metrics.EVENTS)
        if not len(pipeline):
            continue
        while stats.of(metrics.EVENTS) - len(pipeline) < given:  # noqa: ASYNC110  what the log has pending raises no event
            await asyncio.sleep(PROBE_STEP_S)
        seconds.observe(loop.time() - since)


def _waits_for(pipeline: Pipeline, following: Mapping[Source, asyncio.Task[None]]) -> str:
    if pipeline.full:
        return f"{len(pipeline)} events wait for the log"
    if not following:
        return condition.STARTING
    lacks = ["a source has ended" if task.done() else source.waits_for for source, task in following.items()]
    return "; ".join(filter(None, lacks))


async def _report(
    settings: Settings,
    pipeline: Pipeline,
    following: Mapping[Source, asyncio.Task[None]],
    stats: Stats,
    clock: Clock,
) -> None:
    """Gauges and what is due of the ledger each second, now and then a line of statistics."""
    loop, id_ = asyncio.get_running_loop(), settings.collector.id
    said = loop.time()
    while True:
        await asyncio.sleep(1.0)
        condition.PROCESS.turned(_waits_for(pipeline, following))
        stats.publish()
        metrics.QUEUE.labels(id_).set(len(pipeline))
        metrics.QUEUE_MOST.labels(id_).set(pipeline.most)
        for identity, heard in pipeline.ledger.heard(settings.metrics.markets):
            metrics.HEARD.labels(identity["source"], identity["exchange"], identity["symbol"]).set(heard / NS)
        for page in pipeline.ledger.due(clock.now()):
            pipeline.offer(page)
        if loop.time() - said >= settings.ingestion.stats_interval:
            said = loop.time()
            _log.info("%s", stats.line(len(pipeline)))
