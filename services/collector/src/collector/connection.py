"""One socket of a native adapter: connects, subscribes, reads, watches, and does it again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress

from collector.backoff import Backoff
from collector.feed import Feed, NativeConfig
from collector.pipeline import Pipeline
from collector.repairs import FAILURES, say
from collector.stats import Stats
from collector.venue import Request, Rest
from collector.websocket import WebSocket, connect
from collector.wire import Reply
from fluxforge import metrics
from fluxforge.clock import Clock
from fluxforge.errors import MarketDataError
from fluxforge.events import Trade

_log = logging.getLogger(__name__)

TICK_S = 0.25
PING_S = 5.0
VERIFY_S = 10.0


class ConnectionLost(MarketDataError):
    """The socket is closed, silent or refused; `reason` is a metric label."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Connection:
    """`symbols` is native → unified; `resume` as in `Feed`."""

    def __init__(
        self,
        config: NativeConfig,
        symbols: Mapping[str, str],
        rest: Rest,
        *,
        pipeline: Pipeline,
        stats: Stats,
        clock: Clock,
        resume: Mapping[str, Trade] | None = None,
    ) -> None:
        self._config, self._venue, self._symbols = config, config.venue, symbols
        self._pipeline, self._stats, self._clock = pipeline, stats, clock
        self._labels = (config.venue.name, config.venue.name)  # source, exchange
        self.feed = Feed(
            config,
            symbols,
            rest,
            renew=self._renew,
            pipeline=pipeline,
            stats=stats,
            clock=clock,
            resume=resume or {},
        )
        self._socket: WebSocket | None = None
        self._requests: set[object] = set()
        self._sending = asyncio.Lock()
        self._verdict: ConnectionLost | None = None
        self._holding: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Collect until cancelled."""
        backoff = Backoff()
        try:
            while True:
                try:
                    await self._session()
                except FAILURES as error:
                    reason = error.reason if isinstance(error, ConnectionLost) else "error"
                    if self.feed.got_data:
                        backoff.reset()
                    wait = backoff.next()
                    self._stats.add(metrics.DISCONNECTS, *self._labels, reason)
                    _log.warning("%s: %s; connecting again in %.1f s", self._venue.name, say(error), wait)
                    await asyncio.sleep(wait)
        finally:
            self.feed.let_go()

    @property
    def established(self) -> bool:
        """Whether the socket stands and the exchange has confirmed every subscription."""
        return self._socket is not None and self.feed.verified

    async def _session(self) -> None:
        """One connection, to its end. Always raises: what ended it."""
        self._verdict, self.feed.got_data = None, False
        socket = await connect(self._venue.endpoints.ws + self._venue.path)
        self._socket = socket
        self.feed.opened()
        metrics.CONNECTED.labels(*self._labels).inc()
        beside = asyncio.create_task(self._watch(socket))
        socket.read(self, self._config.read_batch)
        try:
            with suppress(ConnectionResetError):  # `ended` knows better why
                await self._subscribe()
            code = await socket.ended()
        finally:
            self._socket = None
            metrics.CONNECTED.labels(*self._labels).dec()
            beside.cancel()
            await asyncio.gather(beside, return_exceptions=True)
            socket.close()
            await self.feed.closed()
        raise self._verdict or ConnectionLost("closed", f"closed by the exchange, code {code}")

    def message(self, data: bytes) -> None:
        """As `collector.websocket.Reader`."""
        for reply in self.feed.frame(data):
            self._answered(reply)

    def alive(self) -> None:
        """As `collector.websocket.Reader`."""
        self.feed.heard = self._clock.monotonic()

    def rest(self) -> None:
        """As `collector.websocket.Reader`: the socket waits where the log is far behind."""
        if self._pipeline.full and self._socket is not None and self._holding is None:
            self._socket.hold()
            self._holding = asyncio.create_task(self._go_on(self._socket))

    async def _go_on(self, socket: WebSocket) -> None:
        await self._pipeline.room()
        self._holding = None
        socket.go_on()

    async def _subscribe(self) -> None:
        requests = self._venue.subscribe(list(self._symbols), self._config.channels)
        self._requests = {request.id for request in requests}
        await self._send(requests)

    async def _renew(self, natives: Sequence[str]) -> None:
        await self._send(self._venue.renew(natives))

    async def _send(self, requests: Sequence[Request]) -> None:
        async with self._sending:
            for number, request in enumerate(requests):
                if number:
                    await asyncio.sleep(self._venue.pace)
                if self._socket is not None:
                    self._socket.send(self._venue.text(request, self._clock.now()))

    def _answered(self, reply: Reply) -> None:
        if reply.error is not None:
            raise ConnectionLost("refused", f"the subscription was refused: {reply.error}")
        self._requests.discard(reply.id)
        if not self._requests and not self.feed.verified:
            self.feed.verify()

    async def _watch(self, socket: WebSocket) -> None:
        """Housekeeping beside the reader; ends the session when the socket is dead."""
        started = pinged = ticked = self._clock.monotonic()
        try:
            while self._verdict is None:
                await asyncio.sleep(TICK_S)
                mono = self._clock.monotonic()
                self._verdict = self._dead(mono, started)
                if mono - pinged >= PING_S:
                    pinged = mono
                    socket.ping()
                self.feed.heartbeats()
                if mono - ticked >= 1.0:
                    ticked = mono
                    self.feed.tick()
        except FAILURES as error:
            self._verdict = ConnectionLost("error", say(error))
        except Exception as error:
            _log.exception("%s: housekeeping failed", self._venue.name)
            self._verdict = ConnectionLost("error", repr(error))
        socket.close()

    def _dead(self, mono: float, started: float) -> ConnectionLost | None:
        if not self.feed.verified and mono - started > VERIFY_S:
            return ConnectionLost("refused", f"the subscription was not confirmed within {VERIFY_S:g} s")
        if self.feed.patience.expired(mono):
            silence = self.feed.patience.silence(mono)
            return ConnectionLost("stalled", f"connected, but no data for {silence:.1f} s")
        return None
