"""The REST side of the exchange: a query in, status, body and weight out. Pure; the server adds sockets and headers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import orjson

from simulator.binance import wire
from simulator.market import Answers, Instrument
from simulator.tape import Run
from simulator.venue import Answer, Query

WEIGHT_LIMIT = 6000
"""Per minute; announced in exchangeInfo. Only a fault enforces it."""


class Refused(Exception):
    """A query the exchange answers with an error body."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.body = wire.error(code, message)


def answer(market: Answers, path: str, query: Query, now_ms: int) -> Answer:
    """The answer of `path` (`/api/v3/…`) at the exchange's time `now_ms`."""
    route = ROUTES.get(path.removeprefix("/api/v3/"))
    if route is None or not path.startswith("/api/v3/"):
        return Answer(404, wire.error(-1000, f"Path {path}, method GET is not found."), 1)
    try:
        return route(market, query, now_ms)
    except Refused as refused:
        return Answer(400, refused.body, 1)


def _ping(_market: Answers, _query: Query, _now_ms: int) -> Answer:
    return Answer(200, b"{}", 1)


def _time(_market: Answers, _query: Query, now_ms: int) -> Answer:
    return Answer(200, b'{"serverTime":%d}' % now_ms, 1)


def _exchange_info(market: Answers, query: Query, now_ms: int) -> Answer:
    return _json(wire.exchange_info(_chosen(market, query), now_ms, WEIGHT_LIMIT), 20)


def _depth(market: Answers, query: Query, _now_ms: int) -> Answer:
    symbol = _symbol(market, query)
    limit = min(_number(query, "limit", 100), 5000)
    weight = next(weight for most, weight in ((100, 5), (500, 25), (1000, 50), (5000, 250)) if limit <= most)
    return Answer(200, wire.depth_answer(market.snapshot(symbol, limit)), weight, symbol)


def _trades(market: Answers, query: Query, _now_ms: int) -> Answer:
    tape = market.tape(_symbol(market, query))
    return _json([wire.trade_record(trade) for trade in tape.latest(_limit(query))], 25)


def _historical_trades(market: Answers, query: Query, now_ms: int) -> Answer:
    if "fromId" not in query:
        return _trades(market, query, now_ms)
    tape = market.tape(_symbol(market, query))
    return _json([wire.trade_record(trade) for trade in tape.from_id(_number(query, "fromId"), _limit(query))], 25)


def _agg_trades(market: Answers, query: Query, _now_ms: int) -> Answer:
    runs: Sequence[Run] = list(market.tape(_symbol(market, query)).runs)
    limit = _limit(query)
    if not query.keys() & {"fromId", "startTime", "endTime"}:
        return _json([wire.agg_record(run) for run in runs[-limit:]], 4)
    first, start = _number(query, "fromId", 0), _number(query, "startTime", 0)
    end = _number(query, "endTime", 2**62)
    found = [run for run in runs if run.id >= first and start <= run.time <= end]
    return _json([wire.agg_record(run) for run in found[:limit]], 4)


def _ticker_24hr(market: Answers, query: Query, now_ms: int) -> Answer:
    def row(symbol: str) -> dict[str, object]:
        return wire.ticker_record(symbol, market.tape(symbol).stats, market.top(symbol), now_ms)

    return _each(market, query, row, 2, 80)


def _book_ticker(market: Answers, query: Query, _now_ms: int) -> Answer:
    return _each(market, query, lambda symbol: wire.book_ticker_record(symbol, market.top(symbol)), 2, 4)


def _price(market: Answers, query: Query, _now_ms: int) -> Answer:
    def row(symbol: str) -> dict[str, object]:
        stats, top = market.tape(symbol).stats, market.top(symbol)
        return {"symbol": symbol, "price": stats.last if stats else top.bid if top else "0.00000000"}

    return _each(market, query, row, 2, 4)


ROUTES: Mapping[str, Callable[[Answers, Query, int], Answer]] = {
    "ping": _ping,
    "time": _time,
    "exchangeInfo": _exchange_info,
    "depth": _depth,
    "trades": _trades,
    "historicalTrades": _historical_trades,
    "aggTrades": _agg_trades,
    "ticker/24hr": _ticker_24hr,
    "ticker/bookTicker": _book_ticker,
    "ticker/price": _price,
}


def _each(
    market: Answers, query: Query, row: Callable[[str], dict[str, object]], one_weight: int, all_weight: int
) -> Answer:
    """One object for `symbol`, a list for `symbols` or for all."""
    chosen = [instrument.symbol for instrument in _chosen(market, query)]
    if "symbol" in query:
        return _json(row(chosen[0]), one_weight)
    return _json([row(symbol) for symbol in chosen], all_weight)


def _chosen(market: Answers, query: Query) -> list[Instrument]:
    """The instruments that `symbol` or `symbols` name; all without them."""
    if "symbol" in query:
        return [market.instruments[_symbol(market, query)]]
    if "symbols" not in query:
        return list(market.instruments.values())
    try:
        names = orjson.loads(query["symbols"])
        return [market.instruments[name] for name in names]
    except (KeyError, TypeError):
        raise Refused(-1121, "Invalid symbol.") from None
    except orjson.JSONDecodeError:
        raise Refused(-1100, "Illegal characters found in parameter 'symbols'.") from None


def _symbol(market: Answers, query: Query) -> str:
    symbol = query.get("symbol", "")
    if not symbol:
        raise Refused(-1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed.")
    if symbol not in market.instruments:
        raise Refused(-1121, "Invalid symbol.")
    return symbol


def _limit(query: Query) -> int:
    return min(_number(query, "limit", 500), 1000)


def _number(query: Query, name: str, default: int | None = None) -> int:
    text = query.get(name)
    if text is None and default is not None:
        return default
    if text is None or not re.fullmatch(r"[0-9]{1,20}", text):
        raise Refused(-1100, f"Illegal characters found in parameter '{name}'; legal range is '^[0-9]{{1,20}}$'.")
    if name == "limit" and int(text) == 0:
        raise Refused(-1130, "Data sent for parameter 'limit' is not valid.")
    return int(text)


def _json(value: object, weight: int) -> Answer:
    return Answer(200, orjson.dumps(value), weight)
