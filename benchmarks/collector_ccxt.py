"""ccxt.pro's own `watch_*` and our way of using it, on the same frames: one side each, in a process of its own.

    python -m benchmarks.collector_ccxt SIDE

says {"ready": true} once ccxt is imported, which takes seconds. Then each line of standard input is an order, `FILE
LAPS`: a `collector_wire.Wire`, whose books and trades are handed to real ccxt.pro clients without a network, a fresh
instance for each lap. The answer is a JSON line: frames, and the CPU s (user + system) that they took. What the loop
costs without a frame in it is taken off, and so is what comes before and while a book is brought into step.

    plain    `watch_order_book` and `watch_trades` called again and again, what they return is dropped
    tapped   our session, its frames parsed by our own parser, its events encoded
    unified  the same, its frames parsed by ccxt
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import ccxt.pro
from benchmarks.collector_bare import until
from benchmarks.collector_sides import Nowhere
from benchmarks.collector_wire import Wire, books_and_trades, read

from collector.ccxt_source.dialects import DIALECTS
from collector.ccxt_source.exchange import CcxtConfig, make_exchange
from collector.ccxt_source.outlet import Outlet
from collector.ccxt_source.session import Session
from collector.ccxt_source.subscriptions import Plan
from collector.pipeline import Pipeline
from collector.stats import Stats
from fluxforge import metrics
from fluxforge.clock import SystemClock
from fluxforge.topics import Topics

MOST_FRAMES = 10_000
"""Of a lap."""
WITHIN_S = 20.0
WORDS = ("book", "trade")
"""What stands in ccxt's names of the two subscriptions."""
TURNS = 2
"""Turns of the loop after each frame: what waits for it gets it."""
CHUNK = 1000


class Tally:
    """What a side has seen and spent."""

    def __init__(self) -> None:
        self.frames, self.cpu = 0, 0.0
        self.seen: Counter[str] = Counter()


class Side(NamedTuple):
    """One lap's instance.

    standing  whether its book is in step
    drain     waits until nothing is queued
    """

    exchange: Any
    standing: Callable[[], bool]
    drain: Callable[[], Awaitable[None]]


def main(side: str) -> None:
    """See above."""
    print(json.dumps({"ready": True}), flush=True)
    for order in sys.stdin:
        path, laps = order.split()
        wire, tally = read(path), Tally()
        for _ in range(int(laps)):
            asyncio.run(lap(side, wire, tally))
        found = {"frames": tally.frames, "cpu": tally.cpu, "seen": tally.seen}
        print(json.dumps(found), flush=True)


async def lap(side: str, wire: Wire, tally: Tally) -> None:
    """All frames once. Raises TimeoutError where a book does not come into step."""
    frames = [frame.decode() for frame in books_and_trades(wire)][:MOST_FRAMES]
    head = min(wire.head, len(frames) // 4)
    running = _plain(wire, tally) if side == "plain" else _ours(wire, tally, tapped=side == "tapped")
    async with running as (exchange, standing, drain):
        async with asyncio.timeout(WITHIN_S):
            await until(lambda: _subscribed_to(exchange) >= set(WORDS))
        send = _sender(exchange)
        for frame in frames[:head]:
            send(frame)
            await asyncio.sleep(0)
        async with asyncio.timeout(WITHIN_S):
            await until(standing)
        await drain()
        for at in range(head, len(frames), CHUNK):
            chunk = frames[at : at + CHUNK]
            started = time.process_time()
            for frame in chunk:
                send(frame)
                for _ in range(TURNS):
                    await asyncio.sleep(0)
            await drain()
            drained = time.process_time()
            for _ in range(TURNS * len(chunk)):
                await asyncio.sleep(0)
            idle = time.process_time() - drained
            tally.frames += len(chunk)
            tally.cpu += drained - started - idle


def _subscribed_to(exchange: Any) -> set[str]:
    names = [name.lower() for client in exchange.clients.values() for name in client.subscriptions]
    return {word for word in WORDS if any(word in name for name in names)}


def _sender(exchange: Any) -> Callable[[str], None]:
    """Hands a frame to the client that has subscribed to it, once their subscriptions are answered."""
    clients = list(exchange.clients.values())
    books, trades = (
        next(client for client in clients if any(word in name.lower() for name in client.subscriptions))
        for word in WORDS
    )
    for client in clients:
        for each in list(client.subscriptions.values()):
            if isinstance(each, dict) and "id" in each:
                client.handle_text_or_binary_message(json.dumps({"result": None, "id": each["id"]}))

    def send(frame: str) -> None:
        client = trades if "trade" in frame[:90] else books
        client.handle_text_or_binary_message(frame)

    return send


@asynccontextmanager
async def _plain(wire: Wire, tally: Tally) -> AsyncIterator[Side]:
    """What a user of ccxt.pro writes."""
    exchange = getattr(ccxt.pro, wire.exchange)({"newUpdates": True})
    _offline(exchange, wire)

    async def books() -> None:
        while True:
            await exchange.watch_order_book(wire.symbol)
            tally.seen["books"] += 1

    async def trades() -> None:
        while True:
            trades = await exchange.watch_trades(wire.symbol)
            tally.seen["trades"] += len(trades)

    async def drain() -> None:
        pass

    before = tally.seen["books"]
    tasks = [asyncio.create_task(books()), asyncio.create_task(trades())]
    yield Side(exchange, lambda: tally.seen["books"] > before, drain)
    await _end(exchange, tasks)


@asynccontextmanager
async def _ours(wire: Wire, tally: Tally, *, tapped: bool) -> AsyncIterator[Side]:
    """A session of ours as the collector makes it."""
    channels = ("orderbook", "trades")
    config = CcxtConfig(exchange=wire.exchange, symbols=(wire.symbol,), channels=channels, collector="bench")
    exchange = make_exchange(config)
    _offline(exchange, wire)
    stats, clock = Stats(), SystemClock()
    pipeline = Pipeline(Nowhere(), Topics().raw, stats=stats)
    dialect = DIALECTS[wire.exchange] if tapped else None
    session = Session(
        exchange,
        {wire.symbol: exchange.markets[wire.symbol]},
        channels,
        config,
        dialect=dialect,
        plan=Plan(50, dialect.alone if dialect else frozenset()),
        outlet=Outlet(pipeline, clock, follows_books=True),
        pipeline=pipeline,
        stats=stats,
        clock=clock,
    )

    async def drain() -> None:
        await until(lambda: not len(pipeline))

    writing = asyncio.create_task(pipeline.run())
    running = asyncio.create_task(session.run())
    yield Side(exchange, lambda: stats.by(metrics.EVENTS, 2).get("book_snapshot", 0) > 0, drain)
    session.count()
    tally.seen.update(stats.by(metrics.EVENTS, 2))
    bad = {name: n for name, n in (("gaps", stats.of(metrics.GAPS)), ("bad", stats.of(metrics.BAD_FRAMES))) if n}
    await _end(exchange, [running])
    pipeline.close()
    await writing
    if bad or session.followers[wire.symbol].wants_snapshot:
        raise RuntimeError(f"{wire.exchange} was not undisturbed: {bad}")


def _offline(exchange: Any, wire: Wire) -> None:
    tests = str(Path(__file__).parents[1] / "tests")
    if tests not in sys.path:
        sys.path.append(tests)
    offline = import_module("ccxt_offline")  # lies with the tests
    depth = wire.answers.get("/api/v3/depth")
    market = offline.market(exchange, wire.native, wire.symbol)
    offline.take_offline(exchange, [market], {"depth": depth} if depth else {})


async def _end(exchange: Any, tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await exchange.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
