"""A session of the ccxt road at work without a network: its exchange hears only what it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import orjson

from ccxt_offline import Kept, market, take_offline
from collector.ccxt_source.dialects import DIALECTS
from collector.ccxt_source.exchange import CcxtConfig, make_exchange
from collector.ccxt_source.outlet import Outlet
from collector.ccxt_source.session import Session
from collector.ccxt_source.subscriptions import Plan
from collector.stats import Stats
from fluxforge.clock import SystemClock

CHANNELS = ("orderbook", "trades", "ticker")


class Offline:
    """One session; `parsed`: by our own parser, where there is one. `sent` is what it said on its sockets."""

    def __init__(
        self,
        exchange: str,
        natives: Sequence[str],
        *,
        parsed: bool,
        channels: Sequence[str] = CHANNELS,
        levels: int = 20,
        symbol: str = "A{}/USD",
        **fields: Any,
    ) -> None:
        config = CcxtConfig(exchange, (), tuple(channels), "c1", book_levels=2)
        self.exchange = make_exchange(config)
        markets = [
            market(self.exchange, native, symbol.replace("{}", str(at)), **fields) for at, native in enumerate(natives)
        ]
        self.sent = take_offline(self.exchange, markets)
        self.stats, self.kept = Stats(), Kept()
        dialect = DIALECTS[exchange] if parsed else None
        able = [each for each in channels if self.exchange.has.get({"ticker": "watchTicker"}.get(each, "watchTrades"))]
        pipeline = self.kept
        clock = SystemClock()
        self.session = Session(
            self.exchange,
            {each["symbol"]: each for each in markets},
            able,
            config,
            dialect=dialect,
            plan=Plan(50, dialect.alone, partial(dialect.depth, wanted=levels)) if dialect else Plan(50),
            outlet=Outlet(pipeline, clock, follows_books=False),
            pipeline=pipeline,
            stats=self.stats,
            clock=clock,
        )

    def hears(self, frame: Any, part: str = "") -> None:
        """A frame on the socket whose URL has `part`."""
        client = next(each for url, each in self.exchange.clients.items() if part in url)
        client.handle_text_or_binary_message(frame if isinstance(frame, str) else orjson.dumps(frame).decode())

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.kept.events if isinstance(event, kind)]

    async def until_sent(self, part: bytes, count: int = 1) -> None:
        async with asyncio.timeout(120):
            while sum(part in orjson.dumps(each) for each in self.sent) < count:  # noqa: ASYNC110  ccxt tells nobody
                await asyncio.sleep(0.01)


@asynccontextmanager
async def at_work(offline: Offline) -> AsyncIterator[Offline]:
    running = asyncio.create_task(offline.session.run())
    async with asyncio.timeout(120):
        while not offline.sent:  # noqa: ASYNC110  ccxt tells nobody
            await asyncio.sleep(0.01)
    try:
        yield offline
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await offline.exchange.close()
