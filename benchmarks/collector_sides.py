"""What the collector benchmark runs as processes of their own: one side each, its own CPU time and nobody else's.

    python -m benchmarks.collector_sides SIDE FILE PORT

FILE is a `collector_wire.Wire`, PORT that of a `collector_server` which plays it, 0 where none is wanted. Prints one
JSON line: the frames and the CPU s (user + system, all threads) that they took, those of the head and of what comes
before it left out.

    bare      aiohttp's socket and orjson.loads, nothing kept
    picows    the same on picows' socket, by callback
    unlogged  the native collector on that socket, to an appender that drops everything
    native    the same, to the embedded log
    parse     the collector's parser on the same frames, without a socket
    handle    all that the collector does with a frame, without a socket and a log
    follow    a bare socket at a market's own pace, for ever; FILE is aiohttp or picows, PORT `port/ms between reads`
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from socket import SO_RCVLOWAT, SOL_SOCKET
from typing import Any

import aiohttp
import orjson
from benchmarks.collector_wire import CHANNELS, GO, Wire, read
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from collector.feed import Feed, NativeConfig
from collector.native import NativeCollector
from collector.pipeline import Pipeline
from collector.skew import Skew
from collector.stats import Stats
from collector.venue import TradePages, Venue
from collector.venues.binance import Binance
from collector.venues.coinbase import Coinbase
from collector.wire import RestBook
from collector.wire.binance import rest_book
from fluxforge import metrics
from fluxforge.clock import SystemClock
from fluxforge.log import Appender, Output, open_log
from fluxforge.topics import Topics

PARTITIONS = 4
WITHIN_S = 60.0
FOLLOWED = ("BTCUSDT", "ETHUSDT")
MARK = 256 * 1024
"""Bytes that wake a socket which is read in batches, and of picows' buffer."""
CHUNK = 1000
"""Frames handled between two visits to the pipeline, where there is no socket."""


class Nowhere:
    """An Appender that drops what it is given."""

    def append(self, output: Output) -> None:
        pass

    def pending(self) -> int:
        return 0

    def flush(self, timeout: float = 30.0) -> None:
        pass

    def close(self) -> None:
        pass


class Answers:
    """The REST interface as far as a book needs it."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def markets(self) -> dict[str, str]:
        return {self._wire.native: self._wire.symbol}

    async def book(self, native: str, levels: int | None = None) -> RestBook:
        return rest_book(self._wire.answers["/api/v3/depth"])

    async def trades_since(self, native: str, first: int, ts: int | None) -> TradePages:
        raise TimeoutError("no trade of these frames is missing")


def venue_of(exchange: str, port: int) -> Venue:
    """The exchange on this machine."""
    rest, ws = f"http://127.0.0.1:{port}", f"ws://127.0.0.1:{port}"
    return Coinbase(rest=rest, ws=ws) if exchange == "coinbase" else Binance(exchange, rest=rest, ws=ws)


def config_of(wire: Wire, port: int) -> NativeConfig:
    return NativeConfig(venue_of(wire.exchange, port), (wire.symbol,), CHANNELS, "bench")


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


async def unlogged(wire: Wire, port: int) -> dict[str, float]:
    """The collector without a log."""
    return await _native(wire, port, Nowhere())


async def native(wire: Wire, port: int) -> dict[str, float]:
    """The collector as it is shipped, with its log."""
    with tempfile.TemporaryDirectory(prefix="fluxforge-bench-") as folder:
        log = open_log(f"sqlite:///{folder}/raw.db")
        log.create(Topics().specs(PARTITIONS))
        found = await _native(wire, port, log.appender())
        log.close()
        return found


async def _native(wire: Wire, port: int, appender: Appender) -> dict[str, float]:
    stats = Stats()
    pipeline = Pipeline(appender, Topics().raw, stats=stats)
    collector = NativeCollector(config_of(wire, port), pipeline, stats, SystemClock())
    writing, collecting = asyncio.create_task(pipeline.run()), asyncio.create_task(collector.run())
    async with asyncio.timeout(WITHIN_S), aiohttp.ClientSession() as http:
        await until(lambda: bool(collector.connections))
        feed = collector.connections[0].feed
        await until(lambda: feed.frames >= wire.head and feed.verified and in_step(feed))
        require_whole(feed, stats)
        if feed.frames > wire.head:
            raise RuntimeError(f"{feed.frames} frames before the first was to be measured")
        started = time.process_time()
        await go(http, port)
        await until(lambda: feed.frames >= len(wire.frames) and not len(pipeline))
        spent = time.process_time() - started
    require_whole(feed, stats)
    collecting.cancel()
    await asyncio.gather(collecting, return_exceptions=True)
    pipeline.close()
    await writing
    return {"frames": len(wire.frames) - wire.head, "cpu": spent, "events": stats.of(metrics.EVENTS)}


async def parse(wire: Wire, _port: int) -> dict[str, float]:
    """The parser alone."""
    venue = venue_of(wire.exchange, 0)
    parser = venue.parser("bench", "bench-1", {wire.native: wire.symbol}, Skew())
    for frame in wire.frames[: wire.head]:
        parser.parse(frame, time.time_ns())
    frames = wire.frames[wire.head :]
    started = time.process_time()
    for frame in frames:
        parser.parse(frame, time.time_ns())
    return {"frames": len(frames), "cpu": time.process_time() - started}


async def handle(wire: Wire, _port: int) -> dict[str, float]:
    """From frame to encoded event."""
    stats = Stats()
    pipeline = Pipeline(Nowhere(), Topics().raw, stats=stats)
    writing = asyncio.create_task(pipeline.run())
    feed = Feed(
        config_of(wire, 0),
        {wire.native: wire.symbol},
        Answers(wire),
        renew=_no_renewal,
        pipeline=pipeline,
        stats=stats,
        clock=SystemClock(),
        resume={},
    )
    feed.opened()
    for frame in wire.frames[: wire.head]:
        feed.frame(frame)
    feed.verify()
    async with asyncio.timeout(WITHIN_S):
        await until(lambda: in_step(feed))
    frames = wire.frames[wire.head :]
    started = time.process_time()
    for at in range(0, len(frames), CHUNK):
        for frame in frames[at : at + CHUNK]:
            feed.frame(frame)
        await until(lambda: not len(pipeline))
    spent = time.process_time() - started
    require_whole(feed, stats)
    feed.let_go()
    pipeline.close()
    await writing
    return {"frames": len(frames), "cpu": spent}


async def until(reached: Callable[[], bool]) -> None:
    """Look now and then: little CPU, and no help from what is measured."""
    while not reached():  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def _no_renewal(_natives: object) -> None:
    raise TimeoutError("no book of these frames is broken")


async def go(http: aiohttp.ClientSession, port: int) -> None:
    """Have the server send what is measured."""
    async with http.get(f"http://127.0.0.1:{port}{GO}") as answer:
        answer.raise_for_status()


def in_step(feed: Feed) -> bool:
    """Whether every book stands and nothing is held back."""
    return not any(market.wants_snapshot or market.holding for market in feed.markets.values())


def require_whole(feed: Feed, stats: Stats) -> None:
    """Raises RuntimeError where a book is out of step, or something was lost: such a run measures something else."""
    feed.count()
    lost = {name: stats.of(metric) for name, metric in _LOSSES.items() if stats.of(metric)}
    if lost or not in_step(feed):
        raise RuntimeError(f"the collector was not undisturbed: {lost or 'a book is out of step'}")


_LOSSES = {"gaps": metrics.GAPS, "shed": metrics.SHED, "bad frames": metrics.BAD_FRAMES}


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


SIDES: dict[str, Callable[[Wire, int], Coroutine[Any, Any, dict[str, float]]]] = {
    "bare": bare,
    "picows": picows,
    "unlogged": unlogged,
    "native": native,
    "parse": parse,
    "handle": handle,
}


def main(side: str, what: str, port: str) -> None:
    """See above."""
    if side == "follow":
        number, _, milliseconds = port.partition("/")
        asyncio.run(follow(what, int(number), int(milliseconds) / 1000))
        return
    found: Any = asyncio.run(SIDES[side](read(what), int(port)))
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
