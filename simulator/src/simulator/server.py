"""The exchange on loopback: one port for REST, WebSocket and control."""

from __future__ import annotations

import asyncio
import errno
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict
from typing import Self

import orjson
from aiohttp import WSMsgType, web

from fluxforge.clock import Clock, SystemClock
from fluxforge.errors import ConfigError, PortInUse
from simulator import control, rest, subscriptions, wire
from simulator.faults import FRAME_KINDS, Fault, FrameFaults, Injected, ids, schedule
from simulator.hub import Hub
from simulator.market import Frame, Market
from simulator.pump import Pump, Start

log = logging.getLogger(__name__)

PING_EVERY, PONG_WITHIN = 20.0, 60.0
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Simulator:
    """Serves one market; `async with Simulator(market) as sim: … sim.url`.

    host, port  where to listen; port 0 takes a free one
    speed       market seconds per second; None as fast as subscribers read
    start       when the market begins
    patience    s it waits, before the first diff that a depth snapshot does not cover, for the snapshot to be asked for
    faults      (seed, faults per minute of market time); None injects only what is asked for

    Raises PortInUse when entered.
    """

    def __init__(
        self,
        market: Market,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        speed: float | None = 1.0,
        start: Start | None = None,
        patience: float = 5.0,
        faults: tuple[int, float] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.market = market
        self.hub = Hub()
        self.log: list[Injected] = []
        self._clock = clock or SystemClock()
        self._host, self._port = host, port
        self._speed = speed
        self._frame_faults = FrameFaults()
        self._fault_ids = 0
        self._plan = schedule(*faults, symbols=list(market.instruments)) if faults else iter(())
        self._planned = next(self._plan, None)
        self._first_at: int | None = None
        self._refuse_until = self._status_until = 0.0
        self._status = 429
        self._weight, self._weight_minute = 0, 0
        self.pump = Pump(
            market,
            self.hub,
            self._publish,
            speed=speed,
            start=start or Start(),
            patience=patience,
            clock=self._clock,
        )
        self._tasks: list[asyncio.Task[None]] = []
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """`http://127.0.0.1:18110`, for REST and control."""
        return f"http://{self._host}:{self._port}"

    @property
    def ws_url(self) -> str:
        """`ws://127.0.0.1:18110`; raw streams under `/ws`, combined ones under `/stream`."""
        return f"ws://{self._host}:{self._port}"

    @property
    def ended(self) -> asyncio.Event:
        """Set when the market has no more frames."""
        return self.pump.ended

    async def __aenter__(self) -> Self:
        app = web.Application(middlewares=[self._gate])
        control.add_routes(app, self)
        app.router.add_get("/ws", self._socket)
        app.router.add_get("/ws/{rest:.*}", self._socket)
        app.router.add_get("/stream", self._socket)
        app.router.add_get("/stream/{rest:.*}", self._socket)
        app.router.add_get("/{path:.*}", self._rest)
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.5)
        await runner.setup()
        try:
            await web.TCPSite(runner, self._host, self._port).start()
        except OSError as error:
            await runner.cleanup()
            if error.errno != errno.EADDRINUSE:
                raise
            raise PortInUse(
                f"port {self._port} on {self._host} is in use",
                hint="choose another with --port, or --port 0 for any free one",
            ) from error
        self._runner = runner
        self._port = runner.addresses[0][1]
        self._tasks = [asyncio.create_task(self._play()), asyncio.create_task(self._ping())]
        return self

    async def __aexit__(self, *_exc: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for connection in list(self.hub.connections):
            connection.cut()
        if self._runner is not None:
            await self._runner.cleanup()

    def inject(self, fault: Fault) -> int:
        """Make `fault` happen; its id in the log."""
        if fault.symbol is not None and fault.symbol not in self.market.instruments:
            raise ConfigError(f"no symbol {fault.symbol!r}", hint=f"one of {', '.join(self.market.instruments)}")
        self._fault_ids += 1
        if fault.kind in FRAME_KINDS:
            self._frame_faults.arm(self._fault_ids, fault)
            return self._fault_ids
        hit = self.hub.of_symbol(fault.symbol) if fault.kind in {"drop", "stall"} else []
        until = self._clock.monotonic() + fault.seconds
        for connection in hit:
            if fault.kind == "drop":
                connection.cut()
            else:
                connection.silent_until = until
        if fault.kind == "refuse":
            self._refuse_until = until
        elif fault.kind == "http":
            self._status_until, self._status = until, fault.status
        self._record(self._fault_ids, fault, connections=len(hit))
        return self._fault_ids

    def status(self) -> dict[str, object]:
        """What is going on."""
        return {
            "started": self.pump.started.is_set(),
            "paused": self.pump.paused,
            "ended": self.pump.ended.is_set(),
            "speed": self._speed or "max",
            "exchange_ms": self.market.exchange_ms(self.pump.at),
            "symbols": list(self.market.instruments),
            "connections": len(self.hub.connections),
            "streams": self.hub.streams,
            "frames": dict(self.hub.offered),
            "sent": self.hub.sent,
            "cut_as_too_slow": self.hub.slow,
            "faults": len(self.log),
            **self.market.notes(),
        }

    def _publish(self, frame: Frame) -> None:
        """Let a frame through the faults to the hub."""
        if self._first_at is None:
            self._first_at = frame.at
        while self._planned is not None and frame.at - self._first_at >= self._planned[0]:
            self.inject(self._planned[1])
            self._planned = next(self._plan, None)
        frames, hit = self._frame_faults.apply(frame)
        if hit is not None:
            first, last = ids(frame)
            self._record(*hit, stream=frame.stream, first=first, last=last)
        for one in frames:
            self.hub.offer(one)

    def _record(
        self,
        fault_id: int,
        fault: Fault,
        *,
        stream: str | None = None,
        first: int | None = None,
        last: int | None = None,
        connections: int = 0,
    ) -> None:
        at = self.pump.at
        symbol = stream.partition("@")[0].upper() if stream else fault.symbol
        entry = Injected(
            id=fault_id,
            kind=fault.kind,
            symbol=symbol,
            at=at,
            exchange_ms=self.market.exchange_ms(at),
            stream=stream,
            first=first,
            last=last,
            connections=connections,
        )
        self.log.append(entry)
        log.info("fault %s", orjson.dumps(asdict(entry)).decode())

    @web.middleware
    async def _gate(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refusals and rate-limit answers; control always passes."""
        if request.path.startswith("/control/"):
            return await handler(request)
        now = self._clock.monotonic()
        if now < self._refuse_until and request.transport is not None:
            request.transport.abort()
            return web.Response(status=503)
        if now < self._status_until:
            wait = str(max(1, round(self._status_until - now)))
            body = wire.error(-1003, "Too many requests; please use the websocket for live updates.")
            return web.Response(
                status=self._status, body=body, content_type="application/json", headers={"Retry-After": wait}
            )
        return await handler(request)

    async def _rest(self, request: web.Request) -> web.Response:
        answer = rest.answer(self.market, request.path, request.query, self.market.exchange_ms(self.pump.at))
        minute = int(self._clock.monotonic() // 60)
        self._weight = answer.weight + (self._weight if minute == self._weight_minute else 0)
        self._weight_minute = minute
        if answer.snapshot_of is not None:
            self.pump.snapshot_asked(answer.snapshot_of)
        used = str(self._weight)
        return web.Response(
            status=answer.status,
            body=answer.body,
            content_type="application/json",
            headers={"x-mbx-used-weight": used, "x-mbx-used-weight-1m": used},
        )

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        opening = subscriptions.opening(request.path, request.query.get("streams", ""))
        socket = web.WebSocketResponse(compress=False, autoping=False, max_msg_size=1 << 20)
        await socket.prepare(request)
        transport = request.transport
        if transport is None:
            return socket
        connection = self.hub.connect(transport, opening.combined, self._clock.monotonic())
        try:
            connection.subscribe(opening.streams)
            async for message in socket:
                if message.type in {WSMsgType.TEXT, WSMsgType.BINARY}:
                    connection.reply(subscriptions.answer(connection, message.data))
                    self.hub.flush(self._clock.monotonic())
                elif message.type is WSMsgType.PING:
                    with suppress(ConnectionResetError):
                        await socket.pong(message.data)
                elif message.type is WSMsgType.PONG:
                    connection.last_pong = self._clock.monotonic()
        finally:
            self.hub.disconnect(connection)
        return socket

    async def _play(self) -> None:
        try:
            await self.pump.run()
        except Exception:
            log.exception("the market broke off")
            raise

    async def _ping(self) -> None:
        """The exchange's own pings; who answers none, and is not merely reading slowly, is cut."""
        while True:
            await asyncio.sleep(PING_EVERY)
            now = self._clock.monotonic()
            payload = str(int(time.time() * 1000)).encode()
            for connection in list(self.hub.connections):
                if now - connection.last_pong > PONG_WITHIN and not connection.unsent:
                    connection.cut()
                else:
                    connection.queue(wire.ping_frame(payload))
            self.hub.flush(now)
