"""Kraken websocket v1, which older recordings hold: `[channel id, what is said, …, channel, pair]`.

Source: Kraken, "Websockets API 1.9".
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from collector.wire import Beat, Checksum, Found, Reply, WireParser
from collector.wire.fields import SIDES, number, pack_texts, prices_and_sizes
from collector.wire.kraken import checksum
from fluxforge.clock import NS

LATEST_S = 1e10
"""Times are seconds since 1970 UTC, up to the year 2286."""


class _Change(msgspec.Struct, gc=False):
    a: list[list[str]] = []
    b: list[list[str]] = []
    as_: list[list[str]] | None = msgspec.field(name="as", default=None)
    bs: list[list[str]] | None = None
    c: str | None = None


class _Ticker(msgspec.Struct, gc=False):
    a: list[msgspec.Raw]
    b: list[msgspec.Raw]
    c: list[str]
    v: list[str]
    p: list[str]
    low: list[str] = msgspec.field(name="l")
    h: list[str]
    o: list[str]


class _Event(msgspec.Struct, gc=False):
    event: str
    status: str = ""
    pair: str | None = None
    error_message: str | None = msgspec.field(name="errorMessage", default=None)


_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_event = msgspec.json.Decoder(_Event).decode
_decode_change = msgspec.json.Decoder(_Change).decode
_decode_trades = msgspec.json.Decoder(list[list[str]]).decode
_decode_ticker = msgspec.json.Decoder(_Ticker).decode
_decode_text = msgspec.json.Decoder(str).decode


class KrakenV1Parser(WireParser):
    """Pairs are named `XBT/USD`, trades have no id."""

    checksum_levels = 10
    checksum = staticmethod(checksum)

    def _parse(self, frame: bytes, capture_ts: int) -> Sequence[Found]:
        if frame.startswith(b"{"):
            return self._event(frame)
        parts = _decode_list(frame)
        if len(parts) < 4:
            raise ValueError(f"{len(parts)} elements, not at least four")
        channel, pair = _decode_text(parts[-2]), _decode_text(parts[-1])
        if channel.startswith("book"):
            self.depth = int(channel.partition("-")[2])
            return self._book(parts[1:-2], pair, capture_ts)
        if channel == "trade":
            return self._trades(parts[1], pair, capture_ts)
        if channel == "ticker":
            return self._ticker(parts[1], pair, capture_ts)
        self.skipped[channel] += 1
        return ()

    def _event(self, frame: bytes) -> Sequence[Found]:
        """{"channelID":1920,"channelName":"book-1000","event":"subscriptionStatus","pair":"SC/EUR",
        "status":"subscribed","subscription":{"depth":1000,"name":"book"}}
        """
        msg = _decode_event(frame)
        if msg.event == "heartbeat":
            return (Beat(),)
        if msg.event == "subscriptionStatus":
            return (Reply(msg.pair, msg.error_message if msg.status == "error" else None, msg.pair),)
        self.skipped[msg.event] += 1
        return ()

    def _book(self, parts: Sequence[msgspec.Raw], pair: str, capture_ts: int) -> Sequence[Found]:
        """[1920,{"a":[["0.043210","4506.95535554","1618678133.489870"]],"c":"3473068145"},"book-1000","SC/EUR"]

        Asks and bids may come as two objects, the checksum in the last.
        """
        changes = [_decode_change(part) for part in parts]
        whole = any(change.as_ is not None or change.bs is not None for change in changes)
        asks = [level for change in changes for level in change.as_ or change.a]
        bids = [level for change in changes for level in change.bs or change.b]
        stamps = [float(level[2]) for level in (*asks, *bids)]
        ts = _time(max(stamps)) if stamps else None
        # a level may come twice in one message, the last counts
        ask_texts, bid_texts = prices_and_sizes(asks), prices_and_sizes(bids)
        sides = pack_texts(bid_texts), pack_texts(ask_texts)
        head = self.head(pair)
        event = head.snapshot(capture_ts, ts, None, *sides) if whole else head.delta(capture_ts, ts, None, *sides, None)
        value = next((int(change.c) for change in changes if change.c is not None), None)
        return event, Checksum(pair, value, bid_texts, ask_texts)

    def _trades(self, part: msgspec.Raw, pair: str, capture_ts: int) -> Sequence[Found]:
        """[0,[["5541.20000","0.15850568","1534614057.321597","s","l",""]],"trade","XBT/USD"]"""
        head = self.head(pair)
        return [
            head.trade(
                capture_ts,
                _time(float(trade[2])),
                None,
                "",
                float(trade[0]),
                float(trade[1]),
                SIDES.get(trade[3], 0),
                msgspec.json.encode(trade),
            )
            for trade in _decode_trades(part)
        ]

    def _ticker(self, part: msgspec.Raw, pair: str, capture_ts: int) -> Sequence[Found]:
        """[0,{"a":["5525.40000",1,"1.000"],"b":["5525.10000",1,"1.000"],"c":["5525.10000","0.00398963"],
        "v":["2634.11501494","3591.17907851"],"p":["5631.44067","5653.78939"],"t":[11493,16267],
        "l":["5505.00000","5505.00000"],"h":["5783.00000","5783.00000"],"o":["5760.70000","5763.40000"]},
        "ticker","XBT/USD"]

        The second of two is of the last 24 h.
        """
        msg = _decode_ticker(part)
        ask, ask_size, bid, bid_size = (number(_decode_text(raw)) for raw in (msg.a[0], msg.a[2], msg.b[0], msg.b[2]))
        return (
            self.head(pair).ticker(
                capture_ts,
                None,
                None,
                bytes(part),
                bid=bid,
                bid_size=bid_size,
                ask=ask,
                ask_size=ask_size,
                last=number(msg.c[0]),
                open=number(msg.o[1]),
                high=number(msg.h[1]),
                low=number(msg.low[1]),
                volume=number(msg.v[1]),
            ),
        )


def _time(seconds: float) -> int:
    """Kraken's v1 times have microseconds. Raises ValueError, OverflowError."""
    if not 0 <= seconds < LATEST_S:
        raise ValueError(f"{seconds} s is no time")
    return round(seconds * 1_000_000) * (NS // 1_000_000)
