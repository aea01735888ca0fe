"""What the collector benchmark runs as processes of their own: one side each, its own CPU time and nobody else's.

    python -m benchmarks.collector_sides SIDE FILE PORT

FILE is a `collector_wire.Wire`, PORT that of a `collector_server` which plays it, 0 where none is wanted. Prints one
JSON line: the frames and the CPU s (user + system, all threads) that they took, those of the head and of what comes
before it left out.

    bare      aiohttp's socket and orjson.loads, nothing kept
    picows    the same on picows' socket, by callback
    unlogged  the native collector on that socket, to an appender that drops everything
    native    the same, to the embedded log
    parse     the collector's parser on the same frames, without a socket
    handle    all that the collector does with a frame, without a socket and a log
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from typing import Any

import aiohttp
from benchmarks.collector_bare import WITHIN_S, bare, go, picows, until, venue_of
from benchmarks.collector_wire import CHANNELS, Wire, read

from collector.feed import Feed, NativeConfig
from collector.native import NativeCollector
from collector.pipeline import Pipeline
from collector.skew import Skew
from collector.stats import Stats
from collector.venue import TradePages
from collector.wire import RestBook
from collector.wire.binance import rest_book
from fluxforge import metrics
from fluxforge.clock import SystemClock
from fluxforge.log import Appender, Output, open_log
from fluxforge.topics import Topics

PARTITIONS = 4
CHUNK = 1000
"""Frames handled between two visits to the pipeline, where there is no socket."""


class Nowhere:
    """An Appender that drops what it is given."""

    def append(self, output: Output) -> None:
        pass

    def pending(self) -> int:
        return 0

    def flush(self, timeout: float = 30.0) -> None:
        pass

    def close(self) -> None:
        pass


class Answers:
    """The REST interface as far as a book needs it."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def markets(self) -> dict[str, str]:
        return {self._wire.native: self._wire.symbol}

    async def book(self, native: str, levels: int | None = None) -> RestBook:
        return rest_book(self._wire.answers["/api/v3/depth"])

    async def trades_since(self, native: str, first: int, ts: int | None) -> TradePages:
        raise TimeoutError("no trade of these frames is missing")


def config_of(wire: Wire, port: int) -> NativeConfig:
    return NativeConfig(venue_of(wire.exchange, port), (wire.symbol,), CHANNELS, "bench")


async def unlogged(wire: Wire, port: int) -> dict[str, float]:
    """The collector without a log."""
    return await _native(wire, port, Nowhere())


async def native(wire: Wire, port: int) -> dict[str, float]:
    """The collector with its log."""
    with tempfile.TemporaryDirectory(prefix="fluxforge-bench-") as folder:
        log = open_log(f"sqlite:///{folder}/raw.db")
        log.create(Topics().specs(PARTITIONS))
        found = await _native(wire, port, log.appender())
        log.close()
        return found


async def _native(wire: Wire, port: int, appender: Appender) -> dict[str, float]:
    stats = Stats()
    pipeline = Pipeline(appender, Topics().raw, stats=stats)
    collector = NativeCollector(config_of(wire, port), pipeline, stats, SystemClock())
    writing, collecting = asyncio.create_task(pipeline.run()), asyncio.create_task(collector.run())
    async with asyncio.timeout(WITHIN_S), aiohttp.ClientSession() as http:
        await until(lambda: bool(collector.connections))
        feed = collector.connections[0].feed
        await until(lambda: feed.frames >= wire.head and feed.verified and in_step(feed))
        require_whole(feed, stats)
        if feed.frames > wire.head:
            raise RuntimeError(f"{feed.frames} frames before the first was to be measured")
        started = time.process_time()
        await go(http, port)
        await until(lambda: feed.frames >= len(wire.frames) and not len(pipeline))
        spent = time.process_time() - started
    require_whole(feed, stats)
    collecting.cancel()
    await asyncio.gather(collecting, return_exceptions=True)
    pipeline.close()
    await writing
    return {"frames": len(wire.frames) - wire.head, "cpu": spent, "events": stats.of(metrics.EVENTS)}


async def parse(wire: Wire, _port: int) -> dict[str, float]:
    """The parser alone."""
    venue = venue_of(wire.exchange, 0)
    parser = venue.parser("bench", "bench-1", {wire.native: wire.symbol}, Skew())
    for frame in wire.frames[: wire.head]:
        parser.parse(frame, time.time_ns())
    frames = wire.frames[wire.head :]
    started = time.process_time()
    for frame in frames:
        parser.parse(frame, time.time_ns())
    return {"frames": len(frames), "cpu": time.process_time() - started}


async def handle(wire: Wire, _port: int) -> dict[str, float]:
    """From frame to encoded event."""
    stats = Stats()
    pipeline = Pipeline(Nowhere(), Topics().raw, stats=stats)
    writing = asyncio.create_task(pipeline.run())
    feed = Feed(
        config_of(wire, 0),
        {wire.native: wire.symbol},
        Answers(wire),
        renew=_no_renewal,
        pipeline=pipeline,
        stats=stats,
        clock=SystemClock(),
        resume={},
    )
    feed.opened()
    for frame in wire.frames[: wire.head]:
        feed.frame(frame)
    feed.verify()
    async with asyncio.timeout(WITHIN_S):
        await until(lambda: in_step(feed))
    frames = wire.frames[wire.head :]
    started = time.process_time()
    for at in range(0, len(frames), CHUNK):
        for frame in frames[at : at + CHUNK]:
            feed.frame(frame)
        await until(lambda: not len(pipeline))
    spent = time.process_time() - started
    require_whole(feed, stats)
    feed.let_go()
    pipeline.close()
    await writing
    return {"frames": len(frames), "cpu": spent}


async def _no_renewal(_natives: object) -> None:
    raise TimeoutError("no book of these frames is broken")


def in_step(feed: Feed) -> bool:
    """Whether every book stands and nothing is held back."""
    return not any(market.wants_snapshot or market.holding for market in feed.markets.values())


def require_whole(feed: Feed, stats: Stats) -> None:
    """Raises RuntimeError where a book is out of step, or something was lost: such a run measures something else."""
    feed.count()
    lost = {name: stats.of(metric) for name, metric in _LOSSES.items() if stats.of(metric)}
    if lost or not in_step(feed):
        raise RuntimeError(f"the collector was not undisturbed: {lost or 'a book is out of step'}")


_LOSSES = {"gaps": metrics.GAPS, "shed": metrics.SHED, "bad frames": metrics.BAD_FRAMES}


SIDES: dict[str, Callable[[Wire, int], Coroutine[Any, Any, dict[str, float]]]] = {
    "bare": bare,
    "picows": picows,
    "unlogged": unlogged,
    "native": native,
    "parse": parse,
    "handle": handle,
}


def main(side: str, what: str, port: str) -> None:
    """See above."""
    found: Any = asyncio.run(SIDES[side](read(what), int(port)))
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
