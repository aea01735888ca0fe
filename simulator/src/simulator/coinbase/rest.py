"""Coinbase Advanced Trade's public REST: products, books, trades, time. Pure."""

from __future__ import annotations

from collections.abc import Iterator

import orjson

from simulator.coinbase import wire
from simulator.coinbase.products import Products
from simulator.market import Answers, Instrument, plain
from simulator.venue import Answer, Query

ROOT = "/api/v3/brokerage/"
MAX_TRADES = 1000


class Refused(Exception):
    """A query the exchange answers with an error body."""

    def __init__(self, status: int, name: str, details: str) -> None:
        super().__init__(details)
        self.answer = Answer(status, wire.rest_error(name, details))


def answer(market: Answers, products: Products, path: str, query: Query, now_ms: int) -> Answer:
    """The answer of `path` at the exchange's time `now_ms`."""
    try:
        return _route(market, products, path, query, now_ms)
    except Refused as refused:
        return refused.answer


def _route(market: Answers, products: Products, path: str, query: Query, now_ms: int) -> Answer:
    if path.startswith("/v2/"):
        return _json({"data": []})  # currencies and exchange rates of the older API: clients ask, nothing depends on it
    parts = path.removeprefix(ROOT).split("/") if path.startswith(ROOT) else []
    if parts == ["time"]:
        return _json({"iso": wire.timestamp(now_ms), "epochSeconds": str(now_ms // 1000), "epochMillis": str(now_ms)})
    if parts[:1] != ["market"]:
        raise Refused(404, "NOT_FOUND", f"no such path {path}")
    match parts[1:]:
        case ["products"]:
            return _products(market, products, query)
        case ["product_book"]:
            return _book(market, products, query, now_ms)
        case ["products", name]:
            return _json(_product(market, products, name))
        case ["products", name, "ticker"]:
            return _trades(market, products, name, query)
    raise Refused(404, "NOT_FOUND", f"no such path {path}")


def _products(market: Answers, products: Products, query: Query) -> Answer:
    rows = [] if query.get("product_type", "SPOT") != "SPOT" else list(products.names)
    offset, limit = _number(query, "offset", 0), _number(query, "limit", len(rows))
    chosen = [_product(market, products, name) for name in rows[offset : offset + limit]]
    return _json({"products": chosen, "num_products": len(rows)})


def _product(market: Answers, products: Products, name: str) -> object:
    instrument = _instrument(market, products, name)
    return wire.product(name, instrument, market.tape(instrument.symbol).stats, products.aliases(name))


def _book(market: Answers, products: Products, query: Query, now_ms: int) -> Answer:
    name = query.get("product_id", "")
    instrument = _instrument(market, products, name)
    depth = market.snapshot(instrument.symbol, _number(query, "limit", 1_000_000))
    bids, asks = (
        [{"price": plain(price), "size": plain(size)} for price, size in side] for side in (depth.bids, depth.asks)
    )
    book = {"product_id": products.canonical(name), "bids": bids, "asks": asks, "time": wire.timestamp(now_ms)}
    return _json({"pricebook": book}, snapshot_of=instrument.symbol)


def _trades(market: Answers, products: Products, name: str, query: Query) -> Answer:
    """The newest first; `start` and `end` are Unix seconds, both included."""
    instrument = _instrument(market, products, name)
    if "limit" not in query:
        raise Refused(400, "INVALID_ARGUMENT", "limit is required")
    start, end = _number(query, "start", 0) * 1000, _number(query, "end", 2**53) * 1000 + 999
    limit = min(_number(query, "limit", MAX_TRADES), MAX_TRADES)
    found: Iterator[dict[str, str]] = (
        wire.trade(products.canonical(name), one)
        for one in reversed(market.tape(instrument.symbol).prints)
        if start <= one.time <= end
    )
    top = market.top(instrument.symbol)
    return _json(
        {
            "trades": [one for one, _ in zip(found, range(limit), strict=False)],
            "best_bid": plain(top.bid) if top else "",
            "best_ask": plain(top.ask) if top else "",
        }
    )


def _instrument(market: Answers, products: Products, name: str) -> Instrument:
    symbol = products.symbol(name)
    if symbol is None:
        raise Refused(404, "NOT_FOUND", f"valid product_id is required: {name!r}")
    return market.instruments[symbol]


def _number(query: Query, name: str, default: int) -> int:
    text = query.get(name)
    if text is None:
        return default
    if not text.isdigit():
        raise Refused(400, "INVALID_ARGUMENT", f"{name} = {text!r} is not a number")
    return int(text)


def _json(value: object, snapshot_of: str | None = None) -> Answer:
    return Answer(200, orjson.dumps(value), snapshot_of=snapshot_of)
