"""Binance's spot protocol (binance, binanceus) and what USD-M shares with it.

Sources: Binance Spot API, "Web Socket Streams for Binance" and "General API Information"; USD-M Futures, "Websocket
Market Streams". All times on the wire are ms since 1970 UTC, all prices and sizes decimal strings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from collector.levels import pack
from collector.symbols import unify
from collector.wire import Found, Reply, RestBook, Void, WireParser
from collector.wire import binance_messages as messages
from fluxforge.clock import MS
from fluxforge.errors import FrameError, UnknownSymbol
from fluxforge.events import Trade


def rest_book(body: bytes) -> RestBook:
    """A REST depth snapshot. Raises FrameError.

    {"lastUpdateId":50093239218,"bids":[["61837.63000000","3.78826000"],…],"asks":[…]}
    """
    try:
        found = messages.decode_snapshot(body)
        return RestBook(found.seq, pack(found.bids), pack(found.asks))
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as error:
        raise FrameError(f"depth snapshot does not parse: {error}", frame=bytes(body[:200])) from error


class BinanceParser(WireParser):
    """Frames combined (`{"stream":…,"data":{…}}`) or bare; an unknown symbol is unified by its quote currency."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._settled = self.exchange == "binanceusdm"
        self._parsers = {
            "depthUpdate": self._depth,
            "trade": self._trade,
            "bookTicker": self._book_ticker,
            "24hrTicker": self._day_ticker,
        }

    def trades(self, body: bytes, native: str, capture_ts: int) -> list[Trade]:
        """Trades of a REST answer (/trades, /historicalTrades), by rising id, flagged as backfilled.

        [{"id":28457,"price":"4.00000100","qty":"12.00000000","quoteQty":"48.00","time":1499865549590,
        "isBuyerMaker":true,"isBestMatch":true}]
        """
        try:
            trades = [
                self._new_trade(
                    messages.decode_rest_trade(record).as_trade(native), bytes(record), capture_ts, backfilled=True
                )
                for record in messages.decode_records(body)
            ]
        except (msgspec.MsgspecError, UnicodeDecodeError, UnknownSymbol, ValueError) as error:
            raise FrameError(
                f"{self.exchange}: trades of {native} do not parse: {error}", frame=bytes(body[:200])
            ) from error
        return sorted(trades, key=lambda trade: int(trade.id))

    def unified(self, native: str) -> str:
        """The unified symbol of a native one; one not given is unified and remembered."""
        symbol = self.symbols.get(native)
        if symbol is None:
            symbol = self.symbols[native] = unify(native, settled=self._settled)
        return symbol

    def _parse(self, frame: bytes, capture_ts: int) -> Sequence[Found]:
        envelope = messages.decode_envelope(frame)
        record: bytes = bytes(envelope.data) or frame
        if envelope.stream.endswith("@bookTicker"):
            return self._book_ticker(record, capture_ts)  # the one record that spot does not name itself
        kind = self._kind(record)
        if not isinstance(kind, str):
            return (kind,)
        parser = self._parsers.get(kind)
        if parser is None:
            self.skipped[kind] += 1
            return ()
        return parser(record, capture_ts)

    def _kind(self, record: bytes) -> str | Reply | RestBook:
        if record.startswith(b'{"e":"'):
            return record[6 : record.index(b'"', 6)].decode()
        head = messages.decode_kind(record)
        if head.e is not None:
            return head.e
        error = bytes(head.error).decode()
        if error not in {"", "null"} or head.code is not None:
            return Reply(head.id, error or record.decode())
        if head.seq is not None:
            return rest_book(record)
        if head.id is not None:
            return Reply(head.id, None)
        return "bookTicker"

    def _depth(self, record: bytes, capture_ts: int) -> Sequence[Found]:
        """Changed levels with their new sizes; 0 removes one.

        {"e":"depthUpdate","E":1723161255208,"s":"BTCUSDT","U":50093239189,"u":50093239202,
         "b":[["61737.63000000","0.00000000"],…],"a":[["61837.64000000","1.54698000"],…]}

        USD-M counts ids over all its books and names the previous message in `pu`.
        """
        msg = messages.decode_depth(record)
        first_seq = msg.U if msg.pu is None else msg.pu + 1
        return (self.head(msg.s).delta(capture_ts, msg.E * MS, msg.u, pack(msg.b), pack(msg.a), first_seq),)

    def _trade(self, record: bytes, capture_ts: int) -> Sequence[Found]:
        """One trade; `m`: the buyer was the maker, so the taker sold. `X` (USD-M): insurance fund and the like.

        {"e":"trade","E":1723161255343,"s":"BTCUSDT","t":3735683259,"p":"61837.63000000","q":"0.02000000",
         "T":1723161255342,"m":true,"M":true}
        """
        msg = messages.decode_trade(record)
        if msg.X != "MARKET":
            self.skipped["not-market"] += 1
            return (Void(msg.s, msg.t),)
        return (self._new_trade(msg, record, capture_ts),)

    def _new_trade(self, msg: messages.TradeMessage, raw: bytes, capture_ts: int, *, backfilled: bool = False) -> Trade:
        return self.head(msg.s).trade(
            capture_ts, msg.T * MS, msg.t, str(msg.t), msg.p, msg.q, -1 if msg.m else 1, raw, backfilled=backfilled
        )

    def _book_ticker(self, record: bytes, capture_ts: int) -> Sequence[Found]:
        """The best prices, at every change; spot sends no time.

        {"u":50093239212,"s":"BTCUSDT","b":"61837.63000000","B":"3.78826000","a":"61837.64000000","A":"1.54698000"}
        """
        msg = messages.decode_book_ticker(record)
        ts = None if msg.T is None else msg.T * MS
        return (
            self.head(msg.s).ticker(
                capture_ts, ts, msg.u, record, bid=msg.b, bid_size=msg.B, ask=msg.a, ask_size=msg.A
            ),
        )

    def _day_ticker(self, record: bytes, capture_ts: int) -> Sequence[Found]:
        """24 h statistics, each second.

        {"e":"24hrTicker","E":1672515782136,"s":"BNBBTC","p":"0.0015","P":"250.00","w":"0.0018","x":"0.0009",
         "c":"0.0025","Q":"10","b":"0.0024","B":"10","a":"0.0026","A":"100","o":"0.0010","h":"0.0025","l":"0.0010",
         "v":"10000","q":"18","O":0,"C":1675216573749,"F":0,"L":18150,"n":18151}
        """
        msg = messages.decode_day_ticker(record)
        return (
            self.head(msg.s).ticker(
                capture_ts,
                msg.E * MS,
                None,
                record,
                bid=msg.b,
                bid_size=msg.B,
                ask=msg.a,
                ask_size=msg.A,
                last=msg.c,
                open=msg.o,
                high=msg.h,
                low=msg.low,
                volume=msg.v,
                quote_volume=msg.q,
            ),
        )
