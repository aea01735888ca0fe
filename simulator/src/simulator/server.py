"""The exchange on loopback: one port for REST, WebSocket and control."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Self

from aiohttp import WSMsgType, web

from fluxforge.clock import Clock, SystemClock
from fluxforge.errors import ConfigError, PortInUse
from simulator import control
from simulator.binance.venue import Binance
from simulator.faults import FRAME_KINDS, Fault, FrameFaults
from simulator.hub import Connection, Hub
from simulator.ledger import Hit, Ledger
from simulator.market import Diff, Frame, Hold, Market, Traded
from simulator.pump import Pump, Start
from simulator.schedule import Rates, plan, spread
from simulator.spells import Spells
from simulator.truth import Truth
from simulator.venue import Desk, Venue
from simulator.witness import Witness

log = logging.getLogger(__name__)

BEAT = 1.0


class Simulator:
    """Serves one market as one exchange; `async with Simulator(market, Coinbase()) as sim: … sim.url`.

    venue       whose protocol it speaks
    host, port  where to listen; port 0 takes a free one
    speed       market seconds per second; None as fast as subscribers read
    start       when the market begins
    patience    s it waits, before the first diff that a depth snapshot does not cover, for the snapshot to be asked for
    faults      (seed, faults per minute of market time, of each kind or of all together); None injects only what is
                asked for
    ledger      a file that every fault is appended to, NDJSON
    history     diffs of each symbol kept, so that `truth` can give whole books that far back

    Raises PortInUse when entered.
    """

    def __init__(
        self,
        market: Market,
        venue: Venue | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        speed: float | None = 1.0,
        start: Start | None = None,
        patience: float = 5.0,
        faults: tuple[int, Rates | float] | None = None,
        ledger: Path | None = None,
        history: int = 200,
        clock: Clock | None = None,
    ) -> None:
        self.market = market
        self.venue = venue or Binance()
        self.hub = Hub(numbered=self.venue.numbered)
        self.truth = Truth(history)
        self.log = Ledger(ledger)
        self._clock = clock or SystemClock()
        self._host, self._port = host, port
        self._speed = speed
        symbols = {self.venue.symbol(instrument): symbol for symbol, instrument in market.instruments.items()}
        self.desk = Desk(market, self.hub, self.truth, self._clock, symbols)
        market.terse = self.venue.terse
        self.venue.bind(self.desk)
        self._spells = Spells(self.venue, self.desk, self._clock)
        self._frame_faults = FrameFaults(self.venue.book)
        self._witness = Witness(self.log, self.desk, self._clock)
        self._fault_ids = 0
        self._plan: Iterator[tuple[int, Fault]] = iter(())
        if faults is not None:
            seed, rates = faults
            rates = spread(rates, self.venue.checksummed) if isinstance(rates, int | float) else rates
            self._plan = plan(seed, rates, list(symbols), self.venue.book, self.venue.trades)
        self._planned = next(self._plan, None)
        self._first_at: int | None = None
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
        """`ws://127.0.0.1:18110`; the venue says which paths below it take WebSockets."""
        return f"ws://{self._host}:{self._port}"

    @property
    def ended(self) -> asyncio.Event:
        """Set when the market has no more frames."""
        return self.pump.ended

    async def __aenter__(self) -> Self:
        app = web.Application(middlewares=[self._spells.gate])
        control.add_routes(app, self)
        app.router.add_get("/{path:.*}", self._answer)
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
        self._tasks = [asyncio.create_task(self._play()), asyncio.create_task(self._beat())]
        return self

    async def __aexit__(self, *_exc: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for connection in list(self.hub.connections):
            connection.cut()
        if self._runner is not None:
            await self._runner.cleanup()
        self.log.close()

    def inject(self, fault: Fault) -> int:
        """Make `fault` happen; its id in the ledger."""
        if fault.symbol is not None and fault.symbol not in self.desk.symbols:
            raise ConfigError(f"no symbol {fault.symbol!r}", hint=f"one of {', '.join(self.desk.symbols)}")
        if fault.kind == "checksum" and not self.venue.checksummed:
            raise ConfigError(f"{self.venue.name} sends no checksums", hint="skip a frame instead")
        self._fault_ids += 1
        number = self._fault_ids
        if fault.kind in FRAME_KINDS:
            self._frame_faults.arm(number, fault)
        elif fault.kind in {"drop", "stall"}:
            reached = self.hub.of_symbol(fault.symbol)
            for connection in reached:
                if fault.kind == "drop":
                    connection.cut()
                else:
                    self._stall(connection, number, fault.seconds)
            hits = tuple(Hit(one.number, one.peer, one.sequence if self.hub.numbered else None) for one in reached)
            self._witness.note(number, fault, hits)
        else:
            self._spells.begin(fault)
            self._witness.note(number, fault, ())
        return number

    def status(self) -> dict[str, object]:
        """What is going on."""
        return {
            "exchange": self.venue.name,
            "started": self.pump.started.is_set(),
            "paused": self.pump.paused,
            "ended": self.pump.ended.is_set(),
            "speed": self._speed or "max",
            "exchange_ms": self.market.exchange_ms(self.pump.at),
            "symbols": list(self.desk.symbols),
            "connections": len(self.hub.connections),
            "streams": self.hub.streams,
            "frames": dict(self.hub.offered),
            "sent": self.hub.sent,
            "cut_as_too_slow": self.hub.slow,
            "faults": len(self.log),
            **self.market.notes(),
        }

    def _publish(self, item: Frame | Hold) -> None:
        """Let what happened through the venue and the faults to the hub."""
        self.desk.at = item.at
        now_ms = self.market.exchange_ms(item.at)
        if isinstance(item, Hold):
            self.truth.load(item.symbol, self.market.book(item.symbol, 1_000_000), now_ms)
            return
        if self._first_at is None:
            self._first_at = item.at
        while self._planned is not None and item.at - self._first_at >= self._planned[0]:
            self.inject(self._planned[1])
            self._planned = next(self._plan, None)
        fact = item.fact
        if isinstance(fact, Diff):
            self.truth.diff(fact, now_ms)
        elif isinstance(fact, Traded):
            self.truth.trade(fact.symbol, fact.print.id)
        for frame in self.venue.render(item):
            self._offer(frame)

    def _offer(self, frame: Frame) -> None:
        hit = self._frame_faults.match(frame) if self.hub.wanted(frame.stream) else None
        fault_id, fault = hit or (0, None)
        hits = self.hub.offer(frame, self._clock.monotonic(), fault)
        if fault is not None:
            self._witness.note(fault_id, fault, hits, frame)

    def _stall(self, connection: Connection, fault_id: int, seconds: float) -> None:
        self._witness.settle(connection)
        self.hub.sent += connection.flush(self._clock.monotonic())
        connection.stall(self._clock.monotonic() + seconds, fault_id)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() == "websocket" and self.venue.accepts(request.path):
            return await self._socket(request)
        answer, response = await self._spells.rest(request.path, request.query)
        if answer.snapshot_of is not None:
            self.pump.snapshot_asked(answer.snapshot_of)
        return response

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(compress=False, autoping=False, max_msg_size=1 << 20)
        await socket.prepare(request)
        transport = request.transport
        if transport is None:
            return socket
        if self._spells.on("policy"):
            await socket.close(code=1008, message=b"policy violation")
            return socket
        closing: set[asyncio.Task[bool]] = set()

        def end(code: int, reason: str) -> None:
            if not closing:
                closing.add(asyncio.create_task(socket.close(code=code, message=reason.encode())))

        connection = self.hub.connect(transport, self._clock.monotonic(), end)
        try:
            self.venue.opened(connection, request.path, request.query)
            async for message in socket:
                connection.last_heard = self._clock.monotonic()
                if message.type in {WSMsgType.TEXT, WSMsgType.BINARY}:
                    self.venue.received(connection, message.data)
                    self.hub.flush(self._clock.monotonic())
                elif message.type is WSMsgType.PING:
                    with suppress(ConnectionResetError):
                        await socket.pong(message.data)
                elif message.type is WSMsgType.PONG:
                    connection.last_pong = self._clock.monotonic()
        finally:
            self._witness.settle(connection)
            self.hub.disconnect(connection)
        return socket

    async def _play(self) -> None:
        try:
            await self.pump.run()
        except Exception:
            log.exception("the market broke off")
            raise

    async def _beat(self) -> None:
        """Once a second: the venue's own habits; stalls that are over."""
        while True:
            await asyncio.sleep(BEAT)
            now = self._clock.monotonic()
            for connection in self.hub.connections:
                if connection.lost and now >= connection.silent_until:
                    self._witness.settle(connection)
            for frame in self.venue.beat():
                self._offer(frame)
            self.hub.flush(now)
