"""A native adapter: WebSocket connections to one exchange, their books and trades kept whole.

    NativeCollector ── lists the markets, deals the symbols out to connections
      └─ Connection ── socket, reconnects, watchdog, heartbeats; fetches snapshots and missed trades
           └─ Market ── one symbol, pure: book, trades, order

Binance speaks it today; everything that is Binance's is in binance.py and binance_rest.py.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Collection, Coroutine, Sequence
from dataclasses import dataclass
from os import urandom

import aiohttp
from fluxforge import metrics
from fluxforge.clock import NS, Clock
from fluxforge.errors import FrameError, MarketDataError, UnknownSymbol
from fluxforge.events import AnyEvent, BookDelta, Trade

from collector.backoff import Backoff
from collector.binance import BinanceParser, Endpoints, Reply, RestBook, streams
from collector.binance_rest import BinanceRest, RestError, TradePages
from collector.identity import Identity
from collector.market import Market
from collector.pipeline import Pipeline
from collector.silence import Silence
from collector.skew import Skew
from collector.stats import Stats
from collector.symbols import native_of

_log = logging.getLogger(__name__)

MAX_FRAME = 64 * 1024 * 1024
TICK_S = 0.25
PING_S = 5.0
VERIFY_S = 10.0
HOLD_S = 10.0
"""Events wait this long for missed trades."""
GRACE_S = 3.0
"""After a new connection the missed trades get at least this long."""
QUIET_BOOK_S = 2.0
"""A symbol without a diff gets its snapshot after this long."""
PARAMS_PER_SUBSCRIBE = 100
FRAMES_PER_TURN = 200
"""Frames handled before the other tasks of the loop get their turn."""
_FAILURES = (aiohttp.ClientError, OSError, TimeoutError, MarketDataError)


class ConnectionLost(MarketDataError):
    """The socket is closed, silent or refused; `reason` is a metric label."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class NativeConfig:
    """What one native collector follows. Times in s."""

    exchange: str
    symbols: tuple[str, ...]
    channels: tuple[str, ...]
    endpoints: Endpoints
    collector: str
    stall_timeout: float = 20.0
    refresh_interval: float = 60.0
    symbols_per_connection: int = 100


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
                    Connection(self._config, dealt, http, rest, self._pipeline, self._stats, self._clock)
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
                _log.warning("%s: no list of markets yet, again in %.1f s: %s", self._config.exchange, wait, _say(error))
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


class Connection:
    """One socket and its symbols (native → unified)."""

    def __init__(
        self,
        config: NativeConfig,
        symbols: dict[str, str],
        http: aiohttp.ClientSession,
        rest: BinanceRest,
        pipeline: Pipeline,
        stats: Stats,
        clock: Clock,
    ) -> None:
        self._config, self._symbols, self._http, self._rest = config, symbols, http, rest
        self._pipeline, self._stats, self._clock = pipeline, stats, clock
        self._labels = (config.exchange, config.exchange)  # source, exchange
        self._skew = Skew()
        self.markets = {
            native: Market(self._identity(native, ""), config.channels, lambda: self._skew.value) for native in symbols
        }
        self._by_key = {market.key: market for market in self.markets.values()}
        self._silence = Silence(self._by_key, clock.now())
        self._silent_sessions = 0
        self._fetching: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._parser = self._new_parser("")
        self._unverified: set[int] = set()
        self._seen_books: Counter = {}
        self._since = self._heard = self._data = clock.monotonic()
        self._had_data = False

    async def run(self) -> None:
        """Connect, collect, and connect again, until cancelled."""
        backoff = Backoff()
        try:
            while True:
                reason, error = "error", None
                try:
                    await self._session()
                except* ConnectionLost as group:
                    error = group.exceptions[0]
                    while isinstance(error, BaseExceptionGroup):
                        error = error.exceptions[0]
                    reason = error.reason if isinstance(error, ConnectionLost) else reason
                except* _FAILURES as group:
                    error = group
                if self._had_data:
                    backoff.reset()
                wait = backoff.next()
                self._stats.add(metrics.DISCONNECTS, *self._labels, reason)
                _log.warning("%s: connection lost, again in %.1f s: %s", self._config.exchange, wait, _say(error))
                await asyncio.sleep(wait)
        finally:
            self._let_go()
