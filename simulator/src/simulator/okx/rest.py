"""OKX v5's public REST: instruments, books, trades, tickers, time. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import islice

from simulator.market import Answers, plain
from simulator.okx import wire
from simulator.venue import Answer, Query

ROOT = "/api/v5/"


class Refused(Exception):
    """A query the exchange answers with an error."""

    def __init__(self, status: int, code: int, text: str) -> None:
        super().__init__(text)
        self.answer = Answer(status, wire.answer([], code, text))


class Call:
    """One query.

    symbols  the market's symbols, by instId
    """

    def __init__(self, market: Answers, symbols: Mapping[str, str], query: Query, now_ms: int) -> None:
        self.market, self.symbols, self.query, self.now_ms = market, symbols, query, now_ms

    def instrument(self) -> tuple[str, str]:
        """instId and market symbol."""
        name = self.query.get("instId", "")
        if not name:
            raise Refused(400, 50014, "Parameter instId can not be empty.")
        if name not in self.symbols:
            raise Refused(200, 51001, "Instrument ID, Instrument ID code, or Spread ID doesn't exist.")
        return name, self.symbols[name]

    def number(self, name: str, default: int, most: int) -> int:
        text = self.query.get(name, str(default))
        if not text.isdigit():
            raise Refused(400, 51000, f"Parameter {name} error")
        return min(int(text), most)


def answer(market: Answers, symbols: Mapping[str, str], path: str, query: Query, now_ms: int) -> Answer:
    """The answer of `path` at the exchange's time `now_ms`."""
    route = ROUTES.get(path.removeprefix(ROOT)) if path.startswith(ROOT) else None
    if route is None:
        return Answer(404, wire.answer([], 404, "Not Found"))
    try:
        return route(Call(market, symbols, query, now_ms))
    except Refused as refused:
        return refused.answer


def _time(call: Call) -> Answer:
    return Answer(200, wire.answer([{"ts": str(call.now_ms)}]))


def _instruments(call: Call) -> Answer:
    kind = call.query.get("instType")
    if kind is None:
        raise Refused(400, 50014, "Parameter instType can not be empty.")
    chosen = call.query.get("instId")
    rows = [
        wire.instrument(name, call.market.instruments[symbol])
        for name, symbol in call.symbols.items()
        if kind == "SPOT" and chosen in {None, name}
    ]
    return Answer(200, wire.answer(rows))


def _books(call: Call) -> Answer:
    return _book(call, 1, 400, orders=True)


def _books_full(call: Call) -> Answer:
    return _book(call, 1, 5000, orders=False)


def _book(call: Call, default: int, most: int, *, orders: bool) -> Answer:
    """Levels are price, size, 0, number of orders; the full book leaves the 0 out."""
    _, symbol = call.instrument()
    depth = call.market.snapshot(symbol, call.number("sz", default, most))
    tail = ("0", "1") if orders else ("1",)
    bids, asks = ([(plain(price), plain(size), *tail) for price, size in side] for side in (depth.bids, depth.asks))
    row = {"asks": asks, "bids": bids, "ts": str(call.now_ms)} | ({"seqId": depth.last_id} if orders else {})
    return Answer(200, wire.answer([row]), snapshot_of=symbol)


def _trades(call: Call) -> Answer:
    name, symbol = call.instrument()
    latest = call.market.tape(symbol).latest(call.number("limit", 100, 500))
    return Answer(200, wire.answer([wire.record(name, one) for one in reversed(latest)]))


def _history_trades(call: Call) -> Answer:
    """The newest first; `after` asks for older ones than it, `before` for newer: ids, or ms with `type` 2."""
    name, symbol = call.instrument()
    by_time = call.query.get("type") == "2"
    after, before = call.number("after", 2**62, 2**62), call.number("before", -1 % 2**62, 2**62)
    before = -1 if "before" not in call.query else before
    found = (
        wire.record(name, one)
        for one in reversed(call.market.tape(symbol).prints)
        if before < (one.time if by_time else one.id) < after
    )
    return Answer(200, wire.answer(list(islice(found, call.number("limit", 100, 100)))))


def _tickers(call: Call) -> Answer:
    names = call.symbols if call.query.get("instType") == "SPOT" else ()
    return Answer(200, wire.answer([_ticker_record(call, name) for name in names]))


def _ticker(call: Call) -> Answer:
    return Answer(200, wire.answer([_ticker_record(call, call.instrument()[0])]))


def _ticker_record(call: Call, name: str) -> dict[str, str]:
    symbol = call.symbols[name]
    return wire.ticker_record(name, call.now_ms, call.market.tape(symbol).stats, call.market.top(symbol))


ROUTES: Mapping[str, Callable[[Call], Answer]] = {
    "public/time": _time,
    "public/instruments": _instruments,
    "market/books": _books,
    "market/books-full": _books_full,
    "market/trades": _trades,
    "market/history-trades": _history_trades,
    "market/tickers": _tickers,
    "market/ticker": _ticker,
}
