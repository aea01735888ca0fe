"""Exchanges' wire protocols: the frames of one connection in, what they say out; pure, no I/O.

    frame ──► WireParser.parse ──► Found, Found, …   in the frame's own order

    BookSnapshot, BookDelta, Trade, Ticker   events, ready for the log
    Checksum   follows the book event after which the exchange's book had it
    Gap        the connection's own sequence skipped; precedes the events of the frame that showed it
    Void       a trade id that stands for no trade, so that it is not missed
    RestBook   a REST depth answer that a recording holds among its frames
    Reply      the answer to a request of ours
    Beat       the exchange's own heartbeat

One file per exchange, its parser a subclass of WireParser with `_parse`; every message it reads has an example from the
exchange's documentation in the docstring of the method that reads it.

The rule of continuity is `first_seq ≤ previous seq + 1 ≤ seq` for the book events of a symbol, whatever an exchange
calls its ids: "previous id" fields (`pu`, `prevSeqId`, `prev_change_id`) become `first_seq = previous + 1`. Where an
exchange numbers frames per connection the parser checks the numbers (Gap), gives each book event its frame's number as
`seq` and the number of the symbol's book event before it, plus one, as `first_seq`. Where it gives no number both are
None.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

import msgspec

from collector.skew import Skew
from collector.wire.head import Head
from fluxforge.errors import FrameError, UnknownSymbol
from fluxforge.events import BookDelta, BookSnapshot, Ticker, Trade

Texts = Sequence[tuple[str, str]]
"""Levels as the exchange writes them: price, size."""


class Checksum(NamedTuple):
    """The exchange's checksum of its book after the event before.

    value       as the exchange defines it; None where the exchange gave none with this event
    bids, asks  that event's levels, in its order, as they stood on the wire, for checksums over text; or none of them
    """

    native: str
    value: int | None
    bids: Texts = ()
    asks: Texts = ()


class Gap(NamedTuple):
    """Frames are missing: of one symbol, or of any on the connection (`native` None)."""

    detail: str
    native: str | None = None


class Void(NamedTuple):
    """A trade id that was used up by something that is no trade of the market."""

    native: str
    id: int


class RestBook(NamedTuple):
    """A depth snapshot: levels best first, as `fluxforge.events` packs them.

    seq    of the last update in it; None where the exchange does not say
    limit  levels a side that were asked for: a side with as many is cut off there; None: both sides are whole
    """

    seq: int | None
    bids: bytes
    asks: bytes
    limit: int | None = None


class Reply(NamedTuple):
    """The exchange's answer to a request of ours: `error` is None when it agreed.

    id      what tells the request: a number, or a tuple of what was asked for
    native  the one symbol it is about, if the answer names one
    """

    id: object
    error: str | None
    native: str | None = None


class Beat(NamedTuple):
    """The exchange's heartbeat; `ts`: its clock, ns, if it says."""

    ts: int | None = None


Found = BookSnapshot | BookDelta | Trade | Ticker | Checksum | Gap | Void | RestBook | Reply | Beat


class WireParser:
    """Frames of one connection → what they say. A subclass gives `_parse`.

    exchange    event field: `binance`, `okx`
    source      event field: the adapter; the exchange's own name unless given (`ccxt`)
    symbols     native → unified
    skew        the connection's clock skew; observes every stamped live event
    skipped     records that are nothing for us, by kind
    depth       levels a side that the exchange keeps where it deletes what falls out behind them without a word; the
                reader must drop those itself. None: everything is deleted by message
    """

    checksum_levels: ClassVar[int] = 0
    """Levels a side that `checksum` is over; 0 where the exchange gives none."""

    def __init__(
        self,
        exchange: str,
        *,
        collector: str,
        connection: str,
        symbols: Mapping[str, str] | None = None,
        skew: Skew | None = None,
        source: str | None = None,
    ) -> None:
        self.exchange, self.source = exchange, source or exchange
        self.collector, self.connection = collector, connection
        self.symbols: dict[str, str] = dict(symbols or {})
        self.skew = skew or Skew()
        self.skipped: Counter[str] = Counter()
        self.depth: int | None = None
        self._heads: dict[str, Head] = {}

    def parse(self, frame: bytes, capture_ts: int) -> Sequence[Found]:
        """Everything one frame says, in its order; empty where it is nothing for us (counted in `skipped`).

        `capture_ts`: when it arrived, ns. Raises FrameError, with the frame; the parser can go on with the next one.
        """
        try:
            return self._parse(frame, capture_ts)
        except (
            msgspec.MsgspecError, UnicodeDecodeError, UnknownSymbol, ValueError, LookupError, TypeError,
            OverflowError, RecursionError,
        ) as error:  # fmt: skip
            raise FrameError(
                f"{self.exchange}: a frame of {len(frame)} bytes does not parse: {error}",
                frame=bytes(frame),
                hint=f"it begins with {bytes(frame[:80])!r}",
            ) from error

    @staticmethod
    def checksum(bids: Texts, asks: Texts) -> int:
        """The exchange's checksum over the best `checksum_levels` of each side, best first."""
        raise NotImplementedError("this exchange gives no checksum")

    def _parse(self, frame: bytes, capture_ts: int) -> Sequence[Found]:
        """As `parse`; a ValueError or a decoder's own error says that the frame is broken."""
        raise NotImplementedError

    def head(self, native: str) -> Head:
        """What makes this symbol's events. Raises UnknownSymbol."""
        head = self._heads.get(native)
        if head is None:
            head = self._heads[native] = Head(
                exchange=self.exchange,
                symbol=self.unified(native),
                native=native,
                source=self.source,
                collector=self.collector,
                connection=self.connection,
                skew=self.skew,
            )
        return head

    def unified(self, native: str) -> str:
        """The unified symbol of a native one. Raises UnknownSymbol."""
        try:
            return self.symbols[native]
        except KeyError:
            raise UnknownSymbol(f"{self.exchange}: {native!r} is none of the symbols asked for") from None
