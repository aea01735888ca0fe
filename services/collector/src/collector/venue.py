"""What the native machinery must know of an exchange: where it is, how to ask for data, how its books come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import aiohttp

from collector.skew import Skew
from collector.text_book import Summing
from collector.wire import Found, RestBook
from fluxforge.errors import MarketDataError
from fluxforge.events import Trade


@dataclass(frozen=True)
class Endpoints:
    """Where one venue lives: `rest` and `ws` are base URLs."""

    rest: str
    ws: str


class Request(NamedTuple):
    """A message to the exchange; its Reply has the same `id`."""

    id: object
    body: Mapping[str, Any]


class RestError(MarketDataError):
    """The exchange answered with an error. `retry_after`: s to wait; `refused`: asking again is no use."""

    def __init__(self, message: str, *, retry_after: float = 0.0, refused: bool = False) -> None:
        super().__init__(message)
        self.retry_after, self.refused = retry_after, refused


class TradePages(NamedTuple):
    """Bodies of trade answers, oldest first; `final`: asking again would not reach further back."""

    bodies: Sequence[bytes]
    final: bool


class Rest(Protocol):
    """An exchange's REST interface. All raise aiohttp.ClientError, TimeoutError, RestError and FrameError."""

    async def markets(self) -> dict[str, str]:
        """Native → unified symbol of every listed market."""

    async def book(self, native: str, levels: int | None = None) -> RestBook:
        """The book, `levels` a side or as deep as it is given."""

    async def trades_since(self, native: str, first: int, ts: int | None) -> TradePages:
        """Trades from id `first` to the present, in one or more answers; `ts`: the time (ns) of the one before."""


class Parser(Protocol):
    """A `collector.wire.WireParser` that also reads the exchange's REST trades."""

    skipped: Counter[str]
    depth: int | None

    def parse(self, frame: bytes, capture_ts: int) -> Sequence[Found]: ...

    def trades(self, body: bytes, native: str, capture_ts: int) -> list[Trade]: ...


class Venue(Protocol):
    """One exchange.

    name       event fields `exchange` and `source`
    endpoints  base URLs
    path       of the socket
    streamed   whether books begin with a snapshot in the stream; else a REST one is bridged to the diffs
    summing    checksum of its books
    pace       s between two messages of ours
    batch      symbols a connection carries at most
    """

    name: str
    endpoints: Endpoints
    path: str
    streamed: bool
    summing: Summing | None
    pace: float
    batch: int

    def subscribe(self, natives: Sequence[str], channels: Sequence[str]) -> list[Request]:
        """What to send when a connection opens."""

    def renew(self, natives: Sequence[str]) -> list[Request]:
        """What to send for fresh snapshots in the stream; empty where they come over REST."""

    def text(self, request: Request, now: int) -> str:
        """A request as it is sent at `now` (ns)."""

    def parser(self, collector: str, connection: str, symbols: Mapping[str, str], skew: Skew) -> Parser: ...

    def rest(self, http: aiohttp.ClientSession) -> Rest: ...


TIMEOUT = aiohttp.ClientTimeout(total=10, connect=5)


async def get(http: aiohttp.ClientSession, url: str, what: str, **params: str) -> bytes:
    """The body of a REST answer. Raises RestError, which says `what` was asked for."""
    async with http.get(url, params=params, timeout=TIMEOUT) as answer:
        body = await answer.read()
        if answer.status == 200:
            return body
        raise RestError(
            f"{what}: HTTP {answer.status}: {body[:200].decode(errors='replace')}",
            retry_after=_seconds(answer.headers.get("Retry-After", "")),
            refused=answer.status in {400, 401, 403, 404},
        )


def _seconds(text: str) -> float:
    """A Retry-After header; 0 where it is a date or missing."""
    return float(text) if text.isdigit() else 0.0
