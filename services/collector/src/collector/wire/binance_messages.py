"""Binance's messages as they stand on the wire, and their decoders; examples are in wire/binance.py.

Field names are the exchange's. Decimal strings become floats exactly as `float()` reads them.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from fluxforge.clock import MS

Levels = list[tuple[float, float]]
Number = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Millis = Annotated[int, msgspec.Meta(ge=0, le=(2**63 - 1) // MS)]


class Snapshot(msgspec.Struct, gc=False):
    """A REST depth snapshot."""

    seq: Number = msgspec.field(name="lastUpdateId")
    bids: Levels
    asks: Levels


class Envelope(msgspec.Struct, gc=False):
    """A frame of a combined stream; `data` is empty for a bare one."""

    stream: str = ""
    data: msgspec.Raw = msgspec.Raw()


class Kind(msgspec.Struct, gc=False):
    """What tells one record from another."""

    e: str | None = None
    error: msgspec.Raw = msgspec.Raw()
    id: Any = None
    code: int | None = None
    seq: Number | None = msgspec.field(name="lastUpdateId", default=None)


class Depth(msgspec.Struct, gc=False):
    """depthUpdate."""

    E: Millis
    s: str
    U: Number
    u: Number
    b: Levels
    a: Levels
    pu: Number | None = None


class TradeMessage(msgspec.Struct, gc=False):
    """trade."""

    s: str
    t: Number
    p: float
    q: float
    T: Millis
    m: bool
    X: str = "MARKET"


class BookTicker(msgspec.Struct, gc=False):
    """bookTicker."""

    u: Number
    s: str
    b: float
    B: float
    a: float
    A: float
    T: Millis | None = None


class DayTicker(msgspec.Struct, gc=False):
    """24hrTicker."""

    E: Millis
    s: str
    c: float
    o: float
    h: float
    low: float = msgspec.field(name="l")
    v: float
    q: float
    b: float | None = None
    B: float | None = None
    a: float | None = None
    A: float | None = None


class RestTrade(msgspec.Struct, gc=False):
    """A trade of a REST answer."""

    id: Number
    price: float
    qty: float
    time: Millis
    maker: bool = msgspec.field(name="isBuyerMaker")

    def as_trade(self, native: str) -> TradeMessage:
        return TradeMessage(native, self.id, self.price, self.qty, self.time, self.maker)


decode_envelope = msgspec.json.Decoder(Envelope).decode
decode_kind = msgspec.json.Decoder(Kind).decode
decode_depth = msgspec.json.Decoder(Depth, strict=False).decode
decode_trade = msgspec.json.Decoder(TradeMessage, strict=False).decode
decode_book_ticker = msgspec.json.Decoder(BookTicker, strict=False).decode
decode_day_ticker = msgspec.json.Decoder(DayTicker, strict=False).decode
decode_records = msgspec.json.Decoder(list[msgspec.Raw]).decode
decode_rest_trade = msgspec.json.Decoder(RestTrade, strict=False).decode
decode_snapshot = msgspec.json.Decoder(Snapshot, strict=False).decode
