"""What ccxt does not tell its callers, taken where it passes: frames, applied updates, sockets, refusals.

ccxt's client drops its receive loop silently on a frame its handlers cannot take, never says that it reconnected, and
hands out one shared book that folds whatever came between two awaits. A Tap wraps each client as the exchange makes it.
"""

from __future__ import annotations

from collections import Counter
from os import urandom
from typing import Any, NamedTuple, Protocol

from ccxt.async_support.base.ws.cache import BaseCache
from ccxt.async_support.base.ws.order_book import OrderBook

from collector.wire import WireParser
from collector.wire.head import Head
from fluxforge.clock import Clock


class Line:
    """One socket of an exchange instance.

    heard    when its last frame came, monotonic s
    parser   ours, where we have one
    heads    by symbol, of the other road
    greeted  whether our own requests have been sent
    hashes   ccxt's name of a subscription → its channel and symbol, as learnt from what was resolved under it
    """

    def __init__(self, client: Any, url: str, collector: str, now: float) -> None:
        self.client, self.url = client, url
        self.id = f"{collector}-{urandom(4).hex()}"
        self.heard = now
        self.parser: WireParser | None = None
        self.heads: dict[str, Head] = {}
        self.hashes: dict[str, tuple[str, str]] = {}
        self.update = Update()
        self.in_frame = False
        self.greeted = False

    @property
    def open(self) -> bool:
        """Whether the socket stands."""
        return not self.client.closed()


class Update:
    """What ccxt applied since it was last taken, while one frame was handled.

    books    symbol → ccxt's live book
    trades   new ones, in order
    tickers  in order
    """

    def __init__(self) -> None:
        self.books: dict[str, Any] = {}
        self.trades: list[dict[str, Any]] = []
        self.tickers: list[dict[str, Any]] = []
        self._resolved: Counter[tuple[str, str]] = Counter()

    def __bool__(self) -> bool:
        return bool(self.books or self.trades or self.tickers)

    def book(self, symbol: str, book: Any, message_hash: str) -> None:
        self.books[symbol] = book
        self._resolved[symbol, message_hash] += 1

    def folded(self, symbol: str) -> int:
        """Times the symbol's book was resolved; a book that goes out under several names counts once."""
        if len(self._resolved) == 1:
            return next(iter(self._resolved.values()))
        return max(n for (name, _), n in self._resolved.items() if name == symbol)


class Refusal(NamedTuple):
    """ccxt rejected one subscription: its channel and symbol."""

    channel: str
    symbol: str


class Listener(Protocol):
    """Who the tap tells."""

    def opened(self, line: Line) -> None:
        """A new socket."""

    def frame(self, line: Line, data: str | bytes) -> bool:
        """A frame, before ccxt; true where ccxt need not see it."""

    def applied(self, line: Line, update: Update) -> None:
        """What ccxt applied of a frame; the books are live and must be copied at once."""

    def bad(self, line: Line, data: Any, error: Exception) -> None:
        """A frame that ccxt's handlers could not take; the socket lives on."""

    def refused(self, line: Line, refusal: Refusal) -> None:
        """ccxt rejected a subscription."""


class Tap:
    """The sockets of one ccxt.pro exchange, `lines` by URL."""

    def __init__(self, exchange: Any, collector: str, clock: Clock, listener: Listener) -> None:
        self.lines: dict[str, Line] = {}
        self._exchange, self._collector, self._clock, self._listener = exchange, collector, clock, listener
        self._make_client = exchange.client
        exchange.client = self._client

    def _client(self, url: str) -> Any:
        client = self._make_client(url)
        line = self.lines.get(url)
        if line is None or line.client is not client:
            line = self.lines[url] = Line(client, url, self._collector, self._clock.monotonic())
            self._listener.opened(line)
            self._wrap(line)
        return client

    def _wrap(self, line: Line) -> None:
        client, listener, monotonic = line.client, self._listener, self._clock.monotonic
        handle, resolve, reject = client.handle_text_or_binary_message, client.resolve, client.reject

        def tapped_handle(data: Any) -> None:
            line.heard = monotonic()
            if listener.frame(line, data):
                return
            line.in_frame = True
            try:
                handle(data)
            except Exception as error:  # whatever a handler of ccxt trips over
                listener.bad(line, data, error)
            line.in_frame = False
            self._flush(line)

        def tapped_resolve(result: Any, message_hash: Any = None) -> Any:
            name = None if line.parser is not None else self._note(line, result, message_hash)
            if name is None:
                return resolve(result, message_hash)
            if not line.in_frame:
                self._flush(line)
            if message_hash in line.hashes:
                return result  # its consumer was woken once and now sleeps until there is an error
            line.hashes[message_hash] = name
            return resolve(result, message_hash)

        def tapped_reject(error: Any, message_hash: Any = None) -> Any:
            if (found := line.hashes.get(message_hash)) is not None:
                listener.refused(line, Refusal(*found))
            return reject(error, message_hash)

        client.handle_text_or_binary_message = tapped_handle
        client.resolve, client.reject = tapped_resolve, tapped_reject

    def _flush(self, line: Line) -> None:
        if line.update:
            update, line.update = line.update, Update()
            self._listener.applied(line, update)

    def _note(self, line: Line, result: Any, message_hash: Any) -> tuple[str, str] | None:
        """Add market data to the line's update; its channel and symbol, or None for a result that is none."""
        update = line.update
        if isinstance(result, OrderBook):
            symbol = self._symbol_of(result)
            update.book(symbol, result, str(message_hash))
            return "orderbook", symbol
        if isinstance(result, BaseCache):
            if not len(result):
                return line.hashes.get(message_hash)
            if not _is_trade(result[0]):
                return None
            trades = list(result)
            result.clear()  # from here on it holds what is new and no more
            update.trades += trades
            return "trades", trades[-1]["symbol"]
        if isinstance(result, list) and result and _is_trade(result[-1]):
            update.trades += result
            return "trades", result[-1]["symbol"]
        if not isinstance(result, dict):
            return None
        if _is_trade(result):
            update.trades.append(result)
            return "trades", result["symbol"]
        tickers = [result] if _is_ticker(result) else [each for each in result.values() if _is_ticker(each)]
        update.tickers += (each for each in tickers if not any(each is known for known in update.tickers))
        return ("ticker", tickers[-1]["symbol"]) if tickers else None

    def _symbol_of(self, book: OrderBook) -> str:
        """Some handlers leave a book's symbol out; ccxt's own table of books has it."""
        symbol = book.get("symbol")
        if symbol is None:
            symbol = next((name for name, each in self._exchange.orderbooks.items() if each is book), "")
        return str(symbol)


def _is_trade(found: Any) -> bool:
    return isinstance(found, dict) and "amount" in found and "price" in found and "info" in found


def _is_ticker(found: Any) -> bool:
    return isinstance(found, dict) and "last" in found and "bid" in found and "info" in found
