"""The market events: what every collector writes to the raw topic and every reader gets back.

All events of one key `(exchange, symbol)` lie in one partition, in capture order. Structs are encoded as arrays,
so a field's place is its name on the wire: fields are only ever appended, each with a default.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Annotated

import msgspec

Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""What a kernel and a Parquet column can hold; a decoder refuses more."""


class Kind(IntEnum):
    """Event kinds; the value is the tag on the wire and the `kind` of a kernel's batch."""

    BOOK_SNAPSHOT = 0
    BOOK_DELTA = 1
    TRADE = 2
    TICKER = 3
    HEARTBEAT = 4
    RESET = 5
    COVERAGE = 6
    WIRE = 7


class ResetReason(StrEnum):
    """Why a key's book must not be differenced with what came before."""

    GAP = "gap"
    CHECKSUM = "checksum"
    RECONNECT = "reconnect"
    STALE = "stale"
    OVERFLOW = "overflow"
    MISMATCH = "mismatch"


class ClockSource(IntEnum):
    """Whose clock `Event.event_time` is."""

    EXCHANGE = 0
    CAPTURE = 1


class Event(msgspec.Struct, array_like=True, frozen=True, kw_only=True, gc=False):
    """Fields every event has.

    exchange    lower-case id, `binance`
    symbol      unified, `BTC/USDT`
    native      as the exchange writes it, `BTCUSDT`
    source      the adapter that captured it: `ccxt`, or a native one's name
    collector   id of the collector process; stable over restarts
    connection  id of the socket session; new at each connect
    ts          the exchange's own time, ns; None where it gives none
    capture_ts  our clock at arrival, ns
    skew        exchange clock − our clock as the collector measured it, ns; 0 where unknown
    clock       whose clock the key runs on: CAPTURE only for an exchange that stamps no books at all
    seq         the exchange's sequence number, None where it gives none
    """

    exchange: str
    symbol: str
    native: str
    source: str
    collector: str
    connection: str
    ts: Int64 | None
    capture_ts: Int64
    skew: Int64 = 0
    clock: Int64 = ClockSource.EXCHANGE
    seq: Int64 | None = None

    @property
    def key(self) -> str:
        """`exchange|symbol`: the log's key."""
        return f"{self.exchange}|{self.symbol}"


class BookSnapshot(Event, tag=int(Kind.BOOK_SNAPSHOT), kw_only=True, frozen=True, gc=False):
    """A whole book, as far as it is known.

    bids, asks  little-endian float64 pairs price, size, price, size…; best first
    refresh     a restatement of a book already in the log: it verifies and never counts as a book
    conflated   true where the feed folds updates together (sampled path)
    updates     exchange updates folded into this event
    """

    bids: bytes
    asks: bytes
    refresh: bool = False
    conflated: bool = False
    updates: Int64 = 1


class BookDelta(Event, tag=int(Kind.BOOK_DELTA), kw_only=True, frozen=True, gc=False):
    """Level changes: absolute sizes, 0 removes the level.

    bids, asks  little-endian float64 pairs price, size
    first_seq   first update id folded into this message; `seq` is the last
    """

    bids: bytes
    asks: bytes
    first_seq: Int64 | None = None


class Trade(Event, tag=int(Kind.TRADE), kw_only=True, frozen=True, gc=False):
    """One trade.

    side        of the taker: 1 buy, −1 sell, 0 unknown
    size        base currency
    backfilled  fetched over REST after a reconnect
    raw         the exchange's own record, JSON; None where there is none
    """

    id: str
    price: float
    size: float
    side: Int64
    backfilled: bool = False
    raw: bytes | None = None


class Ticker(Event, tag=int(Kind.TICKER), kw_only=True, frozen=True, gc=False):
    """Best prices and 24 h statistics; None where the exchange gives none."""

    bid: float | None = None
    bid_size: float | None = None
    ask: float | None = None
    ask_size: float | None = None
    last: float | None = None
    open: float | None = None
    high: float | None = None
    low: float | None = None
    volume: float | None = None
    quote_volume: float | None = None
    raw: bytes | None = None


class Heartbeat(Event, tag=int(Kind.HEARTBEAT), kw_only=True, frozen=True, gc=False):
    """The key was silent while its connection was sound; `ts` is the estimated exchange clock less one second."""


class Reset(Event, tag=int(Kind.RESET), kw_only=True, frozen=True, gc=False):
    """Nothing may be differenced across this point.

    reason      a `ResetReason`
    incomplete  trades before this point may be missing
    detail      what was seen, for a person
    """

    reason: str
    incomplete: bool = False
    detail: str = ""


class Coverage(Event, tag=int(Kind.COVERAGE), kw_only=True, frozen=True, gc=False):
    """What one collector saw of a key in at most one hour of its own clock; written when the hour, or it, ends.

    since, until  ns of the collector's clock, within one UTC hour
    books, trades, tickers, resets  events that reached the log, restatements left out
    gaps          breaks of a sequence (ids of diffs or trades, checksums) that were detected
    resyncs       books taken anew
    duplicates    events that came again and were dropped
    backfilled    trades fetched over REST
    shed          updates dropped under load, behind a Reset
    holes         Resets behind which trades may be missing
    dark          ns without an event or heartbeat for longer than 2.5 s
    crossed       ns in which the book was crossed, by a look each second
    stamped       events with an exchange time; the percentiles below are of exchange time − arrival, ns
    """

    since: Int64
    until: Int64
    books: Int64 = 0
    trades: Int64 = 0
    tickers: Int64 = 0
    resets: Int64 = 0
    gaps: Int64 = 0
    resyncs: Int64 = 0
    duplicates: Int64 = 0
    backfilled: Int64 = 0
    shed: Int64 = 0
    holes: Int64 = 0
    dark: Int64 = 0
    crossed: Int64 = 0
    stamped: Int64 = 0
    skew_p50: Int64 | None = None
    skew_p99: Int64 | None = None


class Wire(Event, tag=int(Kind.WIRE), kw_only=True, frozen=True, gc=False):
    """What an exchange sent, untouched; it is of no one symbol, and `symbol` and `native` are empty.

    data   the frame, or the body of a REST answer
    about  path and query that a REST answer answers; empty for a frame of a socket
    """

    data: bytes
    about: str = ""


AnyEvent = BookSnapshot | BookDelta | Trade | Ticker | Heartbeat | Reset | Coverage | Wire

KIND_OF: dict[type[Event], Kind] = {
    BookSnapshot: Kind.BOOK_SNAPSHOT,
    BookDelta: Kind.BOOK_DELTA,
    Trade: Kind.TRADE,
    Ticker: Kind.TICKER,
    Heartbeat: Kind.HEARTBEAT,
    Reset: Kind.RESET,
    Coverage: Kind.COVERAGE,
    Wire: Kind.WIRE,
}
EVENT_OF: dict[Kind, type[AnyEvent]] = {
    Kind.BOOK_SNAPSHOT: BookSnapshot,
    Kind.BOOK_DELTA: BookDelta,
    Kind.TRADE: Trade,
    Kind.TICKER: Ticker,
    Kind.HEARTBEAT: Heartbeat,
    Kind.RESET: Reset,
    Kind.COVERAGE: Coverage,
    Kind.WIRE: Wire,
}
