"""Bybit v5 public topics: orderbook.{depth}, publicTrade, tickers.

Source: Bybit API v5, "WebSocket stream / public": orderbook, trade, ticker. Times are ms since 1970 UTC, prices and
sizes decimal text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from collector.wire import Beat, Found, Reply, WireParser
from collector.wire.fields import SIDES, Id, Millis, number, pack_texts
from fluxforge.clock import MS


class _Frame(msgspec.Struct, gc=False):
    topic: str = ""
    type: str = ""
    ts: Millis = 0
    data: msgspec.Raw = msgspec.Raw()
    op: str = ""
    success: bool = True
    ret_msg: str = ""
    req_id: str | None = None


class _Book(msgspec.Struct, gc=False):
    s: str
    b: list[list[str]]
    a: list[list[str]]
    u: Id


class _Trade(msgspec.Struct, gc=False):
    T: Millis
    s: str
    S: str
    v: float
    p: float
    i: str


_decode_frame = msgspec.json.Decoder(_Frame, strict=False).decode
_decode_book = msgspec.json.Decoder(_Book).decode
_decode_records = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_trade = msgspec.json.Decoder(_Trade, strict=False).decode
_decode_ticker = msgspec.json.Decoder(dict[str, Any]).decode


class BybitParser(WireParser):
    """Spot and futures have sockets of their own, and share names (`BTCUSDT`)."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._tickers: dict[str, dict[str, Any]] = {}

    def _parse(self, frame: bytes, capture_ts: int) -> Sequence[Found]:
        told = _decode_frame(frame)
        topic = told.topic.partition(".")[0]
        match topic:
            case "orderbook":
                return self._book(told, capture_ts)
            case "publicTrade":
                return [self._trade(bytes(record), capture_ts) for record in _decode_records(told.data)]
            case "tickers":
                return self._ticker(told, capture_ts)
            case "":
                return self._answer(told)
        self.skipped[topic] += 1
        return ()

    @staticmethod
    def _answer(told: _Frame) -> Sequence[Found]:
        """{"success":true,"ret_msg":"subscribe","conn_id":"2324d924","req_id":"10001","op":"subscribe"}

        {"success":true,"ret_msg":"pong","conn_id":"0970e817","req_id":"100001","op":"ping"}
        """
        if told.op == "pong" or told.ret_msg == "pong":
            return (Beat(),)
        return (Reply(told.req_id, None if told.success else told.ret_msg or "refused"),)

    def _book(self, told: _Frame, capture_ts: int) -> Sequence[Found]:
        """`u` rises by one with each message of the topic; 1 is a snapshot of a service that has restarted.

        {"topic":"orderbook.50.BTCUSDT","type":"delta","ts":1687940967466,"data":{"s":"BTCUSDT",
         "b":[["30247.20","30.028"],["30245.40","0"]],"a":[["30248.70","0"],["30249.30","0.892"]],"u":177400507,
         "seq":66544703342},"cts":1687940967464}
        """
        msg = _decode_book(told.data)
        head, sides = self.head(msg.s), (pack_texts(msg.b), pack_texts(msg.a))
        if told.type == "snapshot" or msg.u == 1:
            return (head.snapshot(capture_ts, told.ts * MS, msg.u, *sides),)
        return (head.delta(capture_ts, told.ts * MS, msg.u, *sides, msg.u),)

    def _trade(self, record: bytes, capture_ts: int) -> Found:
        """{"topic":"publicTrade.BTCUSDT","type":"snapshot","ts":1672304486868,"data":[{"T":1672304486865,"s":"BTCUSDT",
        "S":"Buy","v":"0.001","p":"16578.50","L":"PlusTick","i":"20f43950-d8dd-5b31-9112-a178eb6023af","BT":false}]}
        """
        msg = _decode_trade(record)
        return self.head(msg.s).trade(capture_ts, msg.T * MS, None, msg.i, msg.p, msg.v, SIDES.get(msg.S, 0), record)

    def _ticker(self, told: _Frame, capture_ts: int) -> Sequence[Found]:
        """A delta holds what has changed.

        {"topic":"tickers.BTCUSDT","type":"delta","data":{"symbol":"BTCUSDT","bid1Price":"17215.50","bid1Size":"84.489",
         "ask1Price":"17216.00","ask1Size":"83.020","lastPrice":"17216.00","prevPrice24h":"16597.00",
         "highPrice24h":"17281.50","lowPrice24h":"16915.00","volume24h":"91705.276","turnover24h":"1570383121.943"},
         "cs":24987956059,"ts":1673272861686}
        """
        changed = _decode_ticker(told.data)
        native = str(changed["symbol"])
        head = self.head(native)
        msg = changed if told.type == "snapshot" else self._tickers.get(native, {}) | changed
        self._tickers[native] = msg
        return (
            head.ticker(
                capture_ts,
                told.ts * MS,
                None,
                bytes(told.data),
                bid=number(msg.get("bid1Price")),
                bid_size=number(msg.get("bid1Size")),
                ask=number(msg.get("ask1Price")),
                ask_size=number(msg.get("ask1Size")),
                last=number(msg.get("lastPrice")),
                open=number(msg.get("prevPrice24h")),
                high=number(msg.get("highPrice24h")),
                low=number(msg.get("lowPrice24h")),
                volume=number(msg.get("volume24h")),
                quote_volume=number(msg.get("turnover24h")),
            ),
        )
