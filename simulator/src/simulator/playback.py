"""Captured wire, played back: what an exchange sent, frame by frame, to whoever connects.

Nothing is answered that was not recorded: the n-th socket that says something gets the n-th recorded connection's
frames, acknowledgements among them, at the pace they were received.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
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

    connections  the recorded ones, in the order sockets get them; a socket too many gets nothing
    answers      REST bodies by path, with or without their query
    """

    name = "playback"
    numbered = checksummed = terse = False
    book = trades = ""

    def __init__(self, connections: Iterable[str], answers: Mapping[str, bytes] | None = None) -> None:
        self._connections = iter(connections)
        self._answers = dict(answers or {})

    def symbol(self, instrument: Instrument) -> str:
        return instrument.symbol

    def bind(self, desk: Desk) -> None:
        pass

    def render(self, frame: Frame) -> Iterable[Frame]:
        return (frame,)

    def accepts(self, path: str) -> bool:
        return True

    def opened(self, connection: Connection, path: str, query: Query) -> None:
        pass

    def received(self, connection: Connection, text: str | bytes) -> None:
        if not connection.streams:
            connection.subscribe(name for name in [next(self._connections, "")] if name)

    def rest(self, answers: Answers, path: str, query: Query) -> Answer:
        whole = f"{path}?{'&'.join(f'{key}={value}' for key, value in query.items())}"
        body = self._answers.get(whole, self._answers.get(path))
        return Answer(404, b"{}") if body is None else Answer(200, body)

    def beat(self) -> Iterable[Frame]:
        return ()

    def busy(self, status: int) -> bytes:
        return b"{}"
