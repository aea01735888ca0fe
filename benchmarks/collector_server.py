"""The exchange of the collector benchmark: it sends what a file holds, encoded beforehand, as fast as it is read.

    python -m benchmarks.collector_server FILE

prints its port and serves until its standard input ends. A socket that says something gets the file's head; a GET of
GO, once a collector's book is in step, has everything else sent. REST answers lie in the file too.
"""

from __future__ import annotations

import asyncio
import sys

from aiohttp import WSMsgType, web
from benchmarks.collector_wire import GO, Wire, read

from simulator.framing import text_frame

CHUNK = 256 * 1024
"""Bytes handed to the transport at once, and what it may hold unsent."""


class Server:
    """One file, any number of sockets one after another."""

    def __init__(self, wire: Wire) -> None:
        self._answers = wire.answers
        self._head = b"".join(map(text_frame, wire.frames[: wire.head]))
        self._go = asyncio.Event()
        self._rest = b"".join(map(text_frame, wire.frames[wire.head :]))

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """A socket, or a REST answer by its path."""
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._socket(request)
        if request.path == GO:
            self._go.set()
            return web.Response()
        body = self._answers.get(request.path)
        return web.Response(status=404) if body is None else web.Response(body=body, content_type="application/json")

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        assert request.transport is not None
        playing: asyncio.Task[None] | None = None
        async for message in socket:
            if message.type is WSMsgType.TEXT and playing is None:
                playing = asyncio.create_task(self._play(request.transport))
        if playing is not None:
            playing.cancel()
        return socket

    async def _play(self, transport: asyncio.Transport) -> None:
        transport.write(self._head)
        await self._go.wait()
        self._go.clear()
        for at in range(0, len(self._rest), CHUNK):
            transport.write(self._rest[at : at + CHUNK])
            while transport.get_write_buffer_size() > CHUNK and not transport.is_closing():  # noqa: ASYNC110
                await asyncio.sleep(0.0005)


async def serve(path: str) -> None:
    """Until standard input ends."""
    app = web.Application()
    app.router.add_get("/{path:.*}", Server(read(path)).answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
