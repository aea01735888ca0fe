"""Binance's spot protocol (binance, binanceus) and what USD-M shares with it: frames in, events out; no I/O.

Sources: Binance Spot API, "Web Socket Streams for Binance" and "General API Information"; USD-M Futures, "Websocket
Market Streams". All times on the wire are ms since 1970 UTC, all prices and sizes decimal strings.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Final, NamedTuple

import msgspec

from collector import binance_wire as wire
from collector.levels import pack
from collector.skew import Skew
from collector.symbols import unify
from fluxforge.clock import MS
from fluxforge.errors import FrameError, UnknownSymbol
from fluxforge.events import AnyEvent, BookDelta, Ticker, Trade


@dataclass(frozen=True)
class Endpoints:
    """Where one venue lives: `rest` and `ws` are base URLs, `api` the prefix of its REST paths."""

    rest: str
    ws: str
    api: str = "/api/v3"


ENDPOINTS: Final[Mapping[str, Endpoints]] = {
    "binance": Endpoints("https://api.binance.com", "wss://stream.binance.com:9443"),
    "binanceus": Endpoints("https://api.binance.us", "wss://stream.binance.us:9443"),
    "binanceusdm": Endpoints("https://fapi.binance.com", "wss://fstream.binance.com", "/fapi/v1"),
}

STREAMS: Final[Mapping[str, tuple[str, ...]]] = {
    "orderbook": ("depth@100ms",),
    "trades": ("trade",),
    "ticker": ("bookTicker", "ticker"),
}
"""Channel → the streams that feed it."""


class RestBook(NamedTuple):
    """A depth snapshot: levels best first, as `fluxforge.events` packs them."""

    seq: int
    bids: bytes
    asks: bytes


def rest_book(body: bytes) -> RestBook:
    """A REST depth snapshot. Raises FrameError.

    {"lastUpdateId":50093239218,"bids":[["61837.63000000","3.78826000"],…],"asks":[…]}
    """
    try:
        found = wire.decode_snapshot(body)
        return RestBook(found.seq, pack(found.bids), pack(found.asks))
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as error:
        raise FrameError(f"depth snapshot does not parse: {error}", frame=bytes(body[:200])) from error


class Reply(NamedTuple):
    """The exchange's answer to a request of ours: `error` is None when it agreed."""

    id: object
    error: str | None


class BinanceParser:
    """Frames of one connection → events.

    exchange    event field: `binance`, `binanceus`, `binanceusdm`
    symbols     native → unified; what it lacks is unified by quote currency and remembered
    skew        the connection's clock skew; observes every stamped event
    skipped     frames that are no market event, by kind (`aggTrade`, `kline`, `not-market` for a trade that is none)
    """

    def __init__(
        self,
        exchange: str,
        *,
        collector: str,
        connection: str,
        symbols: Mapping[str, str] | None = None,
        skew: Skew | None = None,
    ) -> None:
        self.exchange, self.collector, self.connection = exchange, collector, connection
        self.symbols: dict[str, str] = dict(symbols or {})
        self.skew = skew or Skew()
        self.skipped: Counter[str] = Counter()
        self._settled = exchange == "binanceusdm"
        self._parsers = {
            "depthUpdate": self._depth,
            "trade": self._trade,
            "bookTicker": self._book_ticker,
            "24hrTicker": self._day_ticker,
        }

    def parse(self, frame: bytes, capture_ts: int) -> AnyEvent | Reply | RestBook | None:
        """One frame, combined (`{"stream":…,"data":{…}}`) or bare.

        A RestBook where a recording holds a depth snapshot among its frames; None for a frame that carries nothing
        for us (counted in `skipped`). Raises FrameError, with the frame.
        """
        try:
            record: bytes = bytes(wire.decode_envelope(frame).data) or frame
            kind = self._kind(record)
            if not isinstance(kind, str):
                return kind
            parser = self._parsers.get(kind)
            if parser is None:
                self.skipped[kind] += 1
                return None
            return parser(record, capture_ts)
        except (msgspec.MsgspecError, UnicodeDecodeError, UnknownSymbol, ValueError, RecursionError) as error:
            raise FrameError(
                f"{self.exchange}: a frame of {len(frame)} bytes does not parse: {error}",
                frame=bytes(frame),
                hint=f"it begins with {bytes(frame[:80])!r}",
            ) from error

    def trades(self, body: bytes, native: str, capture_ts: int) -> list[Trade]:
        """Trades of a REST answer (/trades, /historicalTrades), by rising id, flagged as backfilled.

        [{"id":28457,"price":"4.00000100","qty":"12.00000000","quoteQty":"48.00","time":1499865549590,
        "isBuyerMaker":true,"isBestMatch":true}]
        """
        try:
            trades = [
                self._new_trade(
                    wire.decode_rest_trade(record).as_trade(native), bytes(record), capture_ts, backfilled=True
                )
                for record in wire.decode_records(body)
            ]
        except (msgspec.MsgspecError, UnicodeDecodeError, UnknownSymbol, ValueError) as error:
            raise FrameError(
                f"{self.exchange}: trades of {native} do not parse: {error}", frame=bytes(body[:200])
            ) from error
        return sorted(trades, key=lambda trade: int(trade.id))

    def unified(self, native: str) -> str:
        """The unified symbol of a native one."""
        symbol = self.symbols.get(native)
        if symbol is None:
            symbol = self.symbols[native] = unify(native, settled=self._settled)
        return symbol

    def _kind(self, record: bytes) -> str | Reply | RestBook:
        if record.startswith(b'{"e":"'):
            return record[6 : record.index(b'"', 6)].decode()
        head = wire.decode_kind(record)
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

    def _depth(self, record: bytes, capture_ts: int) -> BookDelta:
        """Changed levels with their new sizes; 0 removes one.

        {"e":"depthUpdate","E":1723161255208,"s":"BTCUSDT","U":50093239189,"u":50093239202,
         "b":[["61737.63000000","0.00000000"],…],"a":[["61837.64000000","1.54698000"],…]}

        USD-M counts ids over all its books and names the previous message in `pu`; `first_seq` is then `pu + 1`, so
        that one rule, first_seq ≤ previous seq + 1, holds for every venue.
        """
        msg = wire.decode_depth(record)
        ts = msg.E * MS
        return BookDelta(
            exchange=self.exchange,
            symbol=self.unified(msg.s),
            native=msg.s,
            source=self.exchange,
            collector=self.collector,
            connection=self.connection,
            ts=ts,
            capture_ts=capture_ts,
            skew=self.skew.observe(capture_ts, ts),
            seq=msg.u,
            bids=pack(msg.b),
            asks=pack(msg.a),
            first_seq=msg.U if msg.pu is None else msg.pu + 1,
        )

    def _trade(self, record: bytes, capture_ts: int) -> Trade | None:
        """One trade; `m`: the buyer was the maker, so the taker sold. `X` (USD-M): insurance fund and the like.

        {"e":"trade","E":1723161255343,"s":"BTCUSDT","t":3735683259,"p":"61837.63000000","q":"0.02000000",
         "T":1723161255342,"m":true,"M":true}
        """
        msg = wire.decode_trade(record)
        if msg.X != "MARKET":
            self.skipped["not-market"] += 1
            return None
        return self._new_trade(msg, record, capture_ts)

    def _new_trade(self, msg: wire.TradeMessage, raw: bytes, capture_ts: int, *, backfilled: bool = False) -> Trade:
        if not (isfinite(msg.p) and isfinite(msg.q) and msg.p > 0 and msg.q >= 0):
            raise ValueError(f"trade {msg.t} of {msg.s}: price {msg.p}, size {msg.q}")
        ts = msg.T * MS
        return Trade(
            exchange=self.exchange,
            symbol=self.unified(msg.s),
            native=msg.s,
            source=self.exchange,
            collector=self.collector,
            connection=self.connection,
            ts=ts,
            capture_ts=capture_ts,
            # an old trade says nothing of the clock
            skew=self.skew.value if backfilled else self.skew.observe(capture_ts, ts),
            seq=msg.t,
            id=str(msg.t),
            price=msg.p,
            size=msg.q,
            side=-1 if msg.m else 1,
            backfilled=backfilled,
            raw=raw,
        )

    def _book_ticker(self, record: bytes, capture_ts: int) -> Ticker:
        """The best prices, at every change; spot sends no time.

        {"u":50093239212,"s":"BTCUSDT","b":"61837.63000000","B":"3.78826000","a":"61837.64000000","A":"1.54698000"}
        """
        msg = wire.decode_book_ticker(record)
        _finite(msg.b, msg.B, msg.a, msg.A)
        return self._ticker(msg, record, capture_ts, ts=None if msg.T is None else msg.T * MS, seq=msg.u)

    def _day_ticker(self, record: bytes, capture_ts: int) -> Ticker:
        """24 h statistics, each second.

        {"e":"24hrTicker","E":1672515782136,"s":"BNBBTC","p":"0.0015","P":"250.00","w":"0.0018","x":"0.0009",
         "c":"0.0025","Q":"10","b":"0.0024","B":"10","a":"0.0026","A":"100","o":"0.0010","h":"0.0025","l":"0.0010",
         "v":"10000","q":"18","O":0,"C":1675216573749,"F":0,"L":18150,"n":18151}
        """
        msg = wire.decode_day_ticker(record)
        _finite(msg.c, msg.o, msg.h, msg.low, msg.v, msg.q, *(x for x in (msg.b, msg.B, msg.a, msg.A) if x is not None))
        return self._ticker(msg, record, capture_ts, ts=msg.E * MS, seq=None)

    def _ticker(
        self, msg: wire.BookTicker | wire.DayTicker, raw: bytes, capture_ts: int, *, ts: int | None, seq: int | None
    ) -> Ticker:
        day = msg if isinstance(msg, wire.DayTicker) else None
        return Ticker(
            exchange=self.exchange,
            symbol=self.unified(msg.s),
            native=msg.s,
            source=self.exchange,
            collector=self.collector,
            connection=self.connection,
            ts=ts,
            capture_ts=capture_ts,
            skew=self.skew.observe(capture_ts, ts),
            seq=seq,
            bid=msg.b,
            bid_size=msg.B,
            ask=msg.a,
            ask_size=msg.A,
            last=day.c if day else None,
            open=day.o if day else None,
            high=day.h if day else None,
            low=day.low if day else None,
            volume=day.v if day else None,
            quote_volume=day.q if day else None,
            raw=raw,
        )


def _finite(*numbers: float) -> None:
    if not isfinite(sum(numbers)):
        raise ValueError("a ticker's number is not finite")


def streams(natives: Sequence[str], channels: Sequence[str]) -> list[str]:
    """Stream names to subscribe to: `btcusdt@depth@100ms`…"""
    return [f"{native.lower()}@{stream}" for native in natives for channel in channels for stream in STREAMS[channel]]
