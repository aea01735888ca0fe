"""Open WebSockets and who has subscribed to what; frames are encoded once and written in batches."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import count

from simulator.binance.wire import wrap
from simulator.faults import Fault, broken, wrong_checksum
from simulator.framing import text_frame
from simulator.ledger import Hit
from simulator.market import Frame

HIGH_WATER = 1 << 20
"""Bytes a socket may have unsent before a market that plays as fast as it can waits for it."""

OVERFLOW = 1 << 25
"""Bytes unsent after which a market on a clock cuts a socket, as an exchange does with a slow consumer."""

UNNUMBERED = b'"sequence_num":0'


@dataclass
class Loss:
    """What a stalled socket did not carry of one stream: ids from `first` to `last`, in `frames` frames."""

    first: int | None
    last: int | None
    frames: int = 0


class Connection:
    """One client's socket.

    Frames go straight to the transport, whole and unmasked, beside the control frames that aiohttp writes.

    number    from 1, in the order sockets were opened; `peer` the client's port
    sequence  of the next message, where the venue counts them
    combined  Binance: frames are wrapped in their stream's name
    end       closes the socket with a handshake: code and reason
    """

    def __init__(
        self,
        hub: Hub,
        transport: asyncio.Transport,
        number: int,
        now: float,
        end: Callable[[int, str], None] = lambda code, reason: None,
    ) -> None:
        self.number = number
        self.peer: int = (transport.get_extra_info("peername") or ("", 0))[1]
        self.combined = False
        self.sequence = 0
        self.streams: set[str] = set()
        self.silent_until = 0.0
        self.stall_id = 0
        self.lost: dict[str, Loss] = {}
        self.held: dict[str, list[bytes]] = {}
        self.opened = self.last_pong = self.last_sent = self.last_heard = now
        self.end = end
        self._hub, self._transport = hub, transport
        self._pending: list[bytes] = []
        self._torn = False

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
        self.queue(text_frame(self.numbered(payload)))

    def numbered(self, payload: bytes) -> bytes:
        """The payload with this connection's next sequence number, where it has room for one."""
        if not self._hub.numbered or UNNUMBERED not in payload:
            return payload
        self.sequence += 1
        return payload.replace(UNNUMBERED, b'"sequence_num":%d' % (self.sequence - 1), 1)

    def queue(self, encoded: bytes) -> None:
        if not self._pending:
            self._hub.dirty.append(self)
        self._pending.append(encoded)

    def tear(self, encoded: bytes) -> None:
        """Queue half of a frame and end the connection with it."""
        if not self._torn:
            self.queue(encoded[: len(encoded) // 2])
            self._torn = True

    def flush(self, now: float) -> int:
        """Write what is queued; the number of frames. A stalled connection loses them."""
        frames, self._pending = self._pending, []
        if now < self.silent_until or self._transport.is_closing():
            return 0
        self._transport.write(b"".join(frames))
        self.last_sent = now
        if self._torn:
            self._transport.close()
        return len(frames)

    def stall(self, until: float, fault_id: int) -> None:
        """Carry nothing until then."""
        self.silent_until, self.stall_id = until, fault_id

    def lose(self, frame: Frame) -> None:
        """Note a frame that a stalled connection does not carry."""
        first, last = frame.span or (None, None)
        loss = self.lost.setdefault(frame.stream, Loss(first, last))
        loss.last = last
        loss.frames += 1

    def cut(self) -> None:
        """End the connection without a closing handshake."""
        self._transport.abort()


class Hub:
    """All connections.

    numbered  frames carry `"sequence_num":0`, to be replaced by each connection's own count
    offered   frames the market had, by stream
    sent      frames and answers written to sockets
    slow      sockets cut because they read too slowly
    changed   set when a subscription comes or goes
    """

    def __init__(self, *, numbered: bool = False) -> None:
        self.numbered = numbered
        self.connections: set[Connection] = set()
        self.dirty: list[Connection] = []
        self.offered: Counter[str] = Counter()
        self.sent = 0
        self.slow = 0
        self.changed = asyncio.Event()
        self._numbers = count(1)
        self._subscribers: dict[str, list[Connection]] = {}

    @property
    def streams(self) -> list[str]:
        """The streams somebody has subscribed to."""
        return sorted(self._subscribers)

    @property
    def subscribed(self) -> int:
        """How many those are."""
        return len(self._subscribers)

    def wanted(self, stream: str) -> bool:
        """Whether somebody has subscribed to it."""
        return stream in self._subscribers

    def connect(
        self, transport: asyncio.Transport, now: float, end: Callable[[int, str], None] = lambda code, reason: None
    ) -> Connection:
        connection = Connection(self, transport, next(self._numbers), now, end)
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

    def offer(self, frame: Frame, now: float, fault: Fault | None = None) -> tuple[Hit, ...]:
        """Queue a frame for its subscribers, or what `fault` makes of it; the sockets that the fault reached."""
        self.offered[frame.stream] += 1
        subscribers = self._subscribers.get(frame.stream)
        if not subscribers:
            return ()
        raw = combined = b""
        hits = []
        for connection in subscribers:
            if self.numbered or fault or connection.held or now < connection.silent_until:
                sequence = connection.sequence if self.numbered else None
                payload = (frame.wrapped or wrap(frame.stream, frame.payload)) if connection.combined else frame.payload
                payload = connection.numbered(payload)
                if now < connection.silent_until:
                    connection.lose(frame)
                    continue
                _send(connection, frame.stream, payload, fault)
                if fault:
                    hits.append(Hit(connection.number, connection.peer, sequence))
            elif connection.combined:
                combined = combined or text_frame(frame.wrapped or wrap(frame.stream, frame.payload))
                connection.queue(combined)
            else:
                raw = raw or text_frame(frame.payload)
                connection.queue(raw)
        return tuple(hits)

    def flush(self, now: float) -> None:
        """Write everything queued, one write a socket."""
        dirty, self.dirty = self.dirty, []
        for connection in dirty:
            self.sent += connection.flush(now)

    def of_symbol(self, symbol: str | None) -> list[Connection]:
        """Connections with a stream of `symbol`; all without one."""
        if symbol is None:
            return list(self.connections)
        prefix = f"{symbol}@".casefold()
        return [one for one in self.connections if any(stream.casefold().startswith(prefix) for stream in one.streams)]

    def watches_depth(self, symbol: str) -> bool:
        """Whether somebody rebuilds the book of `symbol` from snapshots asked for over REST."""
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


def _send(connection: Connection, stream: str, payload: bytes, fault: Fault | None) -> None:
    """Queue one payload, as `fault` has it, and whatever waited for it."""
    kind = fault.kind if fault else None
    if kind == "reorder":
        connection.held.setdefault(stream, []).append(payload)
        return
    if kind == "garbage":
        connection.queue(text_frame(broken(payload)))
    if kind == "half":
        connection.tear(text_frame(payload))
    elif kind == "checksum":
        connection.queue(text_frame(wrong_checksum(payload)))
    elif kind != "skip" and not (kind == "garbage" and fault and fault.replace):
        connection.queue(text_frame(payload))
    if kind == "repeat":
        connection.queue(text_frame(payload))
    for held in reversed(connection.held.pop(stream, [])):
        connection.queue(text_frame(held))
