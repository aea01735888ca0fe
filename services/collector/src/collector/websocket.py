"""A WebSocket whose messages are handled where they arrive, by picows: none waits for a task to be woken.

A task that is woken for each message costs more than all that a collector does with one.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Protocol

from picows import WSCloseCode, WSError, WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from fluxforge.errors import MarketDataError

BUFFER = 256 * 1024
LARGEST = 64 * 1024 * 1024
"""Bytes of a message."""
CONNECT_S = 10.0
LOST = 1006
"""The close code of a connection that ended without one."""
_MESSAGES = (WSMsgType.TEXT, WSMsgType.BINARY)


class Reader(Protocol):
    """Who reads a WebSocket. What it raises ends the connection, and is raised by `WebSocket.ended`."""

    def message(self, data: bytes) -> None:
        """A text or binary message."""

    def alive(self) -> None:
        """A ping or pong."""

    def rest(self) -> None:
        """What had arrived is handled."""


async def connect(url: str) -> WebSocket:
    """Connect to `ws://…` or `wss://…`. Raises OSError, TimeoutError, and MarketDataError where it is refused."""
    made = WebSocket()
    try:
        async with asyncio.timeout(CONNECT_S):
            made.transport, _ = await ws_connect(
                lambda: made,
                url,
                max_frame_size=LARGEST,
                read_buffer_init_size=BUFFER,
                enable_auto_pong=False,  # it would keep the pings to itself
                use_aiofastnet=False,
            )
    except WSError as error:
        raise MarketDataError(f"{url} does not open a WebSocket: {error}") from error
    if made.transport.is_disconnected and made.transport.response is None:
        raise ConnectionResetError("the connection was closed before it was open")
    return made


class WebSocket(WSListener):
    """One connection, made by `connect`; what comes before `read` is kept for it."""

    transport: WSTransport

    def __init__(self) -> None:
        self._reader: Reader | None = None
        self._early: list[bytes] = []
        self._parts: list[bytes] = []
        self._pause = 0.0
        self._code = LOST
        self._failed = False
        self._waking: asyncio.TimerHandle | None = None

    async def ended(self) -> int:
        """Wait for the end: the close code. Raises what the reader raised, MarketDataError for a broken frame."""
        try:
            await self.transport.wait_disconnected()
        except WSError as error:
            raise MarketDataError(f"the connection broke: {error}") from error
        return self._code

    def read(self, reader: Reader, pause: float = 0.0) -> None:
        """Hand over what arrives. After each time something was read, leave what follows in the kernel `pause` s."""
        self._reader, self._pause = reader, pause
        for data in self._early:
            reader.message(data)
        self._early.clear()

    def hold(self) -> None:
        """Read no more until `go_on`."""
        self.transport.underlying_transport.pause_reading()

    def go_on(self) -> None:
        """Read again."""
        self.transport.underlying_transport.resume_reading()

    def send(self, text: str) -> None:
        """Send a text message. Raises ConnectionResetError."""
        self._require_open()
        self.transport.send(WSMsgType.TEXT, text.encode())

    def ping(self) -> None:
        """Raises ConnectionResetError."""
        self._require_open()
        self.transport.send_ping()

    def close(self) -> None:
        """Say goodbye and read no more."""
        if not self.transport.is_disconnected:
            self.transport.send_close(WSCloseCode.OK)
            self.transport.disconnect()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if self._failed:
            return
        try:
            self._take(transport, frame)
        except Exception:
            self._failed = True  # picows raises it in `wait_disconnected`, but goes on with what it has read
            raise

    def _take(self, transport: WSTransport, frame: WSFrame) -> None:
        kind = frame.msg_type
        if kind in _MESSAGES and frame.fin and not self._parts:
            self._message(frame.get_payload_as_bytes())
        elif kind == WSMsgType.CLOSE:
            self._code = frame.get_close_code().value or 1005
            transport.send_close(frame.get_close_code())
            transport.disconnect()
        elif kind in _MESSAGES or kind == WSMsgType.CONTINUATION:
            if (kind in _MESSAGES) == bool(self._parts):
                raise MarketDataError("the parts of a message are out of order")
            self._part(frame.get_payload_as_bytes(), frame.fin)
        else:
            if kind == WSMsgType.PING:
                transport.send_pong(frame.get_payload_as_bytes())
            if self._reader is not None:
                self._reader.alive()
        if frame.last_in_buffer and self._reader is not None:
            self._reader.rest()
            if self._pause and self._waking is None:
                self._doze()

    def _message(self, data: bytes) -> None:
        if self._reader is None:
            self._early.append(data)
        else:
            self._reader.message(data)

    def _part(self, data: bytes, last: bool) -> None:
        """Of a message in several frames."""
        self._parts.append(data)
        if sum(map(len, self._parts)) > LARGEST:
            raise MarketDataError("a message in too many parts")
        if last:
            whole, self._parts = b"".join(self._parts), []
            self._message(whole)

    def _require_open(self) -> None:
        if self.transport.is_disconnected or self.transport.is_close_frame_sent:
            raise ConnectionResetError("the connection is closed")

    def _doze(self) -> None:
        """Let the kernel tell of what arrives only when it is much, for a while.

        A paused transport would still be woken for every TLS record; a low-water mark is the socket's own.
        """
        self._mark(BUFFER)
        self._waking = asyncio.get_running_loop().call_later(self._pause, self._wake)

    def _wake(self) -> None:
        self._waking = None
        self._mark(1)

    def _mark(self, low: int) -> None:
        transport = self.transport.underlying_transport
        if not self.transport.is_disconnected and not transport.is_closing():
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, low)
