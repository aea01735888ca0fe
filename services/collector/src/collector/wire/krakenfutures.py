"""Kraken Futures: feeds book, trade, ticker.

Source: Kraken API Center, "Futures Websockets". Times are ms since 1970 UTC, numbers JSON numbers, sizes contracts.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from collector.levels import pack
from collector.wire import Beat, Found, Reply, WireParser
from collector.wire.fields import SIDES, Id, Millis
from fluxforge.clock import MS


class _Kind(msgspec.Struct, gc=False):
    feed: str = ""
    event: str = ""
    message: str = ""
    product_ids: list[str] = []
    time: Millis | None = None


class _Level(msgspec.Struct, gc=False):
    price: float
    qty: float


class _Snapshot(msgspec.Struct, gc=False):
    product_id: str
    timestamp: Millis
    seq: Id
    bids: list[_Level]
    asks: list[_Level]


class _Change(msgspec.Struct, gc=False):
    product_id: str
    timestamp: Millis
    seq: Id
    side: str
    price: float
    qty: float


class _Trade(msgspec.Struct, gc=False):
    product_id: str
    uid: str
    side: str
    price: float
    qty: float
    time: Millis
    seq: Id | None = None


class _Past(msgspec.Struct, gc=False):
    trades: list[msgspec.Raw]


class _Ticker(msgspec.Struct, gc=False):
    product_id: str
    time: Millis
    bid: float | None = None
    bid_size: float | None = None
    ask: float | None = None
    ask_size: float | None = None
    last: float | None = None
    open: float | None = None
    high: float | None = None
    low: float | None = None
    volume: float | None = None
    volume_quote: float | None = msgspec.field(name="volumeQuote", default=None)


_decode_kind = msgspec.json.Decoder(_Kind).decode
_decode_snapshot = msgspec.json.Decoder(_Snapshot).decode
_decode_change = msgspec.json.Decoder(_Change).decode
_decode_trade = msgspec.json.Decoder(_Trade).decode
_decode_past = msgspec.json.Decoder(_Past).decode
_decode_ticker = msgspec.json.Decoder(_Ticker).decode


class KrakenFuturesParser(WireParser):
    """Products are named `PF_XBTUSD`; a book's numbers rise by one."""

    def _parse(self, frame: bytes, capture_ts: int) -> Sequence[Found]:
        if frame.startswith(b'{"feed":"book",'):
            return self._change(frame, capture_ts)
        kind = _decode_kind(frame)
        if kind.event:
            return self._event(kind)
        match kind.feed:
            case "book":
                return self._change(frame, capture_ts)
            case "book_snapshot":
                return self._snapshot(frame, capture_ts)
            case "trade":
                return (self._trade(frame, capture_ts),)
            case "trade_snapshot":
                past = [self._trade(bytes(record), capture_ts, past=True) for record in _decode_past(frame).trades]
                return past[::-1]
            case "ticker":
                return self._ticker(frame, capture_ts)
            case "heartbeat":
                return (Beat(None if kind.time is None else kind.time * MS),)
        self.skipped[kind.feed] += 1
        return ()

    def _event(self, kind: _Kind) -> Sequence[Found]:
        """{"event":"subscribed","feed":"book","product_ids":["PI_XBTUSD"]}

        {"event":"error","message":"Invalid product id"}
        """
        if kind.event in {"subscribed", "unsubscribed"}:
            return tuple(Reply((kind.feed, product), None, product) for product in kind.product_ids)
        if kind.event in {"error", "alert", "subscribed_failed"}:
            return (Reply(None, kind.message or kind.event),)
        self.skipped[kind.event] += 1
        return ()

    def _snapshot(self, frame: bytes, capture_ts: int) -> Sequence[Found]:
        """{"feed":"book_snapshot","product_id":"PI_XBTUSD","timestamp":1612269825817,"seq":326072249,"tickSize":null,
        "bids":[{"price":34892.5,"qty":6385.0}],"asks":[{"price":34911.5,"qty":20598.0}]}
        """
        msg = _decode_snapshot(frame)
        bids = pack(sorted(((level.price, level.qty) for level in msg.bids), reverse=True))
        asks = pack(sorted((level.price, level.qty) for level in msg.asks))
        return (self.head(msg.product_id).snapshot(capture_ts, msg.timestamp * MS, msg.seq, bids, asks),)

    def _change(self, frame: bytes, capture_ts: int) -> Sequence[Found]:
        """One level. {"feed":"book","product_id":"PI_XBTUSD","side":"sell","seq":326094134,"price":34981.0,"qty":0.0,
        "timestamp":1612269953629}
        """
        msg = _decode_change(frame)
        level = pack([(msg.price, msg.qty)])
        if msg.side not in {"buy", "sell"}:
            raise ValueError(f"side {msg.side[:20]!r}")
        bids, asks = (level, b"") if msg.side == "buy" else (b"", level)
        return (self.head(msg.product_id).delta(capture_ts, msg.timestamp * MS, msg.seq, bids, asks, msg.seq),)

    def _trade(self, record: bytes, capture_ts: int, *, past: bool = False) -> Found:
        """A subscription begins with past trades, newest first: {"feed":"trade_snapshot","trades":[…]}.

        {"feed":"trade","product_id":"PI_XBTUSD","uid":"05af78ac-a774-478c-a50c-8b9c234e071e","side":"sell",
         "type":"fill","seq":653355,"time":1612266317519,"qty":15000,"price":34969.5}
        """
        msg = _decode_trade(record)
        return self.head(msg.product_id).trade(
            capture_ts, msg.time * MS, msg.seq, msg.uid, msg.price, msg.qty, SIDES.get(msg.side, 0), record,
            backfilled=past,
        )  # fmt: skip

    def _ticker(self, frame: bytes, capture_ts: int) -> Sequence[Found]:
        """{"time":1676393235406,"product_id":"PF_XBTUSD","feed":"ticker","bid":21978.5,"ask":21987.0,"bid_size":2536.0,
        "ask_size":13948.0,"volume":30072580.0,"volumeQuote":30072580.0,"last":21979.0,"open":21000.0,"high":22000.0,
        "low":20900.0,…}
        """
        msg = _decode_ticker(frame)
        return (
            self.head(msg.product_id).ticker(
                capture_ts,
                msg.time * MS,
                None,
                frame,
                bid=msg.bid,
                bid_size=msg.bid_size,
                ask=msg.ask,
                ask_size=msg.ask_size,
                last=msg.last,
                open=msg.open,
                high=msg.high,
                low=msg.low,
                volume=msg.volume,
                quote_volume=msg.volume_quote,
            ),
        )
