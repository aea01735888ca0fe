"""The WebSocket client: every message whole, whatever pieces it arrives in; every end told."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import random
import socket
import struct
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp.http_websocket import WS_KEY

from collector.websocket import BUFFER, LARGEST, WebSocket, connect
from fluxforge.errors import MarketDataError
from on_loop import on_loop

TEXT, BINARY, CLOSE, PING, PONG, START, MIDDLE, LAST = 0x81, 0x82, 0x88, 0x89, 0x8A, 0x01, 0x00, 0x80


def frame(head: int, data: bytes) -> bytes:
    """As a server sends it."""
    size = len(data)
    if size < 126:
        return bytes((head, size)) + data
    return struct.pack("!BBH" if size < 65_536 else "!BBQ", head, 126 if size < 65_536 else 127, size) + data


def opened(sent: bytes) -> list[tuple[int, bytes]]:
    """The frames of a client, which are all masked."""
    found = []
    while sent:
        size, at = sent[1] & 0x7F, 2
        assert sent[1] & 0x80, "a client masks"
        if size == 126:
            size, at = int.from_bytes(sent[2:4]), 4
        elif size == 127:
            size, at = int.from_bytes(sent[2:10]), 10
        mask, data = sent[at : at + 4], sent[at + 4 : at + 4 + size]
        found.append((sent[0], bytes(byte ^ mask[k % 4] for k, byte in enumerate(data))))
        sent = sent[at + 4 + size :]
    return found


class Told:
    """A reader that keeps what it is told."""

    def __init__(self, fails_at: bytes = b"\0") -> None:
        self.messages: list[bytes] = []
        self.signs = self.rests = 0
        self._fails_at = fails_at

    def message(self, data: bytes) -> None:
        if data == self._fails_at:
            raise MarketDataError("no more of this")
        self.messages.append(data)

    def alive(self) -> None:
        self.signs += 1

    def rest(self) -> None:
        self.rests += 1


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


@asynccontextmanager
async def serving(serve: Serve) -> AsyncIterator[str]:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/stream?a=b"


async def accept(reader: asyncio.StreamReader) -> bytes:
    """The answer to a request to open a WebSocket, by an account of its own."""
    request = (await reader.readuntil(b"\r\n\r\n")).decode()
    assert request.startswith("GET /stream?a=b HTTP/1.1\r\nHost: 127.0.0.1:")
    [key] = [line.split(": ")[1] for line in request.split("\r\n") if line.startswith("Sec-WebSocket-Key")]
    token = base64.b64encode(hashlib.sha1(key.encode() + WS_KEY).digest()).decode()
    fields = ("HTTP/1.1 101 Switching Protocols", "upgrade: websocket", "connection: upgrade")
    return "\r\n".join((*fields, f"sec-websocket-accept: {token}", "", "")).encode()


@asynccontextmanager
async def playing(data: bytes, told: Told, pieces: Callable[[], int] = lambda: 10**9) -> AsyncIterator[Played]:
    """A WebSocket that reads `data` from a server, which writes it in pieces."""
    played = Played()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await accept(reader))
        await reader.readexactly(6)  # an empty message: it is read now
        rest = data
        while rest:
            size = pieces()
            writer.write(rest[:size])
            await writer.drain()
            rest = rest[size:]
        played.sent = await goodbye(reader)
        played.over.set()
        writer.close()

    async with serving(serve) as url:
        played.socket = await connect(url)
        played.socket.read(told)
        played.socket.send("")
        async with asyncio.timeout(120):
            yield played


async def goodbye(reader: asyncio.StreamReader) -> bytes:
    """All that a client sends, up to its close frame and what that says."""
    sent = b""
    while True:
        head = await reader.readexactly(2)
        more = {126: 2, 127: 8}.get(head[1] & 0x7F, 0)
        length = await reader.readexactly(more)
        size = int.from_bytes(length) if more else head[1] & 0x7F
        sent += head + length + await reader.readexactly(4 + size)
        if head[0] == CLOSE:
            return sent


class Played:
    """What became of it."""

    socket: WebSocket

    def __init__(self) -> None:
        self.sent = b""
        self.over = asyncio.Event()


@pytest.mark.parametrize("seed", range(12))
@on_loop
async def test_messages_are_whole_whatever_pieces_they_come_in(seed: int):
    rng = random.Random(seed)
    wanted, pings, data = [], [], b""
    for _ in range(20):
        whole = rng.randbytes(rng.choice([0, 1, 125, 126, 200, 65_535, 65_536, rng.randrange(3 * BUFFER)]))
        if rng.random() < 0.3:
            cut, again = sorted(rng.choices(range(len(whole) + 1), k=2))
            ping = rng.randbytes(rng.randrange(126))
            pings.append(ping)
            parts = [(START, whole[:cut]), (PING, ping), (MIDDLE, whole[cut:again]), (LAST, whole[again:])]
            data += b"".join(frame(*part) for part in parts)
        else:
            data += frame(BINARY, whole)
        wanted.append(whole)
    told = Told()
    farewell = struct.pack("!H", 1000)
    longest = rng.choice([7_000, 100_000, 10**9])
    async with playing(data + frame(CLOSE, farewell), told, lambda: rng.randrange(1, longest)) as played:
        assert await played.socket.ended() == 1000
        await played.over.wait()
    assert told.messages == wanted
    assert opened(played.sent) == [*((PONG, ping) for ping in pings), (CLOSE, farewell)]
    assert told.signs == len(pings)
    assert told.rests


@on_loop
async def test_what_is_sent_is_masked_whatever_its_length():
    texts = ["", "a", "b" * 125, "c" * 126, "d" * 65_535, "e" * 65_536]
    async with playing(b"", Told()) as played:
        for text in texts:
            played.socket.send(text)
        played.socket.close()
        await played.over.wait()
        await played.socket.ended()
        with pytest.raises(ConnectionResetError):
            played.socket.send("too late")
    assert opened(played.sent)[:-1] == [(TEXT, text.encode()) for text in texts]


@pytest.mark.parametrize("code", [1008, 4001])
@on_loop
async def test_a_close_is_answered_and_its_code_told(code: int):
    data = struct.pack("!H", code) + b"policy"
    async with playing(frame(CLOSE, data), Told()) as played:
        assert await played.socket.ended() == code
        await played.over.wait()
    assert opened(played.sent) == [(CLOSE, struct.pack("!H", code))]


@pytest.mark.parametrize(
    "data",
    [
        b"\x83\x01a",
        frame(LAST, b"of nothing"),
        frame(START, b"a") + frame(START, b"b"),
        struct.pack("!BBQ", TEXT, 127, LARGEST + 1),
    ],
    ids=["opcode", "no beginning", "two beginnings", "too large"],
)
@on_loop
async def test_a_frame_that_breaks_the_protocol_ends_the_connection(data: bytes):
    told = Told()
    async with playing(data, told) as played:
        with pytest.raises(MarketDataError):
            await played.socket.ended()
    assert told.messages == []


@on_loop
async def test_what_the_reader_raises_ends_the_connection():
    told = Told(fails_at=b"2")
    async with playing(b"".join(frame(TEXT, str(n).encode()) for n in range(4)), told) as played:
        with pytest.raises(MarketDataError, match="no more of this"):
            await played.socket.ended()
    assert told.messages == [b"0", b"1"]


@on_loop
async def test_frames_behind_the_answer_wait_until_they_are_read():
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await accept(reader) + frame(TEXT, b"first"))
        writer.close()

    told = Told()
    async with serving(serve) as url:
        made = await connect(url)
        assert told.messages == []
        made.read(told)
        assert await made.ended() == 1006
    assert told.messages == [b"first"]


@on_loop
async def test_a_refusal_is_told_as_the_server_says_it():
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    async with serving(serve) as url:
        with pytest.raises(MarketDataError, match="429"):
            await connect(url)


@on_loop
async def test_an_answer_to_another_request_is_none():
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answer = await accept(reader)
        writer.write(answer.replace(b"accept: ", b"accept: x"))
        writer.close()

    async with serving(serve) as url:
        with pytest.raises(MarketDataError, match="WebSocket"):
            await connect(url)


@on_loop
async def test_a_server_that_hangs_up_on_the_request_is_an_error():
    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with serving(serve) as url:
        with pytest.raises(OSError, match=r"closed|reset"):
            await connect(url)


@on_loop
async def test_between_reads_the_kernel_keeps_what_comes_but_not_the_end():
    left = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await accept(reader))
        await reader.readexactly(8)  # "go", masked
        writer.write(frame(TEXT, b"first"))
        await left.wait()
        writer.write(frame(TEXT, b"second"))
        writer.close()

    told = Told()
    async with serving(serve) as url:
        made = await connect(url)
        made.read(told, pause=3600.0)
        made.send("go")
        while not told.rests or not told.messages:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        kept = made.transport.underlying_transport.get_extra_info("socket").getsockopt(
            socket.SOL_SOCKET, socket.SO_RCVLOWAT
        )
        assert kept == BUFFER
        left.set()
        async with asyncio.timeout(120):
            assert await made.ended() == 1006
    assert told.messages == [b"first", b"second"]
