"""What makes an exchange's protocol: its own words for a market, its answers, its habits.

A venue is bound to one server's parts (`Desk`). It renders what happens in the market as frames of its own streams,
answers what clients send, and acts once a second. It owns no socket.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from fluxforge.clock import Clock
from simulator.hub import Connection, Hub
from simulator.market import Answers, Depth, Frame, Instrument, Market
from simulator.tape import Print
from simulator.truth import Truth

Query = Mapping[str, str]


class Answer(NamedTuple):
    """One REST answer; `snapshot_of` names the market symbol whose book was given."""

    status: int
    body: bytes
    weight: int = 1
    snapshot_of: str | None = None
    headers: Mapping[str, str] = {}


@dataclass
class Desk:
    """What a venue works with.

    at         market time of the last frame, ns
    symbols    the market's symbols, by the venue's own
    rejecting  requests to subscribe are refused (a fault)
    """

    market: Market
    hub: Hub
    truth: Truth
    clock: Clock
    symbols: dict[str, str]
    at: int = 0
    rejecting: bool = False

    @property
    def exchange_ms(self) -> int:
        """The exchange's clock, ms."""
        return self.market.exchange_ms(self.at)

    def book(self, symbol: str, limit: int) -> Depth:
        """The book of a market symbol as of the last diff published, so that the next one continues it."""
        book = self.truth.book(symbol)
        return self.market.book(symbol, limit) if book is None else book.depth(limit)

    def trades(self, symbol: str, limit: int, *, before: int = 0) -> list[Print]:
        """The newest `limit` trades of a market symbol that were published, oldest first, without the last `before`."""
        last = self.truth.last_trade(symbol)
        latest = [one for one in self.market.tape(symbol).latest(limit + before + 1) if one.id <= last]
        return latest[: len(latest) - before][-limit:]


class Venue(Protocol):
    """One exchange.

    name             as `--exchange` names it
    numbered         frames carry a `sequence_num` that counts the messages of their connection
    book, trades     the channels that faults hit
    checksummed      book frames carry a checksum
    terse            it needs a market's facts alone, their decimals plain
    """

    name: str
    numbered: bool
    book: str
    trades: str
    checksummed: bool
    terse: bool

    def symbol(self, instrument: Instrument) -> str:
        """The venue's own id of an instrument."""

    def bind(self, desk: Desk) -> None:
        """Called once, before anything else."""

    def render(self, frame: Frame) -> Iterable[Frame]:
        """The venue's frames for one frame of the market; only streams that somebody has subscribed to matter."""

    def accepts(self, path: str) -> bool:
        """Whether a WebSocket may be opened there."""

    def opened(self, connection: Connection, path: str, query: Query) -> None:
        """A WebSocket was opened."""

    def received(self, connection: Connection, text: str | bytes) -> None:
        """A client sent a message."""

    def rest(self, answers: Answers, path: str, query: Query) -> Answer:
        """Answer a GET."""

    def beat(self) -> Iterable[Frame]:
        """Once a second: what the exchange sends unasked. May close connections."""

    def busy(self, status: int) -> bytes:
        """The body of a REST answer that refuses, with `status` 418, 429 or 5xx."""
