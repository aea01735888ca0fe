"""Open WebSockets and who has subscribed to what; frames are encoded once and written in batches."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable

from simulator.market import Frame
from simulator.wire import text_frame, wrap

HIGH_WATER = 1 << 20
"""Bytes a socket may have unsent before a market that plays as fast as it can waits for it."""

OVERFLOW = 1 << 25
"""Bytes unsent after which a market on a clock cuts a socket, as an exchange does with a slow consumer."""


class Connection:
    """One client's socket.

    Frames go straight to the transport, whole and unmasked, beside the control frames that aiohttp writes.
    """

    def __init__(self, hub: Hub, transport: asyncio.Transport, combined: bool, now: float) -> None:
        self.combined = combined
        self.streams: set[str] = set()
        self.silent_until = 0.0
        self.last_pong = now
        self._hub, self._transport = hub, transport
        self._pending: list[bytes] = []

    @property
    def unsent(self) -> int:
        """Bytes written and not yet taken by the kernel."""
        return self._transport.get_write_buffer_size()

    @property
    def closing(self) -> bool:
        return self._transport.is_closing()

    def subscribe(self, streams: Iterable[str]) -> None:
        self._hub.subscribe(self, streams)

    def unsubscribe(self, streams: Iterable[str]) -> None:
        self._hub.unsubscribe(self, streams)

    def reply(self, payload: bytes) -> None:
        """Queue an answer; it goes out in order with the frames."""
        self.queue(text_frame(payload))

    def queue(self, encoded: bytes) -> None:
        if not self._pending:
            self._hub.dirty.append(self)
        self._pending.append(encoded)

    def flush(self, now: float) -> int:
        """Write what is queued; the number of frames. A stalled connection loses them."""
        frames, self._pending = self._pending, []
        if now < self.silent_until or self._transport.is_closing():
            return 0
        self._transport.write(b"".join(frames))
        return len(frames)

    def cut(self) -> None:
        """End the connection without a closing handshake."""
        self._transport.abort()


class Hub:
    """All connections.

    offered  frames the market had, by stream
    sent     frames and answers written to sockets
    slow     sockets cut because they read too slowly
    changed  set when a subscription comes or goes
    """

    def __init__(self) -> None:
        self.connections: set[Connection] = set()
        self.dirty: list[Connection] = []
        self.offered: Counter[str] = Counter()
        self.sent = 0
        self.slow = 0
        self.changed = asyncio.Event()
        self._subscribers: dict[str, list[Connection]] = {}

    @property
    def streams(self) -> list[str]:
        """The streams somebody has subscribed to."""
        return sorted(self._subscribers)

    def connect(self, transport: asyncio.Transport, combined: bool, now: float) -> Connection:
        connection = Connection(self, transport, combined, now)
        self.connections.add(connection)
        return connection

    def disconnect(self, connection: Connection) -> None:
        self.unsubscribe(connection, list(connection.streams))
        self.connections.discard(connection)

    def subscribe(self, connection: Connection, streams: Iterable[str]) -> None:
        for stream in streams:
            if stream not in connection.streams:
                connection.streams.add(stream)
                self._subscribers.setdefault(stream, []).append(connection)
        self.changed.set()

    def unsubscribe(self, connection: Connection, streams: Iterable[str]) -> None:
        for stream in streams:
            if stream in connection.streams:
                connection.streams.discard(stream)
                self._subscribers[stream].remove(connection)
                if not self._subscribers[stream]:
                    del self._subscribers[stream]
        self.changed.set()

    def offer(self, frame: Frame) -> None:
        """Queue a frame for its subscribers."""
        self.offered[frame.stream] += 1
        subscribers = self._subscribers.get(frame.stream)
        if not subscribers:
            return
        raw = combined = b""
        for connection in subscribers:
            if connection.combined:
                combined = combined or text_frame(frame.wrapped or wrap(frame.stream, frame.payload))
                connection.queue(combined)
            else:
                raw = raw or text_frame(frame.payload)
                connection.queue(raw)

    def flush(self, now: float) -> None:
        """Write everything queued, one write a socket."""
        dirty, self.dirty = self.dirty, []
        for connection in dirty:
            self.sent += connection.flush(now)

    def of_symbol(self, symbol: str | None) -> list[Connection]:
        """Connections with a stream of `symbol`; all without one."""
        if symbol is None:
            return list(self.connections)
        prefix = f"{symbol.lower()}@"
        return [one for one in self.connections if any(stream.startswith(prefix) for stream in one.streams)]

    def watches_depth(self, symbol: str) -> bool:
        """Whether somebody rebuilds the book of `symbol`."""
        name = symbol.lower()
        return f"{name}@depth@100ms" in self._subscribers or f"{name}@depth" in self._subscribers

    def cut_slow(self) -> None:
        """Cut the sockets that have fallen too far behind; `slow` counts them."""
        for connection in self.connections:
            if connection.unsent > OVERFLOW and not connection.closing:
                self.slow += 1
                connection.cut()

    async def drained(self) -> None:
        """Wait until no socket has more than HIGH_WATER unsent."""
        # a transport tells nobody but its own protocol that it has drained
        while any(one.unsent > HIGH_WATER and not one.closing for one in self.connections):  # noqa: ASYNC110
            await asyncio.sleep(0.001)
