"""Gemini market data v2: l2 (book and trades on one subscription).

Source: Gemini, "WebSocket API / Market Data v2". A book's changes have neither number nor time; the first message of a
symbol holds its whole book and past trades.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from collector.wire import Beat, Found, Reply, WireParser
from collector.wire.fields import SIDES, Id, Millis, pack_texts
from fluxforge.clock import MS


class _Kind(msgspec.Struct, gc=False):
    type: str = ""
    result: str = ""
    reason: str = ""
    message: str = ""
    timestamp: Millis | None = None


class _Updates(msgspec.Struct, gc=False):
    symbol: str
    changes: list[tuple[str, str, str]]
    trades: list[msgspec.Raw] | None = None
    auction_events: msgspec.Raw = msgspec.Raw()


class _Trade(msgspec.Struct, gc=False):
    symbol: str
    event_id: Id
    timestamp: Millis
    price: float
    quantity: float
    side: str


_decode_kind = msgspec.json.Decoder(_Kind).decode
_decode_updates = msgspec.json.Decoder(_Updates).decode
_decode_trade = msgspec.json.Decoder(_Trade, strict=False).decode


class GeminiParser(WireParser):
    """Symbols are named `BTCUSD`."""

    def _parse(self, frame: bytes, capture_ts: int) -> Sequence[Found]:
        kind = "l2_updates" if frame.startswith(b'{"type":"l2_updates"') else _decode_kind(frame).type
        match kind:
            case "l2_updates":
                return self._updates(frame, capture_ts)
            case "trade":
                return (self._trade(frame, capture_ts),)
            case "heartbeat":
                ts = _decode_kind(frame).timestamp
                return (Beat(None if ts is None else ts * MS),)
            case "subscription_ack":
                return (Reply(None, None),)
        told = _decode_kind(frame)
        if told.result == "error":
            return (Reply(None, f"{told.reason}: {told.message}"),)
        self.skipped[kind] += 1
        return ()

    def _updates(self, frame: bytes, capture_ts: int) -> Sequence[Found]:
        """{"type":"l2_updates","symbol":"BTCUSD","changes":[["buy","9122.04","0.00121425"],["sell","9122.07","0.98"]],
        "trades":[{"type":"trade","symbol":"BTCUSD","event_id":169841458,"timestamp":1560976400428,
        "price":"9122.04","quantity":"0.0073173","side":"sell"}],"auction_events":[]}
        """
        msg = _decode_updates(frame)
        head = self.head(msg.symbol)
        bids = [(price, size) for side, price, size in msg.changes if side == "buy"]
        asks = [(price, size) for side, price, size in msg.changes if side == "sell"]
        if len(bids) + len(asks) != len(msg.changes):
            raise ValueError("a change of neither side")
        if msg.trades is None or not bytes(msg.auction_events):
            return (head.delta(capture_ts, None, None, pack_texts(bids), pack_texts(asks), None),)
        bids.sort(key=lambda level: -float(level[0]))
        asks.sort(key=lambda level: float(level[0]))
        whole = head.snapshot(capture_ts, None, None, pack_texts(bids), pack_texts(asks))
        past = [self._trade(bytes(record), capture_ts, past=True) for record in msg.trades]
        return whole, *past[::-1]

    def _trade(self, record: bytes, capture_ts: int, *, past: bool = False) -> Found:
        """{"type":"trade","symbol":"FILUSD","event_id":45465842999,"timestamp":1624493681030,"price":"58.4998",
        "quantity":"15.4053","side":"buy"}
        """
        msg = _decode_trade(record)
        return self.head(msg.symbol).trade(
            capture_ts, msg.timestamp * MS, None, str(msg.event_id), msg.price, msg.quantity, SIDES.get(msg.side, 0),
            record, backfilled=past,
        )  # fmt: skip
