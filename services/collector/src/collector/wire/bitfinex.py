"""Bitfinex websocket v2: book (precision P0…P4), trades, ticker.

Sources: Bitfinex API v2, "WebSocket general", "Books", "Trades", "Ticker", "WebSocket checksum". A channel's messages
carry its number, which the answer to a subscription names. With the flag SEQ_ALL every public message ends with a
number that rises by one over the connection; with OB_CHECKSUM a book's checksum follows its changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from collector.wire import Beat, Checksum, Found, Gap, Reply, WireParser
from collector.wire.fields import Id, Millis, pack_texts
from collector.wire.okx import OkxParser
from fluxforge.clock import MS

FLAGS = 65536 | 131072
"""SEQ_ALL and OB_CHECKSUM."""


class _Channel(NamedTuple):
    name: str
    native: str


class _Event(msgspec.Struct, gc=False):
    event: str
    channel: str = ""
    symbol: str = ""
    chan_id: Any = msgspec.field(name="chanId", default=None)
    msg: str = ""
    code: Any = None
    flags: int | None = None
    status: Any = None


_decode_event = msgspec.json.Decoder(_Event).decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_rows = msgspec.json.Decoder(list[list[msgspec.Raw]]).decode
_decode_raws = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_trade = msgspec.json.Decoder(tuple[Id, Millis, float, float]).decode
_decode_ticker = msgspec.json.Decoder(
    tuple[float, float, float, float, float, float, float, float, float, float]
).decode
_decode_int = msgspec.json.Decoder(int).decode
_decode_text = msgspec.json.Decoder(str).decode


class BitfinexParser(WireParser):
    """Symbols are named `tBTCUSD`."""

    checksum_levels = 25
    checksum = OkxParser.checksum
    """`price:amount` of bid and ask in turn, the asks' amounts negative as on the wire."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._channels: dict[int, _Channel] = {}
        self._seq: int | None = None

    def channel_of(self, name: str, native: str) -> int | None:
        """The number of a subscription, to end it by."""
        return next((id_ for id_, channel in self._channels.items() if channel == (name, native)), None)

    def _parse(self, frame: bytes, capture_ts: int) -> Sequence[Found]:
        if frame.startswith(b"{"):
            return self._event(frame)
        parts = _decode_list(frame)
        if len(parts) < 2:
            raise ValueError("neither an event nor a channel's data")
        number, what = _decode_int(parts[0]), bytes(parts[1])
        size = 3 if what in {b'"cs"', b'"te"', b'"tu"'} else 2
        gap = self._count(_decode_int(parts[size])) if len(parts) > size else ()
        if what == b'"hb"':
            return (*gap, Beat())
        channel = self._channels.get(number)
        if channel is None:
            self.skipped["unknown channel"] += 1
            return gap
        if what == b'"cs"':
            return *gap, Checksum(channel.native, _decode_int(parts[2]))
        if channel.name == "book":
            return *gap, *self._book(parts[1], channel.native, capture_ts)
        if channel.name == "trades":
            return *gap, *self._trades(parts, what, channel.native, capture_ts)
        if channel.name == "ticker":
            return *gap, *self._ticker(parts[1], channel.native, capture_ts)
        self.skipped[channel.name] += 1
        return gap

    def _event(self, frame: bytes) -> Sequence[Found]:
        """{"event":"subscribed","channel":"book","chanId":10092,"symbol":"tETHUSD","prec":"P0","freq":"F0","len":"25",
        "pair":"ETHUSD"}

        {"event":"error","msg":"symbol: invalid","code":10300}, {"event":"conf","status":"OK","flags":196608}
        """
        msg = _decode_event(frame)
        match msg.event:
            case "subscribed" if isinstance(msg.chan_id, int):
                self._channels[msg.chan_id] = _Channel(msg.channel, msg.symbol)
                return (Reply((msg.channel, msg.symbol), None, msg.symbol),)
            case "unsubscribed":
                gone = self._channels.pop(msg.chan_id, _Channel("", "")) if isinstance(msg.chan_id, int) else None
                return (Reply(msg.chan_id, None, gone.native if gone else None),)
            case "error":
                return (Reply(None, f"{msg.code}: {msg.msg}"),)
            case "conf":
                self._seq = None
                return (Reply("conf", None),)
        self.skipped[msg.event] += 1
        return ()

    def _count(self, seq: int) -> Sequence[Found]:
        last, self._seq = self._seq, seq
        if last is None or seq == last + 1:
            return ()
        return (Gap(f"frame {seq} after {last}"),)

    def _book(self, part: msgspec.Raw, native: str, capture_ts: int) -> Sequence[Found]:
        """[10092,[[283460,2,1.5],[283510,1,-0.3],…]] is the whole book, [10092,[283460,0,-1],23] one change.

        A level is price, number of orders, amount; no order left deletes it.
        """
        body = bytes(part)
        whole = body.startswith((b"[[", b"[]"))
        rows = _decode_rows(body) if whole else [_decode_raws(body)]
        bids: list[tuple[str, str]] = []
        asks: list[tuple[str, str]] = []
        for row in rows:
            price, count, amount = (bytes(raw).decode() for raw in row)
            (asks if amount.startswith("-") else bids).append((price, amount if int(count) else "0"))
        positive = [(price, amount.lstrip("-")) for price, amount in asks]
        head, sides = self.head(native), (pack_texts(bids), pack_texts(positive))
        event = (
            head.snapshot(capture_ts, None, None, *sides) if whole else head.delta(capture_ts, None, None, *sides, None)
        )
        return event, Checksum(native, None, bids, asks)

    def _trades(self, parts: Sequence[msgspec.Raw], what: bytes, native: str, capture_ts: int) -> Sequence[Found]:
        """[17470,"te",[401597395,1574694478808,0.005,7245.3]]; first, newest foremost: [17470,[[401597393,…],…]].

        A buy has an amount above 0. Each "te" comes again as "tu".
        """
        if what == b'"tu"':
            return ()
        if what == b'"te"':
            return (self._trade(bytes(parts[2]), native, capture_ts),)
        records = [bytes(record) for record in _decode_list(parts[1])]
        return [self._trade(record, native, capture_ts, past=True) for record in reversed(records)]

    def _trade(self, record: bytes, native: str, capture_ts: int, *, past: bool = False) -> Found:
        id_, ms, amount, price = _decode_trade(record)
        return self.head(native).trade(
            capture_ts, ms * MS, None, str(id_), price, abs(amount), 1 if amount > 0 else -1, record, backfilled=past
        )

    def _ticker(self, part: msgspec.Raw, native: str, capture_ts: int) -> Sequence[Found]:
        """[232949,[bid, bid size, ask, ask size, change, relative change, last, volume, high, low],1]"""
        bid, bid_size, ask, ask_size, _, _, last, volume, high, low = _decode_ticker(part)
        return (
            self.head(native).ticker(
                capture_ts,
                None,
                None,
                bytes(part),
                bid=bid,
                bid_size=bid_size,
                ask=ask,
                ask_size=ask_size,
                last=last,
                high=high,
                low=low,
                volume=volume,
            ),
        )
