"""One market's frames as an exchange sends them, and its REST answers: what the collector benchmark's sides read."""

from __future__ import annotations

from pathlib import Path

import msgspec

CHANNELS = ("orderbook", "trades", "ticker")
"""What a collector follows."""
GO = "/go"
"""Where the server is told to send what is measured."""
_MARKS = {
    "binance": (b'@depth@100ms"', b'@trade"'),
    "okx": (b'"channel":"books"', b'"channel":"trades"'),
}


class Wire(msgspec.Struct):
    """One market on one socket.

    source   where it is from, for a reader
    exchange id; `native` name and unified `symbol` of the market
    frames   in order, acknowledgements first
    head     how many of them come first, for a book to be brought into step; they are not measured
    answers  REST path → body
    """

    source: str
    exchange: str
    native: str
    symbol: str
    frames: list[bytes]
    head: int
    answers: dict[str, bytes]

    def save(self, folder: Path) -> Path:
        path = folder / f"{self.exchange}.wire"
        path.write_bytes(msgspec.msgpack.encode(self))
        return path


def read(path: str | Path) -> Wire:
    """What was saved."""
    return msgspec.msgpack.decode(Path(path).read_bytes(), type=Wire)


def books_and_trades(wire: Wire) -> list[bytes]:
    """The frames of diffs, snapshots and single trades, without acknowledgements and tickers."""
    found = [frame for frame in wire.frames if any(mark in frame[:90] for mark in _MARKS[wire.exchange])]
    return [frame for frame in found if b'"event"' not in frame[:20]]
