"""Bare sockets: the floors of the collector benchmark. Each message is loaded by orjson and dropped.

    python -m benchmarks.collector_bare aiohttp|picows PORT MS

follows two of Binance's markets on this machine until it is ended, reading each MS ms; 0: at once.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from socket import SO_RCVLOWAT, SOL_SOCKET

import aiohttp
import orjson
from benchmarks.collector_wire import CHANNELS, GO, Wire
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from collector.venue import Venue
from collector.venues.binance import Binance
from collector.venues.coinbase import Coinbase

WITHIN_S = 60.0
FOLLOWED = ("BTCUSDT", "ETHUSDT")
MARK = 256 * 1024
"""Bytes that wake a socket which is read in batches, and of picows' buffer."""


def venue_of(exchange: str, port: int) -> Venue:
    """The exchange on this machine."""
    rest, ws = f"http://127.0.0.1:{port}", f"ws://127.0.0.1:{port}"
    return Coinbase(rest=rest, ws=ws) if exchange == "coinbase" else Binance(exchange, rest=rest, ws=ws)


async def bare(wire: Wire, port: int) -> dict[str, float]:
    """The floor."""
    count, total, started = 0, len(wire.frames), time.process_time()
    async with aiohttp.ClientSession() as http, _subscribed(http, venue_of(wire.exchange, port), wire.native) as socket:
        while count < total:
            if count == wire.head:
                started = time.process_time()
                await go(http, port)
            message = await socket.receive()
            orjson.loads(message.data)
            count += 1
        spent = time.process_time() - started
    return {"frames": total - wire.head, "cpu": spent}


async def picows(wire: Wire, port: int) -> dict[str, float]:
    """The floor on the library that our collector is on."""
    listener, total = Loads(), len(wire.frames)
    async with aiohttp.ClientSession() as http, asyncio.timeout(WITHIN_S):
        transport = await _listen(listener, venue_of(wire.exchange, port), wire.native)
        await until(lambda: listener.count >= wire.head)
        started = time.process_time()
        await go(http, port)
        await until(lambda: listener.count >= total)
        spent = time.process_time() - started
        transport.disconnect()
    return {"frames": total - wire.head, "cpu": spent}


class _subscribed:  # noqa: N801  used as a function
    """A socket as the collector opens one, subscribed to everything."""

    def __init__(self, http: aiohttp.ClientSession, venue: Venue, *natives: str) -> None:
        url = venue.endpoints.ws + venue.path
        self._connecting = http.ws_connect(url, max_msg_size=0, autoping=False, decode_text=False)
        self._texts = [venue.text(request, 0) for request in venue.subscribe(natives, CHANNELS)]

    async def __aenter__(self) -> aiohttp.ClientWebSocketResponse[bool]:
        socket = self._socket = await self._connecting
        for text in self._texts:
            await socket.send_str(text)
        return socket

    async def __aexit__(self, *_: object) -> None:
        await self._socket.close()


async def follow(library: str, port: int, batch: float) -> None:
    """A bare socket on two of Binance's markets, for ever; read each `batch` s where that is not 0."""
    venue = venue_of("binance", port)
    if library == "picows":
        listener = Loads(batch)
        transport = await _listen(listener, venue, *FOLLOWED)
        await transport.wait_disconnected()
        return
    async with aiohttp.ClientSession() as http, _subscribed(http, venue, *FOLLOWED) as socket:
        connection = socket._response.connection
        assert connection is not None and connection.transport is not None
        dozing = Dozing(connection.transport, batch)
        while True:
            message = await socket.receive()
            if message.type is aiohttp.WSMsgType.PING:
                await socket.pong(message.data)
            elif message.type in {aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY}:
                orjson.loads(message.data)
            else:
                return
            dozing.read()


class Dozing:
    """Has the kernel tell of what arrives only each `batch` s: a wake-up costs more than a frame. 0: at once."""

    def __init__(self, transport: asyncio.BaseTransport, batch: float) -> None:
        self._socket, self._batch, self._waking = transport.get_extra_info("socket"), batch, False

    def read(self) -> None:
        """Something was."""
        if self._batch and not self._waking:
            self._waking = True
            self._mark(MARK)
            asyncio.get_running_loop().call_later(self._batch, self._wake)

    def _wake(self) -> None:
        self._waking = False
        self._mark(1)

    def _mark(self, low: int) -> None:
        self._socket.setsockopt(SOL_SOCKET, SO_RCVLOWAT, low)


class Loads(WSListener):
    """picows' callback: loads each message and counts it."""

    def __init__(self, batch: float = 0.0) -> None:
        self.count, self._batch = 0, batch
        self._dozing: Dozing | None = None

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._dozing = Dozing(transport.underlying_transport, self._batch)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.PING:
            transport.send_pong(frame.get_payload_as_bytes())
        elif frame.msg_type == WSMsgType.TEXT:
            orjson.loads(frame.get_payload_as_bytes())
            self.count += 1
        if frame.last_in_buffer and self._dozing is not None:
            self._dozing.read()


async def _listen(listener: Loads, venue: Venue, *natives: str) -> WSTransport:
    """picows' socket, subscribed to everything."""
    transport, _ = await ws_connect(
        lambda: listener,
        venue.endpoints.ws + venue.path,
        max_frame_size=1 << 26,
        read_buffer_init_size=MARK,
        enable_auto_pong=False,
        use_aiofastnet=False,
    )
    for request in venue.subscribe(natives, CHANNELS):
        transport.send(WSMsgType.TEXT, venue.text(request, 0).encode())
    return transport


async def go(http: aiohttp.ClientSession, port: int) -> None:
    """Have the server send what is measured."""
    async with http.get(f"http://127.0.0.1:{port}{GO}") as answer:
        answer.raise_for_status()


async def until(reached: Callable[[], bool]) -> None:
    """Look now and then: little CPU, and no help from what is measured."""
    while not reached():  # noqa: ASYNC110
        await asyncio.sleep(0.01)


if __name__ == "__main__":
    asyncio.run(follow(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) / 1000))
