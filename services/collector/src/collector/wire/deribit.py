"""Deribit: book, trades, ticker of `public/subscribe`.

Source: Deribit API v2, subscriptions "book.{instrument}.{interval}", "trades.…", "ticker.…". Times are ms since 1970
UTC, numbers JSON numbers; the sizes of futures are US dollars, those of options contracts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from collector.levels import pack
from collector.wire import Beat, Found, Reply, WireParser
from collector.wire.fields import SIDES, Id, Millis
from fluxforge.clock import MS

_Change = tuple[str, float, float]


class _Params(msgspec.Struct, gc=False):
    channel: str = ""
    type: str = ""
    data: msgspec.Raw = msgspec.Raw()


class _Frame(msgspec.Struct, gc=False):
    method: str = ""
    params: _Params | None = None
    id: Any = None
    error: msgspec.Raw = msgspec.Raw()


class _Book(msgspec.Struct, gc=False):
    instrument_name: str
    timestamp: Millis
    change_id: Id
    bids: list[_Change]
    asks: list[_Change]
    type: str = ""
    prev_change_id: Id | None = None


class _Trade(msgspec.Struct, gc=False):
    instrument_name: str
    trade_id: str
    trade_seq: Id
    timestamp: Millis
    price: float
    amount: float
    direction: str


class _Stats(msgspec.Struct, gc=False):
    high: float | None = None
    low: float | None = None
    volume: float | None = None
    volume_usd: float | None = None


class _Ticker(msgspec.Struct, gc=False):
    instrument_name: str
    timestamp: Millis
    best_bid_price: float | None = None
    best_bid_amount: float | None = None
    best_ask_price: float | None = None
    best_ask_amount: float | None = None
    last_price: float | None = None
    stats: _Stats = msgspec.field(default_factory=_Stats)


_decode_frame = msgspec.json.Decoder(_Frame).decode
_decode_book = msgspec.json.Decoder(_Book).decode
_decode_records = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_trade = msgspec.json.Decoder(_Trade).decode
_decode_ticker = msgspec.json.Decoder(_Ticker).decode


class DeribitParser(WireParser):
    """A change names the one before it."""

    def _parse(self, frame: bytes, capture_ts: int) -> Sequence[Found]:
        told = _decode_frame(frame)
        if told.method == "heartbeat":
            return (Beat(),)
        if told.method != "subscription" or told.params is None:
            return (Reply(told.id, bytes(told.error).decode() or None),)
        channel, data = told.params.channel.partition(".")[0], told.params.data
        match channel:
            case "book":
                return self._book(data, capture_ts)
            case "trades":
                return [self._trade(bytes(record), capture_ts) for record in _decode_records(data)]
            case "ticker":
                return self._ticker(bytes(data), capture_ts)
        self.skipped[channel] += 1
        return ()

    def _book(self, data: msgspec.Raw, capture_ts: int) -> Sequence[Found]:
        """{"jsonrpc":"2.0","method":"subscription","params":{"channel":"book.BTC-PERPETUAL.100ms","data":{
        "type":"change","timestamp":1554373911330,"prev_change_id":297217,"instrument_name":"BTC-PERPETUAL",
        "change_id":297218,"bids":[["delete",5041.94,0.0],["delete",5042.34,0.0]],"asks":[]}}}

        A snapshot has "type":"snapshot", no `prev_change_id`, and "new" levels.
        """
        msg = _decode_book(data)
        bids, asks = _levels(msg.bids), _levels(msg.asks)
        head, ts = self.head(msg.instrument_name), msg.timestamp * MS
        if msg.type == "snapshot":
            return (head.snapshot(capture_ts, ts, msg.change_id, pack(sorted(bids, reverse=True)), pack(sorted(asks))),)
        first = None if msg.prev_change_id is None else msg.prev_change_id + 1
        return (head.delta(capture_ts, ts, msg.change_id, pack(bids), pack(asks), first),)

    def _trade(self, record: bytes, capture_ts: int) -> Found:
        """`trade_seq` counts an instrument's trades; the id is the exchange's.

        {"trade_seq":30289442,"trade_id":"48079269","timestamp":1590484512188,"tick_direction":2,"price":8950,
         "mark_price":8948.9,"instrument_name":"BTC-PERPETUAL","index_price":8955.88,"direction":"sell","amount":10}
        """
        msg = _decode_trade(record)
        return self.head(msg.instrument_name).trade(
            capture_ts, msg.timestamp * MS, msg.trade_seq, msg.trade_id, msg.price, msg.amount,
            SIDES.get(msg.direction, 0), record,
        )  # fmt: skip

    def _ticker(self, record: bytes, capture_ts: int) -> Sequence[Found]:
        """{"timestamp":1623060194301,"stats":{"volume_usd":284061480,"volume":7871.02139035,"low":35213.5,
        "high":36824.5},"last_price":36406,"instrument_name":"BTC-PERPETUAL","best_bid_price":36442.5,
        "best_bid_amount":5000,"best_ask_price":36443,"best_ask_amount":100,…}
        """
        msg = _decode_ticker(record)
        return (
            self.head(msg.instrument_name).ticker(
                capture_ts,
                msg.timestamp * MS,
                None,
                record,
                bid=msg.best_bid_price,
                bid_size=msg.best_bid_amount,
                ask=msg.best_ask_price,
                ask_size=msg.best_ask_amount,
                last=msg.last_price,
                high=msg.stats.high,
                low=msg.stats.low,
                volume=msg.stats.volume,
                quote_volume=msg.stats.volume_usd,
            ),
        )


def _levels(changes: list[_Change]) -> list[tuple[float, float]]:
    return [(price, 0.0 if action == "delete" else size) for action, price, size in changes]
