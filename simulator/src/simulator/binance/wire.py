"""Binance spot's messages, built byte by byte. Shapes: the exchange's published web-socket-streams and rest-api."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal

import orjson

from simulator.market import Depth, Instrument, Level, Top
from simulator.tape import Print, Run, Stats


def wrap(stream: str, payload: bytes) -> bytes:
    """A combined stream's envelope."""
    return b'{"stream":"%b","data":%b}' % (stream.encode(), payload)


def depth_update(
    symbol: str, event_ms: int, *, first: int, last: int, bids: Sequence[Level], asks: Sequence[Level]
) -> bytes:
    """`{"e":"depthUpdate","E":1672515782136,"s":"BNBBTC","U":157,"u":160,"b":[["0.0024","10"]],"a":[…]}`"""
    return orjson.dumps({"e": "depthUpdate", "E": event_ms, "s": symbol, "U": first, "u": last, "b": bids, "a": asks})


def trade(symbol: str, event_ms: int, print_: Print) -> bytes:
    """`{"e":"trade","E":…,"s":"BNBBTC","t":12345,"p":"0.001","q":"100","T":…,"m":true,"M":true}`"""
    maker = b"true" if print_.maker else b"false"
    return b'{"e":"trade","E":%d,"s":"%b","t":%d,"p":"%b","q":"%b","T":%d,"m":%b,"M":true}' % (
        event_ms,
        symbol.encode(),
        print_.id,
        print_.price.encode(),
        print_.size.encode(),
        print_.time,
        maker,
    )


def agg_trade(symbol: str, event_ms: int, run: Run) -> bytes:
    """`{"e":"aggTrade","E":…,"s":"BNBBTC","a":12345,"p":"0.001","q":"100","f":100,"l":105,"T":…,"m":true,"M":true}`"""
    return orjson.dumps({"e": "aggTrade", "E": event_ms, "s": symbol, **agg_record(run)})


def book_ticker(symbol: str, update_id: int, top: Top) -> bytes:
    """`{"u":400900217,"s":"BNBUSDT","b":"25.35","B":"31.21","a":"25.36","A":"40.66"}`"""
    return b'{"u":%d,"s":"%b","b":"%b","B":"%b","a":"%b","A":"%b"}' % (
        update_id,
        symbol.encode(),
        top.bid.encode(),
        top.bid_size.encode(),
        top.ask.encode(),
        top.ask_size.encode(),
    )


def ticker(symbol: str, event_ms: int, stats: Stats, top: Top) -> bytes:
    """The `24hrTicker` event."""
    change, percent, average = _change(stats)
    return orjson.dumps(
        {
            "e": "24hrTicker",
            "E": event_ms,
            "s": symbol,
            "p": change,
            "P": percent,
            "w": average,
            "x": stats.open,
            "c": stats.last,
            "Q": stats.last_size,
            "b": top.bid,
            "B": top.bid_size,
            "a": top.ask,
            "A": top.ask_size,
            "o": stats.open,
            "h": stats.high,
            "l": stats.low,
            "v": decimal(stats.volume),
            "q": decimal(stats.quote_volume),
            "O": stats.open_time,
            "C": stats.close_time,
            "F": stats.first_id,
            "L": stats.last_id,
            "n": stats.trades,
        }
    )


def mini_ticker(symbol: str, event_ms: int, stats: Stats) -> bytes:
    """The `24hrMiniTicker` event."""
    return orjson.dumps(
        {
            "e": "24hrMiniTicker",
            "E": event_ms,
            "s": symbol,
            "c": stats.last,
            "o": stats.open,
            "h": stats.high,
            "l": stats.low,
            "v": decimal(stats.volume),
            "q": decimal(stats.quote_volume),
        }
    )


def depth_answer(depth: Depth) -> bytes:
    """`GET /api/v3/depth`."""
    return orjson.dumps({"lastUpdateId": depth.last_id, "bids": depth.bids, "asks": depth.asks})


def trade_record(print_: Print) -> dict[str, object]:
    """One element of `GET /api/v3/trades` and `historicalTrades`."""
    return {
        "id": print_.id,
        "price": print_.price,
        "qty": print_.size,
        "quoteQty": decimal(Decimal(print_.price) * Decimal(print_.size)),
        "time": print_.time,
        "isBuyerMaker": print_.maker,
        "isBestMatch": True,
    }


def agg_record(run: Run) -> dict[str, object]:
    """One element of `GET /api/v3/aggTrades`."""
    return {
        "a": run.id,
        "p": run.price,
        "q": decimal(run.size),
        "f": run.first,
        "l": run.last,
        "T": run.time,
        "m": run.maker,
        "M": True,
    }


def ticker_record(symbol: str, stats: Stats | None, top: Top | None, now_ms: int) -> dict[str, object]:
    """`GET /api/v3/ticker/24hr` for one symbol; zeros before the first trade, as for a new listing."""
    zero = "0.00000000"
    best = top or Top(zero, zero, zero, zero)
    row: dict[str, object] = {"symbol": symbol}
    if stats is None:
        names = ("priceChange", "priceChangePercent", "weightedAvgPrice", "prevClosePrice", "lastPrice", "lastQty")
        row |= dict.fromkeys(names, zero)
    else:
        change, percent, average = _change(stats)
        row |= {
            "priceChange": change,
            "priceChangePercent": percent,
            "weightedAvgPrice": average,
            "prevClosePrice": stats.open,
            "lastPrice": stats.last,
            "lastQty": stats.last_size,
        }
    row |= {"bidPrice": best.bid, "bidQty": best.bid_size, "askPrice": best.ask, "askQty": best.ask_size}
    return row | {
        "openPrice": stats.open if stats else zero,
        "highPrice": stats.high if stats else zero,
        "lowPrice": stats.low if stats else zero,
        "volume": decimal(stats.volume) if stats else zero,
        "quoteVolume": decimal(stats.quote_volume) if stats else zero,
        "openTime": stats.open_time if stats else now_ms,
        "closeTime": stats.close_time if stats else now_ms,
        "firstId": stats.first_id if stats else -1,
        "lastId": stats.last_id if stats else -1,
        "count": stats.trades if stats else 0,
    }


def book_ticker_record(symbol: str, top: Top | None) -> dict[str, object]:
    """`GET /api/v3/ticker/bookTicker` for one symbol."""
    best = top or Top(*("0.00000000",) * 4)
    return {
        "symbol": symbol,
        "bidPrice": best.bid,
        "bidQty": best.bid_size,
        "askPrice": best.ask,
        "askQty": best.ask_size,
    }


def exchange_info(instruments: Iterable[Instrument], now_ms: int, weight_limit: int) -> dict[str, object]:
    """`GET /api/v3/exchangeInfo`."""
    return {
        "timezone": "UTC",
        "serverTime": now_ms,
        "rateLimits": [
            {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": weight_limit},
            {"rateLimitType": "RAW_REQUESTS", "interval": "MINUTE", "intervalNum": 5, "limit": 61000},
        ],
        "exchangeFilters": [],
        "symbols": [_symbol_info(instrument) for instrument in instruments],
    }


def error(code: int, message: str) -> bytes:
    """A REST error body."""
    return orjson.dumps({"code": code, "msg": message})


def decimal(value: Decimal) -> str:
    """Eight places, as the exchange prints all amounts."""
    return f"{value:.8f}"


def _change(stats: Stats) -> tuple[str, str, str]:
    first, last = Decimal(stats.open), Decimal(stats.last)
    average = stats.quote_volume / stats.volume if stats.volume else last
    percent = (last - first) / first * 100 if first else Decimal(0)
    return decimal(last - first), f"{percent:.3f}", decimal(average)


def _symbol_info(instrument: Instrument) -> dict[str, object]:
    tick, step = (decimal(Decimal(value)) for value in (instrument.tick, instrument.step))
    return {
        "symbol": instrument.symbol,
        "status": "TRADING",
        "baseAsset": instrument.base,
        "baseAssetPrecision": 8,
        "quoteAsset": instrument.quote,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "baseCommissionPrecision": 8,
        "quoteCommissionPrecision": 8,
        "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET"],
        "icebergAllowed": True,
        "ocoAllowed": True,
        "quoteOrderQtyMarketAllowed": True,
        "allowTrailingStop": True,
        "cancelReplaceAllowed": True,
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": "10000000.00000000", "tickSize": tick},
            {"filterType": "LOT_SIZE", "minQty": step, "maxQty": "9000000.00000000", "stepSize": step},
            {"filterType": "NOTIONAL", "minNotional": "5.00000000", "applyMinToMarket": True, "avgPriceMins": 5},
        ],
        "permissions": [],
        "permissionSets": [["SPOT"]],
        "defaultSelfTradePreventionMode": "EXPIRE_MAKER",
        "allowedSelfTradePreventionModes": ["EXPIRE_MAKER"],
    }
