"""A native adapter: WebSocket connections to one exchange, their books and trades kept whole.

    NativeCollector ── lists the markets, deals the symbols out to connections
      └─ Connection ── socket, reconnects, watchdog, heartbeats; fetches snapshots and missed trades
           └─ Market ── one symbol, pure: book, trades, order

Binance speaks it today; everything that is Binance's is in binance.py and binance_rest.py.
"""

from __future__ import annotations

import asyncio
import logging

import aiohttp

from collector.backoff import Backoff
from collector.binance_rest import BinanceRest
from collector.connection import Connection, NativeConfig
from collector.pipeline import Pipeline
from collector.repairs import say
from collector.stats import Stats
from collector.symbols import native_of
from fluxforge.clock import Clock
from fluxforge.errors import MarketDataError, UnknownSymbol

_log = logging.getLogger(__name__)
_FAILURES = (aiohttp.ClientError, OSError, TimeoutError, MarketDataError)


class NativeCollector:
    """Everything configured of one exchange."""

    def __init__(self, config: NativeConfig, pipeline: Pipeline, stats: Stats, clock: Clock) -> None:
        self._config, self._pipeline, self._stats, self._clock = config, pipeline, stats, clock
        self.connections: list[Connection] = []

    async def run(self) -> None:
        """Collect until cancelled. Raises UnknownSymbol when the exchange lists none of the symbols."""
        async with aiohttp.ClientSession() as http:
            rest = BinanceRest(http, self._config.endpoints)
            listed = listed_symbols(self._config, await self._markets(rest))
            size = self._config.symbols_per_connection
            names = list(listed)
            for at in range(0, len(names), size):
                dealt = {native: listed[native] for native in names[at : at + size]}
                self.connections.append(
                    Connection(
                        self._config, dealt, http, rest, pipeline=self._pipeline, stats=self._stats, clock=self._clock
                    )
                )
            async with asyncio.TaskGroup() as group:
                for connection in self.connections:
                    group.create_task(connection.run())

    async def _markets(self, rest: BinanceRest) -> dict[str, str]:
        backoff = Backoff()
        while True:
            try:
                return await rest.markets()
            except _FAILURES as error:
                wait = backoff.next()
                _log.warning("%s: no list of markets yet, again in %.1f s: %s", self._config.exchange, wait, say(error))
                await asyncio.sleep(wait)


def listed_symbols(config: NativeConfig, markets: dict[str, str]) -> dict[str, str]:
    """Native → unified of the configured symbols that are listed; logs the others.

    Raises UnknownSymbol when none is.
    """
    listed: dict[str, str] = {}
    unknown: UnknownSymbol | None = None
    for symbol in config.symbols:
        try:
            native = native_of(symbol, markets, config.exchange)
            listed[native] = markets[native]
        except UnknownSymbol as error:
            _log.error("%s", error)
            unknown = error
    if not listed and unknown is not None:
        raise unknown
    return listed
