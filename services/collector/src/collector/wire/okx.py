"""OKX v5 public channels: books, trades, tickers.

Sources: OKX API guide v5, "WebSocket / Order book channel", "Trades channel", "Tickers channel", "Checksum"; OKX help
centre, "OKX Order Book Channels Checksum Field Deprecation" (21 May 2026): from 23 June 2026 on the field is there and
always 0. Times are ms since 1970 UTC as text, prices and sizes decimal text; the sizes of derivatives count contracts.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Sequence
from itertools import chain
from typing import Annotated, Any
from zlib import crc32

import msgspec

from collector.wire import Beat, Checksum, Found, Gap, Reply, Texts, Void, WireParser
from collector.wire.fields import MAX, SIDES, Id, Millis, number
from fluxforge.clock import MS

SNAPSHOTS = frozenset({"books5", "bbo-tbt"})
"""Channels whose every message is a whole, short book."""
BOOKS = frozenset({"books", "books-l2-tbt", "books50-l2-tbt"}) | SNAPSHOTS
MAX_FILLS = 100_000
"""A count of more than this is no count."""

Amount = Annotated[float, msgspec.Meta(ge=0, le=sys.float_info.max)]
"""A price or size, read from its text exactly as `float` does."""


class _Level(msgspec.Struct, array_like=True, gc=False):
    """Price, size, and more that is not read: "0", number of orders."""

    price: Amount
    size: Amount


class _Written(msgspec.Struct, array_like=True, gc=False):
    """The same as text."""

    price: str
    size: str


class _Arg(msgspec.Struct, gc=False, rename="camel"):
    channel: str = ""
    inst_id: str = ""


class _Frame(msgspec.Struct, gc=False, rename="camel"):
    arg: _Arg | None = None
    action: str = ""
    data: msgspec.Raw = msgspec.Raw()
    event: str = ""
    code: str = ""
    msg: str = ""


class _Book(msgspec.Struct, gc=False, rename="camel"):
    asks: list[_Level]
    bids: list[_Level]
    ts: Millis
    checksum: int = 0
    seq_id: Id | None = None
    prev_seq_id: Annotated[int, msgspec.Meta(ge=-1, le=MAX - 1)] | None = None


class _Texts(msgspec.Struct, gc=False):
    asks: list[_Written]
    bids: list[_Written]


class _Trade(msgspec.Struct, gc=False, rename="camel"):
    inst_id: str
    trade_id: Id
    px: float
    sz: float
    side: str
    ts: Millis
    count: Annotated[int, msgspec.Meta(ge=1, le=MAX_FILLS)] = 1
    seq_id: Id | None = None


class _Ticker(msgspec.Struct, gc=False, rename="camel"):
    inst_id: str
    ts: Millis
    inst_type: str = "SPOT"
    last: str = ""
    ask_px: str = ""
    ask_sz: str = ""
    bid_px: str = ""
    bid_sz: str = ""
    open24h: str = ""
    high24h: str = ""
    low24h: str = ""
    vol24h: str = ""
    vol_ccy24h: str = msgspec.field(name="volCcy24h", default="")


_decode_frame = msgspec.json.Decoder(_Frame).decode
_decode_books = msgspec.json.Decoder(list[_Book], strict=False).decode
_decode_texts = msgspec.json.Decoder(list[_Texts]).decode
_decode_records = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_trade = msgspec.json.Decoder(_Trade, strict=False).decode
_decode_ticker = msgspec.json.Decoder(_Ticker, strict=False).decode


class OkxParser(WireParser):
    """okx, okxus and myokx speak alike; the text frame `pong` is a Beat.

    A book has checksums if its snapshot has one other than 0: without, what came before the first is not known as text.
    """

    checksum_levels = 25

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._summed: set[str] = set()

    @staticmethod
    def checksum(bids: Texts, asks: Texts) -> int:
        """CRC32, signed, over bid and ask in turn, `price:size:price:size:…`; a side that ends first is left out."""
        both = min(len(bids), len(asks))
        turns = chain(chain.from_iterable(zip(bids, asks, strict=False)), bids[both:], asks[both:])
        value = crc32(":".join(chain.from_iterable(turns)).encode())
        return value - 2**32 if value >= 2**31 else value

    def _parse(self, frame: bytes, capture_ts: int) -> Sequence[Found]:
        if frame == b"pong":
            return (Beat(),)
        told = _decode_frame(frame)
        arg = told.arg
        if told.event:
            return self._event(told, arg)
        if arg is None:
            raise ValueError("neither an event nor a channel's data")
        if arg.channel in BOOKS:
            return self._books(told.data, arg, told.action, capture_ts)
        if arg.channel in {"trades", "trades-all"}:
            return self._trades(told.data, capture_ts)
        if arg.channel == "tickers":
            return self._tickers(told.data, capture_ts)
        self.skipped[arg.channel] += 1
        return ()

    def _event(self, told: _Frame, arg: _Arg | None) -> Sequence[Found]:
        """An answer.

        {"event":"subscribe","arg":{"channel":"books","instId":"BTC-USDT"}}
        {"event":"error","msg":"channel:book,instId:BTC-USDT doesn't exist","code":"60018"}
        """
        if told.event in {"subscribe", "unsubscribe"} and arg is not None:
            return (Reply((arg.channel, arg.inst_id), None, arg.inst_id),)
        if told.event == "error":
            return (Reply(None, f"{told.code}: {told.msg}"),)
        self.skipped[told.event] += 1
        return ()

    def _books(self, data: msgspec.Raw, arg: _Arg, action: str, capture_ts: int) -> Sequence[Found]:
        """A book's snapshot, then its changes, size 0 removing a level.

        {"arg":{"channel":"books","instId":"BTC-USDT"},"action":"update","data":[{"asks":[["8476.98","415","0","13"]],
         "bids":[["8475.55","101","0","1"]],"ts":"1597026383085","checksum":-855196043,"prevSeqId":123456,
         "seqId":123457}]}

        A message each minute of silence repeats its id as `prevSeqId` and carries no level. After maintenance ids start
        over: `seqId` is then below `prevSeqId`.
        """
        found: list[Found] = []
        head = self.head(arg.inst_id)
        whole = action == "snapshot" or arg.channel in SNAPSHOTS
        texts: list[_Texts] = []
        for at, book in enumerate(_decode_books(data)):
            bids, asks = _packed(book.bids), _packed(book.asks)
            if whole:
                found.append(head.snapshot(capture_ts, book.ts * MS, book.seq_id, bids, asks))
                (self._summed.add if book.checksum else self._summed.discard)(arg.inst_id)
            elif book.seq_id is not None and book.seq_id == book.prev_seq_id and not bids and not asks:
                found.append(Beat(book.ts * MS))
                continue
            else:
                if book.seq_id is not None and book.prev_seq_id is not None and book.seq_id < book.prev_seq_id:
                    found.append(Gap(f"ids start over: {book.seq_id} after {book.prev_seq_id}", arg.inst_id))
                first = None if book.prev_seq_id is None else book.prev_seq_id + 1
                found.append(head.delta(capture_ts, book.ts * MS, book.seq_id, bids, asks, first))
            if arg.inst_id in self._summed:
                texts = texts or _decode_texts(data)  # a second time: most books have no checksum
                written = texts[at]
                found.append(
                    Checksum(arg.inst_id, book.checksum or None, _as_texts(written.bids), _as_texts(written.asks))
                )
        return found

    def _trades(self, data: msgspec.Raw, capture_ts: int) -> Sequence[Found]:
        """Trades; `side` is the taker's.

        {"arg":{"channel":"trades","instId":"BTC-USDT"},"data":[{"instId":"BTC-USDT","tradeId":"130639474",
         "px":"42219.9","sz":"0.12060306","side":"buy","ts":"1630048897897","count":"3","seqId":1234}]}

        One record may join the fills of one taker at one price: `count` of them, whose last id it has.
        """
        found: list[Found] = []
        for record in _decode_records(data):
            msg = _decode_trade(record)
            found += [Void(msg.inst_id, number) for number in range(msg.trade_id - msg.count + 1, msg.trade_id)]
            found.append(
                self.head(msg.inst_id).trade(
                    capture_ts,
                    msg.ts * MS,
                    msg.seq_id,
                    str(msg.trade_id),
                    msg.px,
                    msg.sz,
                    SIDES.get(msg.side, 0),
                    bytes(record),
                )
            )
        return found

    def _tickers(self, data: msgspec.Raw, capture_ts: int) -> Sequence[Found]:
        """Best prices and 24 h statistics; of derivatives `vol24h` counts contracts and `volCcy24h` base currency.

        {"arg":{"channel":"tickers","instId":"LTC-USDT"},"data":[{"instType":"SPOT","instId":"LTC-USDT",
         "last":"9999.99","lastSz":"0.1","askPx":"9999.99","askSz":"11","bidPx":"8888.88","bidSz":"5","open24h":"9000",
         "high24h":"10000","low24h":"8888.88","volCcy24h":"2222","vol24h":"2222","sodUtc0":"2222","sodUtc8":"2222",
         "ts":"1597026383085"}]}
        """
        found = []
        for record in _decode_records(data):
            msg = _decode_ticker(record)
            spot = msg.inst_type in {"SPOT", "MARGIN"}
            found.append(
                self.head(msg.inst_id).ticker(
                    capture_ts,
                    msg.ts * MS,
                    None,
                    bytes(record),
                    bid=number(msg.bid_px),
                    bid_size=number(msg.bid_sz),
                    ask=number(msg.ask_px),
                    ask_size=number(msg.ask_sz),
                    last=number(msg.last),
                    open=number(msg.open24h),
                    high=number(msg.high24h),
                    low=number(msg.low24h),
                    volume=number(msg.vol24h if spot else msg.vol_ccy24h),
                    quote_volume=number(msg.vol_ccy24h) if spot else None,
                )
            )
        return found


def _packed(levels: list[_Level]) -> bytes:
    """As `collector.levels.pack` makes it; columns are set by slices, which halves the cost of a loop."""
    numbers = [0.0] * (2 * len(levels))
    numbers[0::2] = [level.price for level in levels]
    numbers[1::2] = [level.size for level in levels]
    return struct.pack(f"<{len(numbers)}d", *numbers)


def _as_texts(levels: list[_Written]) -> Texts:
    return [(level.price, level.size) for level in levels]
