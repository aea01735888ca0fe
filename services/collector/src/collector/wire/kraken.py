"""Kraken websocket v2: book, trade, ticker.

Sources: Kraken API Center, "Spot Websockets (v2)" channels and "Book Checksum".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from zlib import crc32

import msgspec

from collector.wire import Beat, Checksum, Found, Reply, Texts, WireParser
from collector.wire.fields import SIDES, Id, pack_texts
from collector.wire.rfc3339 import nanos

DEPTH = 10
"""Levels a side that a book has unless more are asked for."""


class _Level(msgspec.Struct, gc=False):
    price: msgspec.Raw
    qty: msgspec.Raw


class _Book(msgspec.Struct, gc=False):
    symbol: str
    bids: list[_Level] = []
    asks: list[_Level] = []
    checksum: int | None = None
    timestamp: str | None = None


class _Trade(msgspec.Struct, gc=False):
    symbol: str
    side: str
    price: float
    qty: float
    trade_id: Id
    timestamp: str


class _Ticker(msgspec.Struct, gc=False):
    symbol: str
    bid: float | None = None
    bid_qty: float | None = None
    ask: float | None = None
    ask_qty: float | None = None
    last: float | None = None
    volume: float | None = None
    vwap: float | None = None
    low: float | None = None
    high: float | None = None
    timestamp: str | None = None


class _Result(msgspec.Struct, gc=False):
    channel: str = ""
    symbol: str = ""
    depth: int | None = None


class _Frame(msgspec.Struct, gc=False):
    channel: str = ""
    type: str = ""
    data: msgspec.Raw = msgspec.Raw()
    method: str = ""
    success: bool = True
    error: str | None = None
    result: _Result | None = None


_decode_frame = msgspec.json.Decoder(_Frame).decode
_decode_books = msgspec.json.Decoder(list[_Book]).decode
_decode_records = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_trade = msgspec.json.Decoder(_Trade).decode
_decode_ticker = msgspec.json.Decoder(_Ticker).decode


def checksum(bids: Texts, asks: Texts) -> int:
    """CRC32 over price and size of the asks, then of the bids, each without point and leading zeros."""
    text = "".join(part.replace(".", "").lstrip("0") for side in (asks, bids) for level in side for part in level)
    return crc32(text.encode())


class KrakenParser(WireParser):
    """v2. Symbols on the wire are `BTC/USD`; a book has no numbers, only its checksum, and is cut off at its depth."""

    checksum_levels = 10
    checksum = staticmethod(checksum)

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.depth = DEPTH

    def _parse(self, frame: bytes, capture_ts: int) -> Sequence[Found]:
        told = _decode_frame(frame)
        if told.method:
            return self._answer(told)
        if told.channel == "book":
            return self._books(told, capture_ts)
        if told.channel == "trade":
            return self._trades(told, capture_ts)
        if told.channel == "ticker":
            return self._tickers(told, capture_ts)
        if told.channel == "heartbeat":
            return (Beat(),)
        self.skipped[told.channel] += 1
        return ()

    def _answer(self, told: _Frame) -> Sequence[Found]:
        """{"method":"subscribe","result":{"channel":"book","depth":10,"snapshot":true,"symbol":"ALGO/USD"},
        "success":true,"time_in":"2023-10-06T17:35:55.219022Z","time_out":"2023-10-06T17:35:55.219067Z"}

        {"error":"Currency pair not supported ALGO/USB","method":"subscribe","success":false,"symbol":"ALGO/USB",…}
        """
        result = told.result or _Result()
        if result.channel == "book" and result.depth is not None:
            self.depth = result.depth
        return (Reply((result.channel, result.symbol), None if told.success else told.error or "refused"),)

    def _books(self, told: _Frame, capture_ts: int) -> Sequence[Found]:
        """{"channel":"book","type":"update","data":[{"symbol":"MATIC/USD","bids":[{"price":0.5657,"qty":1098.3947558}],
        "asks":[],"checksum":2114181697,"timestamp":"2023-10-06T17:35:55.440295Z"}]}
        """
        found: list[Found] = []
        for book in _decode_books(told.data):
            head = self.head(book.symbol)
            ts = nanos(book.timestamp) if book.timestamp else None
            bids, asks = _texts(book.bids), _texts(book.asks)
            if told.type == "snapshot":
                found.append(head.snapshot(capture_ts, ts, None, pack_texts(bids), pack_texts(asks)))
            else:
                found.append(head.delta(capture_ts, ts, None, pack_texts(bids), pack_texts(asks), None))
            if book.checksum is not None:
                found.append(Checksum(book.symbol, book.checksum, bids, asks))
        return found

    def _trades(self, told: _Frame, capture_ts: int) -> Sequence[Found]:
        """A subscription begins with the last 50, as type snapshot.

        {"channel":"trade","type":"update","data":[{"symbol":"MATIC/USD","side":"sell","price":0.5117,"qty":40.0,
         "ord_type":"market","trade_id":4665906,"timestamp":"2023-09-25T07:49:37.708706Z"}]}
        """
        records = [(_decode_trade(record), record) for record in _decode_records(told.data)]
        return [
            self.head(msg.symbol).trade(
                capture_ts,
                nanos(msg.timestamp),
                msg.trade_id,
                str(msg.trade_id),
                msg.price,
                msg.qty,
                SIDES.get(msg.side, 0),
                bytes(record),
                backfilled=told.type == "snapshot",
            )
            for msg, record in sorted(records, key=lambda pair: pair[0].trade_id)
        ]

    def _tickers(self, told: _Frame, capture_ts: int) -> Sequence[Found]:
        """{"channel":"ticker","type":"update","data":[{"symbol":"ALGO/USD","bid":0.10025,"bid_qty":740.0,
        "ask":0.10036,"ask_qty":1361.44813783,"last":0.10035,"volume":997038.98383185,"vwap":0.10148,"low":0.09979,
        "high":0.10285,"change":-0.00017,"change_pct":-0.17}]}
        """
        found = []
        for record in _decode_records(told.data):
            msg = _decode_ticker(record)
            quote = None if msg.volume is None or msg.vwap is None else msg.volume * msg.vwap
            found.append(
                self.head(msg.symbol).ticker(
                    capture_ts,
                    nanos(msg.timestamp) if msg.timestamp else None,
                    None,
                    bytes(record),
                    bid=msg.bid,
                    bid_size=msg.bid_qty,
                    ask=msg.ask,
                    ask_size=msg.ask_qty,
                    last=msg.last,
                    high=msg.high,
                    low=msg.low,
                    volume=msg.volume,
                    quote_volume=quote,
                )
            )
        return found


def _texts(levels: list[_Level]) -> list[tuple[str, str]]:
    return [(bytes(level.price).decode(), bytes(level.qty).decode()) for level in levels]
