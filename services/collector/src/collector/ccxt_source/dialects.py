"""Exchanges whose frames we read ourselves on the ccxt road, and what ccxt subscribes to there.

Where ccxt asks for another protocol than our parser speaks, nothing would be parsed: a test holds every dialect to the
messages that this version of ccxt sends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from collector.text_book import Summing
from collector.wire import WireParser
from collector.wire.binance import BinanceParser
from collector.wire.bitfinex import FLAGS as BITFINEX_FLAGS
from collector.wire.bitfinex import BitfinexParser
from collector.wire.bitstamp import BitstampParser
from collector.wire.bybit import BybitParser
from collector.wire.coinbase import CoinbaseParser
from collector.wire.deribit import DeribitParser
from collector.wire.gemini import GeminiParser
from collector.wire.kraken import KrakenParser
from collector.wire.krakenfutures import KrakenFuturesParser
from collector.wire.okx import OkxParser

Market = Mapping[str, Any]
"""ccxt's own record of a market."""
Request = Mapping[str, Any]


def _id(market: Market) -> str:
    return str(market["id"])


def _anywhere(_exchange: Any, _line_client: Any, _market: Market) -> bool:
    return True


def _as_is(_exchange: Any) -> None:
    pass


def _none(_market: Market) -> tuple[int, ...]:
    return ()


def _always(*depths: int) -> Callable[[Market], tuple[int, ...]]:
    """The same depths for every market."""
    return lambda _market: depths


@dataclass(frozen=True)
class Dialect:
    """How one exchange is read.

    parser       ours
    consecutive  whether a symbol's trade ids rise by one
    native       ccxt's market → the name on the wire
    rest_levels  levels to ask for over REST where the stream has no snapshot; 0 where it has one
    again        requests that end books' subscriptions and begin them anew, for their snapshots; by the socket's
                 parser, the native names and the depth asked for
    hello        requests of ours, sent once a socket's first subscription is answered
    answers      native name → the one its data come under
    maker        whether ccxt's REST trades name the maker's side, see `collector.wire.coinbase.TAKER`
    here         whether a market's frames come by this client; an id may mean a spot and a futures market
    prepare      takes from an exchange instance what would work on frames it no longer sees
    depths       levels that `watch_order_book` takes of a market, rising; empty where none must be asked for
    levels       levels a side that the stream carries where none are asked for; None: all
    audited      levels a side to ask for over REST when a book is compared
    sums         whether books come with checksums today
    alone        watch functions that must not be called for several symbols: their batch is another protocol
    """

    parser: type[WireParser]
    consecutive: bool
    native: Callable[[Market], str] = _id
    rest_levels: int = 0
    again: Callable[[Any, Sequence[str], int | None], tuple[Request, ...]] | None = None
    hello: tuple[Request, ...] = ()
    answers: Callable[[str], str] = str
    maker: bool = False
    here: Callable[[Any, Any, Market], bool] = _anywhere
    prepare: Callable[[Any], None] = _as_is
    depths: Callable[[Market], tuple[int, ...]] = _none
    levels: int | None = None
    audited: int = 500
    sums: bool = True
    alone: frozenset[str] = field(default=frozenset())

    @property
    def summing(self) -> Summing | None:
        """The exchange's checksum."""
        levels = self.parser.checksum_levels
        return Summing(levels, self.parser.checksum) if levels else None

    def depth(self, market: Market, wanted: int) -> int | None:
        """What to ask `watch_order_book` for; None: nothing, the exchange's default."""
        depths = self.depths(market)
        return next((depth for depth in depths if depth >= wanted), max(depths, default=None))


def _binance_here(exchange: Any, client: Any, market: Market) -> bool:
    return bool(exchange.is_spot_url(client)) == bool(market["spot"])


def _binance_prepare(exchange: Any) -> None:
    """ccxt would fetch a snapshot for its own book, and again for every symbol of a batch."""
    exchange.handle_order_book_subscription = lambda *_: None


def _okx_again(_parser: Any, natives: Sequence[str], _depth: int | None) -> tuple[Request, ...]:
    args = [{"channel": "books", "instId": native} for native in natives]
    return {"op": "unsubscribe", "args": args}, {"op": "subscribe", "args": args}


def _coinbase_again(_parser: Any, natives: Sequence[str], _depth: int | None) -> tuple[Request, ...]:
    book = {"product_ids": list(natives), "channel": "level2"}
    return {"type": "unsubscribe", **book}, {"type": "subscribe", **book}


def _coinbase_answers(native: str) -> str:
    """A product in USDC is an alias of the one in USD."""
    return native.removesuffix("C") if native.endswith("-USDC") else native


def _kraken_again(_parser: Any, natives: Sequence[str], depth: int | None) -> tuple[Request, ...]:
    book: Request = {"channel": "book", "symbol": list(natives), **({} if depth is None else {"depth": depth})}
    return {"method": "unsubscribe", "params": book}, {"method": "subscribe", "params": book}


def _krakenfutures_again(_parser: Any, natives: Sequence[str], _depth: int | None) -> tuple[Request, ...]:
    book = {"feed": "book", "product_ids": list(natives)}
    return {"event": "unsubscribe", **book}, {"event": "subscribe", **book}


def _bitfinex_again(parser: Any, natives: Sequence[str], depth: int | None) -> tuple[Request, ...]:
    requests: list[Request] = []
    for native in natives:
        book = {"channel": "book", "symbol": native, "prec": "P0", "freq": "F0"}
        if (channel := parser.channel_of("book", native)) is not None:
            requests.append({"event": "unsubscribe", "chanId": channel})
        requests.append({"event": "subscribe", **book, **({} if depth is None else {"len": depth})})
    return tuple(requests)


def _gemini_again(_parser: Any, natives: Sequence[str], _depth: int | None) -> tuple[Request, ...]:
    book = {"subscriptions": [{"name": "l2", "symbols": list(natives)}]}
    return {"type": "unsubscribe", **book}, {"type": "subscribe", **book}


def _deribit_again(_parser: Any, natives: Sequence[str], _depth: int | None) -> tuple[Request, ...]:
    params = {"channels": [f"book.{native}.100ms" for native in natives]}
    frame = {"jsonrpc": "2.0", "id": 0, "params": params}
    return {**frame, "method": "public/unsubscribe"}, {**frame, "method": "public/subscribe"}


def _bybit_again(_parser: Any, natives: Sequence[str], depth: int | None) -> tuple[Request, ...]:
    args = [f"orderbook.{depth}.{native}" for native in natives]
    return {"op": "unsubscribe", "args": args}, {"op": "subscribe", "args": args}


def _bybit_here(_exchange: Any, client: Any, market: Market) -> bool:
    kind = (
        "spot" if market["spot"] else "option" if market.get("option") else "inverse" if market["inverse"] else "linear"
    )
    return f"/{kind}" in client.url


def _bybit_depths(market: Market) -> tuple[int, ...]:
    """Bybit API v5, "Orderbook" (WebSocket, public); ccxt refuses any other."""
    return (25, 100) if market.get("option") else (50, 200, 1000)


def _kraken_native(market: Market) -> str:
    return str(market["symbol"])


def _upper(market: Market) -> str:
    return str(market["id"]).upper()


_BINANCE = Dialect(BinanceParser, consecutive=True, rest_levels=1000, here=_binance_here, prepare=_binance_prepare)
_OKX = Dialect(OkxParser, consecutive=True, again=_okx_again, levels=400, audited=400, sums=False)
_BYBIT = Dialect(
    BybitParser, consecutive=False, again=_bybit_again, here=_bybit_here, depths=_bybit_depths, audited=200
)

DIALECTS: Mapping[str, Dialect] = {
    "binance": _BINANCE,
    "binanceus": _BINANCE,
    "binanceusdm": _BINANCE,
    "binancecoinm": _BINANCE,
    "bitfinex": Dialect(
        BitfinexParser,
        consecutive=False,
        again=_bitfinex_again,
        depths=_always(25, 100),
        audited=100,
        hello=({"event": "conf", "flags": BITFINEX_FLAGS},),
    ),
    "bitstamp": Dialect(BitstampParser, consecutive=False, rest_levels=1000),
    "bybit": _BYBIT,
    "bybiteu": _BYBIT,
    "bybitid": _BYBIT,
    "coinbase": Dialect(
        CoinbaseParser,
        consecutive=True,
        again=_coinbase_again,
        hello=({"type": "subscribe", "channel": "heartbeats"},),
        answers=_coinbase_answers,
        maker=True,
        alone=frozenset({"ticker"}),  # a batch is the channel ticker_batch, every five seconds
    ),
    "deribit": Dialect(DeribitParser, consecutive=False, again=_deribit_again, audited=1000),
    "gemini": Dialect(
        GeminiParser, consecutive=False, again=_gemini_again, native=_upper, alone=frozenset({"orderbook", "trades"})
    ),
    "kraken": Dialect(
        KrakenParser,
        consecutive=True,
        again=_kraken_again,
        native=_kraken_native,
        depths=_always(10, 25, 100, 500, 1000),
    ),
    "krakenfutures": Dialect(KrakenFuturesParser, consecutive=False, again=_krakenfutures_again),
    "okx": _OKX,
    "okxus": _OKX,
    "myokx": _OKX,
}
