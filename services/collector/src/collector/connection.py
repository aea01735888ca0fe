"""One socket of a native adapter and the symbols it carries."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from dataclasses import dataclass
from os import urandom

import aiohttp

from collector.backoff import Backoff
from collector.binance import BinanceParser, Endpoints, Reply, RestBook, streams
from collector.binance_rest import BinanceRest
from collector.identity import Identity
from collector.market import Market
from collector.patience import Patience
from collector.pipeline import Pipeline
from collector.repairs import Repairs, say
from collector.silence import Silence
from collector.skew import Skew
from collector.stats import Stats
from fluxforge import metrics
from fluxforge.clock import NS, Clock
from fluxforge.errors import FrameError, MarketDataError
from fluxforge.events import AnyEvent, BookDelta, Trade

_log = logging.getLogger(__name__)

MAX_FRAME = 64 * 1024 * 1024
TICK_S = 0.25
PING_S = 5.0
VERIFY_S = 10.0
QUIET_BOOK_S = 0.5
"""A symbol without a diff gets its snapshot after this long."""
PARAMS_PER_SUBSCRIBE = 100
FRAMES_PER_TURN = 200
"""Frames handled before the loop's other tasks get their turn."""
_FAILURES = (aiohttp.ClientError, OSError, TimeoutError, MarketDataError)
_COUNTED = {
    "gaps": metrics.GAPS,
    "duplicates": metrics.DUPLICATES,
    "snapshots": metrics.RESYNCS,
    "backfilled": metrics.BACKFILLED,
}


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


class Connection:
    """Connects, subscribes, reads, and does it again; `symbols` is native → unified."""

    def __init__(
        self,
        config: NativeConfig,
        symbols: dict[str, str],
        http: aiohttp.ClientSession,
        rest: BinanceRest,
        *,
        pipeline: Pipeline,
        stats: Stats,
        clock: Clock,
    ) -> None:
        self._config, self._symbols, self._http = config, symbols, http
        self._pipeline, self._stats, self._clock = pipeline, stats, clock
        self._labels = (config.exchange, config.exchange)  # source, exchange
        self._skew = Skew()
        self._parser = self._new_parser("")
        self.markets = {
            native: Market(self._identity(native, ""), config.channels, lambda: self._skew.value) for native in symbols
        }
        self._by_key = {market.key: native for native, market in self.markets.items()}
        self._silence = Silence(self._by_key, clock.now())
        self._repairs = Repairs(config.exchange, rest, clock, publish=self._publish, parse=self._parse_trades)
        self._counted: Counter[str] = Counter()
        self._requests: dict[int, float] = {}
        self._verified_at: float | None = None
        self._heard = 0.0
        self._patience = Patience(config.stall_timeout, clock.monotonic())
        self._got_data = False
        self._verdict: ConnectionLost | None = None

    async def run(self) -> None:
        """Collect until cancelled."""
        backoff = Backoff()
        try:
            while True:
                try:
                    await self._session()
                except _FAILURES as error:
                    reason = error.reason if isinstance(error, ConnectionLost) else "error"
                    if self._got_data:
                        backoff.reset()
                    wait = backoff.next()
                    self._stats.add(metrics.DISCONNECTS, *self._labels, reason)
                    _log.warning("%s: %s; connecting again in %.1f s", self._config.exchange, say(error), wait)
                    await asyncio.sleep(wait)
        finally:
            self._let_go()

    async def _session(self) -> None:
        """One connection, to its end. Always raises: what ended it."""
        self._verdict, self._got_data = None, False
        async with self._http.ws_connect(
            f"{self._config.endpoints.ws.rstrip('/')}/stream",
            max_msg_size=MAX_FRAME,
            autoping=False,
            timeout=aiohttp.ClientWSTimeout(ws_close=1.0),
        ) as socket:
            self._opened()
            metrics.CONNECTED.labels(*self._labels).inc()
            watch = asyncio.create_task(self._watch(socket))
            try:
                await self._subscribe(socket)
                await self._read(socket)
            finally:
                metrics.CONNECTED.labels(*self._labels).dec()
                watch.cancel()
                await asyncio.gather(watch, return_exceptions=True)
                await self._repairs.cancel()
                self._count()
            raise self._verdict or ConnectionLost("closed", f"closed by the exchange, code {socket.close_code}")

    def _opened(self) -> None:
        now = self._clock.now()
        self._stats.add(metrics.CONNECTS, *self._labels)
        self._skew = Skew()
        connection = f"{self._config.collector}-{urandom(4).hex()}"
        self._parser = self._new_parser(connection)
        self._heard = self._clock.monotonic()
        self._patience.opened(self._heard)
        self._verified_at = None
        for native, market in self.markets.items():
            self._publish(market, market.connected(self._identity(native, connection), now), now)

    async def _subscribe(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        names = streams(list(self._symbols), self._config.channels)
        chunks = [names[at : at + PARAMS_PER_SUBSCRIBE] for at in range(0, len(names), PARAMS_PER_SUBSCRIBE)]
        self._requests = dict.fromkeys(range(1, len(chunks) + 1), self._clock.monotonic())
        for number, params in enumerate(chunks, 1):
            await socket.send_str(json.dumps({"method": "SUBSCRIBE", "params": params, "id": number}))
            if len(chunks) > 1:
                await asyncio.sleep(0.25)  # five messages a second are allowed

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        turn = 0
        while True:
            message = await socket.receive()
            kind = message.type
            if kind is aiohttp.WSMsgType.TEXT:
                self._frame(message.data.encode())
            elif kind is aiohttp.WSMsgType.BINARY:
                self._frame(message.data)
            elif kind is aiohttp.WSMsgType.PING:
                await socket.pong(message.data)
                self._heard = self._clock.monotonic()
            elif kind is aiohttp.WSMsgType.PONG:
                self._heard = self._clock.monotonic()
            elif kind is aiohttp.WSMsgType.ERROR:
                raise ConnectionLost("error", f"the socket broke: {message.data!r}")
            else:
                return
            turn += 1
            if turn % FRAMES_PER_TURN == 0:
                await asyncio.sleep(0)
            if self._pipeline.full:
                await self._pipeline.room()

    def _frame(self, frame: bytes) -> None:
        now = self._clock.now()
        self._stats.add(metrics.FRAMES, *self._labels)
        try:
            found = self._parser.parse(frame, now)
        except FrameError as error:
            self._stats.add(metrics.BAD_FRAMES, *self._labels)
            _log.warning("%s", error)
            return
        if isinstance(found, Reply):
            self._reply(found)
            return
        if found is None or isinstance(found, RestBook):
            return
        market = self.markets.get(found.native)
        if market is None:
            self._stats.add(metrics.SKIPPED, *self._labels, "not-subscribed")
            return
        self._heard = self._clock.monotonic()
        self._patience.heard(self._heard)
        self._got_data = True
        self._publish(market, market.take(found, now), now)
        if isinstance(found, BookDelta):
            if market.wants_snapshot:
                self._repairs.book(market)
        elif market.holding and isinstance(found, Trade) and self._verified_at is not None:
            self._repairs.trades(market)

    def _reply(self, reply: Reply) -> None:
        if reply.error is not None:
            raise ConnectionLost("refused", f"the subscription was refused: {reply.error}")
        if isinstance(reply.id, int):
            self._requests.pop(reply.id, None)
        self._heard = self._clock.monotonic()
        if not self._requests and self._verified_at is None:
            self._verified_at = self._heard
            for market in self.markets.values():
                if market.holding:
                    self._repairs.trades(market)

    async def _watch(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """Housekeeping beside the reader; ends the session when the socket is dead."""
        started = pinged = ticked = self._clock.monotonic()
        refreshed = dict.fromkeys(self.markets, started)
        try:
            while self._verdict is None:
                await asyncio.sleep(TICK_S)
                mono, now = self._clock.monotonic(), self._clock.now()
                self._verdict = self._dead(mono, started)
                if mono - pinged >= PING_S:
                    pinged = mono
                    await socket.ping()
                self._heartbeats(mono, now)
                if mono - ticked >= 1.0:
                    ticked = mono
                    self._tick(mono, now, refreshed)
        except _FAILURES as error:
            self._verdict = ConnectionLost("error", say(error))
        except Exception as error:
            _log.exception("%s: housekeeping failed", self._config.exchange)
            self._verdict = ConnectionLost("error", repr(error))
        await socket.close()

    def _dead(self, mono: float, started: float) -> ConnectionLost | None:
        if self._verified_at is None and mono - started > VERIFY_S:
            return ConnectionLost("refused", f"the subscription was not confirmed within {VERIFY_S:g} s")
        if self._patience.expired(mono):
            return ConnectionLost("stalled", f"connected, but no data for {self._patience.silence(mono):.1f} s")
        return None

    def _heartbeats(self, mono: float, now: int) -> None:
        if self._verified_at is None or mono - self._heard > self._config.stall_timeout or not self._skew.known:
            return  # without an estimate of the exchange's clock a heartbeat would say nothing
        ts = now + self._skew.value - NS
        for key in self._silence.due(now):
            market = self.markets[self._by_key[key]]
            self._publish(market, market.heartbeat(now, ts), now)

    def _tick(self, mono: float, now: int, refreshed: dict[str, float]) -> None:
        for native, market in self.markets.items():
            self._publish(market, market.tick(now), now)
            if market.key in self._pipeline.shedding and self._pipeline.has_room:
                self._publish(market, market.restate(now, refresh=False), now)
            if mono - refreshed[native] >= self._config.refresh_interval:
                refreshed[native] = mono
                self._publish(market, market.restate(now, refresh=True), now)
            if market.wants_snapshot and self._verified_at is not None and mono - self._verified_at > QUIET_BOOK_S:
                self._repairs.book(market)
        if self._skew.known:
            metrics.SKEW.labels(*self._labels).set(self._skew.value / NS)
        self._count()

    def _let_go(self) -> None:
        """The end: what is held back goes out as it is."""
        for market in self.markets.values():
            if market.holding:
                self._repairs.give_up(market, "the collector stopped")
        self._count()

    def _parse_trades(self, body: bytes, native: str, now: int) -> list[Trade]:
        return self._parser.trades(body, native, now)

    def _publish(self, market: Market, events: list[AnyEvent], now: int) -> None:
        if events:
            self._silence.heard(market.key, now)
        for event in events:
            self._pipeline.offer(event)

    def _count(self) -> None:
        totals: Counter[str] = Counter()
        for market in self.markets.values():
            totals.update(market.sync.counts)
            totals.update(market.line.counts)
        for name, metric in _COUNTED.items():
            self._stats.add(metric, *self._labels, n=totals[name] - self._counted[name])
        for kind, count in self._parser.skipped.items():
            self._stats.add(metrics.SKIPPED, *self._labels, kind, n=count)
        self._parser.skipped.clear()
        self._counted = totals

    def _new_parser(self, connection: str) -> BinanceParser:
        return BinanceParser(
            self._config.exchange,
            collector=self._config.collector,
            connection=connection,
            symbols=self._symbols,
            skew=self._skew,
        )

    def _identity(self, native: str, connection: str) -> Identity:
        return Identity(
            exchange=self._config.exchange,
            symbol=self._symbols[native],
            native=native,
            source=self._config.exchange,
            collector=self._config.collector,
            connection=connection,
        )
