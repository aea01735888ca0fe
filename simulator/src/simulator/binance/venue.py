"""Binance spot: the protocol markets are written in, so that frames pass as they are.

REST       http://127.0.0.1:PORT/api/v3/…
WebSocket  ws://127.0.0.1:PORT/ws (raw streams), /stream (combined ones)
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from simulator.binance import requests, rest, wire
from simulator.framing import ping_frame
from simulator.hub import Connection
from simulator.market import Answers, Frame, Instrument
from simulator.venue import Answer, Desk, Query


class Binance:
    """Binance spot.

    ping_every, pong_within  s; who answers no ping, and is not merely reading slowly, is cut
    """

    name = "binance"
    numbered = False
    checksummed = terse = False
    book, trades = "depth@100ms", "trade"

    def __init__(self, *, ping_every: float = 20.0, pong_within: float = 60.0) -> None:
        self._ping_every, self._pong_within = ping_every, pong_within
        self._weight, self._minute = 0, 0
        self._pinged = 0.0

    def symbol(self, instrument: Instrument) -> str:
        return instrument.symbol

    def bind(self, desk: Desk) -> None:
        self._desk = desk
        self._pinged = desk.clock.monotonic()

    def render(self, frame: Frame) -> Iterable[Frame]:
        return (frame,)

    def accepts(self, path: str) -> bool:
        return path.strip("/").partition("/")[0] in {"ws", "stream"}

    def opened(self, connection: Connection, path: str, query: Query) -> None:
        opening = requests.opening(path, query.get("streams", ""))
        connection.combined = opening.combined
        connection.subscribe(opening.streams)

    def received(self, connection: Connection, text: str | bytes) -> None:
        if self._desk.rejecting:
            connection.reply(b'{"error":{"code":3,"msg":"Too many requests"},"id":null}')
            connection.end(1008, "Too many requests")
            return
        connection.reply(requests.answer(connection, text))

    def rest(self, answers: Answers, path: str, query: Query) -> Answer:
        answer = rest.answer(answers, path, query, self._desk.exchange_ms)
        minute = int(self._desk.clock.monotonic() // 60)
        self._weight = answer.weight + (self._weight if minute == self._minute else 0)
        self._minute = minute
        used = str(self._weight)
        return answer._replace(headers={"x-mbx-used-weight": used, "x-mbx-used-weight-1m": used})

    def beat(self) -> Iterable[Frame]:
        now = self._desk.clock.monotonic()
        if now - self._pinged < self._ping_every:
            return ()
        self._pinged = now
        payload = str(int(time.time() * 1000)).encode()
        for connection in list(self._desk.hub.connections):
            if now - connection.last_pong > self._pong_within and not connection.unsent:
                connection.cut()
            else:
                connection.queue(ping_frame(payload))
        return ()

    def busy(self, status: int) -> bytes:
        if status >= 500:
            return wire.error(-1000, "An unknown error occurred while processing the request.")
        return wire.error(-1003, "Too many requests; please use the websocket for live updates.")
