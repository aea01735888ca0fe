"""Everything that was made to go wrong, for a test to compare with what a collector reported."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson


@dataclass(frozen=True)
class Hit:
    """One socket a fault reached.

    connection  its number, from 1; `peer` the client's port
    sequence    of the message hit, where the venue numbers the messages of a connection
    """

    connection: int
    peer: int
    sequence: int | None = None


@dataclass(frozen=True)
class Injected:
    """One line of the ledger.

    id           of the fault, as its request was answered; a fault that hits three frames has three lines, and a
                 `lost` line, written when a stalled socket speaks again or ends, has its stall's id
    kind         of the fault, or `lost`
    wall_ns      our clock
    at           market time, ns
    exchange_ms  the exchange's clock, ms
    stream       the stream hit; None for other faults
    first, last  update ids of the diff hit, or ids of the trades
    frames       lost on that stream
    connections  sockets hit; 0 is a fault that nobody could notice
    seconds      of a stall or a spell
    """

    id: int
    kind: str
    symbol: str | None
    wall_ns: int
    at: int
    exchange_ms: int
    stream: str | None = None
    first: int | None = None
    last: int | None = None
    frames: int = 1
    hits: tuple[Hit, ...] = ()
    seconds: float | None = None

    @property
    def connections(self) -> int:
        return len(self.hits)


class Ledger:
    """Lines in the order they were written; with a `path` each is appended there too, as NDJSON."""

    def __init__(self, path: Path | None = None) -> None:
        self._lines: list[Injected] = []
        self._file = path.open("ab", buffering=0) if path else None

    def __iter__(self) -> Iterator[Injected]:
        return iter(self._lines)

    def __len__(self) -> int:
        return len(self._lines)

    def __getitem__(self, place: int) -> Injected:
        return self._lines[place]

    def add(self, line: Injected) -> None:
        self._lines.append(line)
        if self._file is not None:
            self._file.write(_json(line) + b"\n")

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def ndjson(self) -> bytes:
        """All lines."""
        return b"".join(_json(line) + b"\n" for line in self._lines)


def _json(line: Injected) -> bytes:
    return orjson.dumps(asdict(line) | {"connections": line.connections})
