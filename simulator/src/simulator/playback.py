"""Captured wire, played back: what an exchange sent, frame by frame, to whoever connects.

Nothing is answered that was not recorded: the n-th socket that says something gets the n-th recorded connection's
frames, acknowledgements among them, at the pace they were received; one that comes late gets at once what it missed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain

from fluxforge.errors import ConfigError
from simulator.hub import Connection
from simulator.market import MS, Answers, Depth, Frame, Hold, Instrument, Top
from simulator.tape import Tape
from simulator.venue import Answer, Desk, Query

WireFrame = tuple[int, str, bytes]
"""When it was received (ns), over which connection, and what came."""


class WireMarket:
    """A market that is nothing but frames, in order of their time; the stream of each is its connection.

    Raises ConfigError for no frames at all.
    """

    def __init__(self, frames: Iterable[WireFrame]) -> None:
        rest = iter(frames)
        first = next(rest, None)
        if first is None:
            raise ConfigError("no frame to play back", hint="capture some with ingestion.capture_wire")
        self._start, self._frames = first[0], chain([first], rest)
        self.instruments: Mapping[str, Instrument] = {}
        self.ahead_ms, self.terse = 0, False

    def begin(self, wall_ms: int) -> None:
        pass

    def frames(self) -> Iterator[Frame | Hold]:
        newest = self._start
        for at, connection, payload in self._frames:
            newest = max(newest, at)
            yield Frame(newest, connection, payload)

    def exchange_ms(self, at: int) -> int:
        return max(at, self._start) // MS + self.ahead_ms

    def snapshot(self, symbol: str, limit: int) -> Depth:
        raise KeyError(symbol)

    def book(self, symbol: str, limit: int) -> Depth:
        raise KeyError(symbol)

    def top(self, symbol: str) -> Top | None:
        raise KeyError(symbol)

    def tape(self, symbol: str) -> Tape:
        raise KeyError(symbol)

    def notes(self) -> Mapping[str, object]:
        return {"market": "captured wire"}


class Playback:
    """The venue of a `WireMarket`.

    connections  frames of each recorded one, in the order sockets get them; a socket too many gets nothing, and one
                 that has had all of its frames is closed while there is another to come
    answers      REST bodies by path, with or without their query, in the order they were given; the last one stays
    """

    name = "playback"
    numbered = checksummed = terse = False
    book = trades = ""

    def __init__(self, connections: Mapping[str, int], answers: Mapping[str, Sequence[bytes]] | None = None) -> None:
        self._left = dict(connections)
        self._names = iter(connections)
        self._taken: set[str] = set()
        self._missed: dict[str, list[bytes]] = {}
        self._answers = {path: deque(bodies) for path, bodies in (answers or {}).items()}

    def symbol(self, instrument: Instrument) -> str:
        return instrument.symbol

    def bind(self, desk: Desk) -> None:
        self._hub = desk.hub

    def render(self, frame: Frame) -> Iterable[Frame]:
        self._left[frame.stream] -= 1
        if frame.stream in self._taken:
            return (frame,)
        self._missed.setdefault(frame.stream, []).append(frame.payload)
        return ()

    def accepts(self, path: str) -> bool:
        return True

    def opened(self, connection: Connection, path: str, query: Query) -> None:
        pass

    def received(self, connection: Connection, text: str | bytes) -> None:
        if connection.streams or (name := next(self._names, None)) is None:
            return
        self._taken.add(name)
        for payload in self._missed.pop(name, ()):
            connection.reply(payload)
        connection.subscribe([name])

    def rest(self, answers: Answers, path: str, query: Query) -> Answer:
        whole = f"{path}?{'&'.join(f'{key}={value}' for key, value in query.items())}"
        bodies = self._answers.get(whole) or self._answers.get(path)
        if not bodies:
            return Answer(404, b"{}")
        return Answer(200, bodies.popleft() if len(bodies) > 1 else bodies[0])

    def beat(self) -> Iterable[Frame]:
        if len(self._taken) < len(self._left):
            ended = {name for name in self._taken if not self._left[name]}
            for connection in self._hub.connections:
                if connection.streams & ended:
                    connection.end(1000, "the recording of this connection has ended")
        return ()

    def busy(self, status: int) -> bytes:
        return b"{}"
