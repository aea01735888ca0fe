"""What a market is to the server: timed frames, and answers as of the last frame taken.

A market is pure: it reads no clock and no socket. Taking the next item of `frames()` moves it on; every answer then
holds for that moment.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from simulator.tape import Print, Tape

NS = 1_000_000_000
MS = 1_000_000

Level = tuple[str, str]
"""Price and size as the exchange writes them."""


def plain(text: str) -> str:
    """A decimal without trailing zeros: `60000.50000000` is `60000.5`, `0.00000000` is `0`."""
    return text.rstrip("0").rstrip(".") if "." in text else text


class Diff(NamedTuple):
    """What changed in a book between two updates: absolute sizes, 0 for a level that is gone.

    first, last  ids of the updates folded into it
    """

    symbol: str
    first: int
    last: int
    bids: Sequence[Level]
    asks: Sequence[Level]


class Traded(NamedTuple):
    """One trade of `symbol`."""

    symbol: str
    print: Print


class Frame(NamedTuple):
    """One message of one stream.

    at       market time it is sent at, ns
    stream   `btcusdt@depth@100ms`
    payload  the JSON a raw stream carries
    wrapped  the JSON a combined stream carries, `{"stream":…,"data":payload}`; None until it is needed
    fact     what happened, for venues that put it in other words
    span     first and last id it carries: of a diff's updates, of trades
    """

    at: int
    stream: str
    payload: bytes
    wrapped: bytes | None = None
    fact: Diff | Traded | None = None
    span: tuple[int, int] | None = None


class Hold(NamedTuple):
    """The market stands before the first diff that its depth snapshot does not cover.

    A server that wants every diff to count waits here until `symbol`'s snapshot was asked for.
    """

    at: int
    symbol: str


class Instrument(NamedTuple):
    """One listed symbol; `tick` and `step` are the price and size increments, as decimal text."""

    symbol: str
    base: str
    quote: str
    tick: str
    step: str


class Depth(NamedTuple):
    """A book, best first, and the id of the last update in it."""

    last_id: int
    bids: Sequence[Level]
    asks: Sequence[Level]


class Top(NamedTuple):
    """Best prices and sizes."""

    bid: str
    bid_size: str
    ask: str
    ask_size: str


class Answers(Protocol):
    """What a market can be asked."""

    @property
    def instruments(self) -> Mapping[str, Instrument]:
        """By the market's own symbol, `BTCUSDT`."""

    def snapshot(self, symbol: str, limit: int) -> Depth:
        """What REST answers: a book whose `last_id` lets the next diffs be applied."""

    def top(self, symbol: str) -> Top | None:
        """Best prices right now; None before any are known."""

    def tape(self, symbol: str) -> Tape:
        """Trades so far."""


class Market(Answers, Protocol):
    """A market that the server can play."""

    ahead_ms: int
    """By how much the exchange's clock runs ahead of market time; a fault sets it."""

    terse: bool
    """Set for venues that need facts alone: payloads may be empty, and decimals plain."""

    def begin(self, wall_ms: int) -> None:
        """Called once before the first frame, with the wall clock; only a rebased market uses it."""

    def frames(self) -> Iterator[Frame | Hold]:
        """Everything that happens, in time order. May be asked for once."""

    def exchange_ms(self, at: int) -> int:
        """The exchange's own clock (ms) at market time `at` (ns)."""

    def book(self, symbol: str, limit: int) -> Depth:
        """The true book right now."""

    def notes(self) -> Mapping[str, object]:
        """What an operator should know of it (name, damaged lines, gaps…)."""
