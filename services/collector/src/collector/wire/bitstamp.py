"""Bitstamp websocket v2: diff_order_book, live_trades.

Source: Bitstamp, "WebSocket API v2". Times are µs since 1970 UTC as text. Diffs are ordered by `microtimestamp`, which
does not chain: a lost one shows only in the book itself. Their snapshot comes over REST, stamped alike; it must not be
older than the first diff, so each event's `first_seq` is the one before it, plus one, and the first one's its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from collector.wire import Beat, Found, Reply, WireParser
from collector.wire.fields import US, Micros, pack_texts


class _Frame(msgspec.Struct, gc=False):
    event: str
    channel: str = ""
    data: msgspec.Raw = msgspec.Raw()


class _Diff(msgspec.Struct, gc=False):
    microtimestamp: Micros
    bids: list[list[str]]
    asks: list[list[str]]


class _Trade(msgspec.Struct, gc=False):
    id: int
    microtimestamp: Micros
    price_str: float
    amount_str: float
    type: int


class _Error(msgspec.Struct, gc=False):
    message: str = ""


_decode_frame = msgspec.json.Decoder(_Frame).decode
_decode_diff = msgspec.json.Decoder(_Diff, strict=False).decode
_decode_trade = msgspec.json.Decoder(_Trade, strict=False).decode
_decode_error = msgspec.json.Decoder(_Error).decode


class BitstampParser(WireParser):
    """Markets are named `btcusd`."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._last: dict[str, int] = {}

    def _parse(self, frame: bytes, capture_ts: int) -> Sequence[Found]:
        told = _decode_frame(frame)
        channel, _, native = told.channel.rpartition("_")
        match told.event, channel:
            case "data", "diff_order_book":
                return self._diff(told.data, native, capture_ts)
            case "trade", "live_trades":
                return self._trade(bytes(told.data), native, capture_ts)
            case "bts:subscription_succeeded" | "bts:unsubscription_succeeded", _:
                return (Reply((channel, native), None, native),)
            case "bts:error", _:
                return (Reply(None, _decode_error(told.data).message or "refused"),)
            case "bts:heartbeat", _:
                return (Beat(),)
        self.skipped[told.event] += 1
        return ()

    def _diff(self, data: msgspec.Raw, native: str, capture_ts: int) -> Sequence[Found]:
        """{"data":{"timestamp":"1641343691","microtimestamp":"1641343691468521","bids":[["0.00002756","7752.76328758"]],
        "asks":[["0.00002920","839.17692634"]]},"channel":"diff_order_book_batbtc","event":"data"}
        """
        msg = _decode_diff(data)
        sides = pack_texts(msg.bids), pack_texts(msg.asks)
        seq = msg.microtimestamp
        first = self._last.get(native, seq - 1) + 1
        event = self.head(native).delta(capture_ts, seq * US, seq, *sides, min(first, seq))
        self._last[native] = seq
        return (event,)

    def _trade(self, record: bytes, native: str, capture_ts: int) -> Sequence[Found]:
        """`type` of the taker: 0 buys. Ids are the exchange's, not the market's.

        {"data":{"id":216000477,"timestamp":"1641343699","amount":0.0792,"amount_str":"0.07920000","price":3805.44,
         "price_str":"3805.44","type":0,"microtimestamp":"1641343699596000","buy_order_id":1443875737346049,
         "sell_order_id":1443875731320832},"channel":"live_trades_ethusd","event":"trade"}
        """
        msg = _decode_trade(record)
        side = {0: 1, 1: -1}.get(msg.type, 0)
        return (
            self.head(native).trade(
                capture_ts, msg.microtimestamp * US, None, str(msg.id), msg.price_str, msg.amount_str, side, record
            ),
        )
