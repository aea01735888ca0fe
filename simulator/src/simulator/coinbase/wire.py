"""Coinbase Advanced Trade's messages, built byte by byte.

Shapes: docs.cdp.coinbase.com, "Advanced Trade WebSocket Channels" and its AsyncAPI description, whose authors checked
it against the production feed: no `client_id`, an integer `heartbeat_counter`, no best prices in `ticker_batch`.
`sequence_num` stands at 0 here; each connection writes its own count over it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache

import orjson

from simulator.market import Depth, Diff, Instrument, Level, Top, plain
from simulator.tape import Print, Stats

NO_TIME = b"1970-01-01T00:00:00Z"
"""What the levels of a snapshot carry instead of an event time."""

_SIDES = ((b"bid", 0), (b"offer", 1))


def timestamp(ms: int) -> str:
    """RFC 3339 without trailing zeros, as Go prints it: `2023-02-09T20:30:37.1Z`, `2023-02-09T20:30:37Z`."""
    fraction = f".{ms % 1000:03d}".rstrip("0").rstrip(".")
    return f"{_second(ms // 1000)}{fraction}Z"


@lru_cache(maxsize=8)
def _second(second: int) -> str:
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}"


def message(channel: str, ms: int, events: bytes) -> bytes:
    """`{"channel":"l2_data","timestamp":"…","sequence_num":0,"events":[…]}`"""
    return b'{"channel":"%b","timestamp":"%b","sequence_num":0,"events":[%b]}' % (
        channel.encode(),
        timestamp(ms).encode(),
        events,
    )


def level2(product: str, ms: int, diff: Diff) -> bytes:
    """`{"type":"update","product_id":"BTC-USD","updates":[{"side":"bid","event_time":…,"price_level":"21921.73",
    "new_quantity":"0.06317902"}]}`: absolute quantities, 0 for a level that is gone."""
    return message("l2_data", ms, _book("update", product, timestamp(ms).encode(), diff.bids, diff.asks))


def level2_snapshot(product: str, ms: int, depth: Depth) -> bytes:
    """The whole book, the same way."""
    return message("l2_data", ms, _book("snapshot", product, NO_TIME, depth.bids, depth.asks))


def _book(kind: str, product: str, event_time: bytes, bids: Sequence[Level], asks: Sequence[Level]) -> bytes:
    updates = b",".join(
        b'{"side":"%b","event_time":"%b","price_level":"%b","new_quantity":"%b"}'
        % (name, event_time, price.encode(), size.encode())
        for (name, _), levels in zip(_SIDES, (bids, asks), strict=True)
        for price, size in levels
    )
    return b'{"type":"%b","product_id":"%b","updates":[%b]}' % (kind.encode(), product.encode(), updates)


def market_trades(kind: str, product: str, ms: int, prints: Sequence[Print]) -> bytes:
    """`{"type":"update","trades":[{"trade_id":"12345","product_id":"ETH-USD","price":"1260.01","size":"0.3",
    "side":"BUY","time":"2019-08-14T20:42:27.265Z"}]}`: the newest first, `side` the maker's."""
    trades = [trade(product, one) for one in reversed(prints)]
    return message("market_trades", ms, orjson.dumps({"type": kind, "trades": trades}))


def trade(product: str, print_: Print) -> dict[str, str]:
    """One public trade, over WebSocket and REST alike."""
    return {
        "trade_id": str(print_.id),
        "product_id": product,
        "price": plain(print_.price),
        "size": plain(print_.size),
        "side": "BUY" if print_.maker else "SELL",
        "time": timestamp(print_.time),
    }


def ticker(channel: str, kind: str, product: str, ms: int, stats: Stats, top: Top | None) -> bytes:
    """The `ticker` channel, or `ticker_batch`, which has no best prices."""
    row = {
        "type": "ticker",
        "product_id": product,
        "price": plain(stats.last),
        "volume_24_h": plain(f"{stats.volume:f}"),
        "low_24_h": plain(stats.low),
        "high_24_h": plain(stats.high),
        "low_52_w": plain(stats.low),
        "high_52_w": plain(stats.high),
        "price_percent_chg_24_h": percent_change(stats),
    }
    if channel == "ticker" and top is not None:
        row |= {
            "best_bid": plain(top.bid),
            "best_bid_quantity": plain(top.bid_size),
            "best_ask": plain(top.ask),
            "best_ask_quantity": plain(top.ask_size),
        }
    return message(channel, ms, orjson.dumps({"type": kind, "tickers": [row]}))


def heartbeat(ms: int, counter: int) -> bytes:
    """`{"current_time":"2023-06-23 20:31:56.121961769 +0000 UTC m=+91717.525857105","heartbeat_counter":3049}`"""
    second = _second(ms // 1000).replace("T", " ")
    current = f"{second}.{ms % 1000:03d}000000 +0000 UTC m=+{counter}.000000001"
    return message("heartbeats", ms, orjson.dumps({"current_time": current, "heartbeat_counter": counter}))


def subscriptions(ms: int, products: dict[str, list[str]]) -> bytes:
    """Everything the connection is now subscribed to: `{"subscriptions":{"level2":["BTC-USD"]}}`."""
    return message("subscriptions", ms, orjson.dumps({"subscriptions": products}))


def error(text: str, reason: str | None = None) -> bytes:
    """`{"type":"error","message":"authentication failure"}`; carries no sequence number."""
    return orjson.dumps({"type": "error", "message": text} | ({"reason": reason} if reason else {}))


def rest_error(name: str, details: str) -> bytes:
    """`{"error":"NOT_FOUND","error_details":…,"message":…}`"""
    return orjson.dumps({"error": name, "error_details": details, "message": details})


def product(name: str, instrument: Instrument, stats: Stats | None, aliases: tuple[str, Iterable[str]]) -> object:
    """One element of `GET /api/v3/brokerage/market/products`; `aliases` are `alias` and `alias_to`."""
    base, quote = name.split("-")
    return {
        "product_id": name,
        "price": plain(stats.last) if stats else "",
        "price_percentage_change_24h": percent_change(stats) if stats else "",
        "volume_24h": plain(f"{stats.volume:f}") if stats else "0",
        "volume_percentage_change_24h": "0",
        "base_increment": plain(instrument.step),
        "quote_increment": plain(instrument.tick),
        "quote_min_size": "1",
        "quote_max_size": "150000000",
        "base_min_size": plain(instrument.step),
        "base_max_size": "3400000000",
        "base_name": base,
        "quote_name": quote,
        "watched": False,
        "is_disabled": False,
        "new": False,
        "status": "online",
        "cancel_only": False,
        "limit_only": False,
        "post_only": False,
        "trading_disabled": False,
        "auction_mode": False,
        "product_type": "SPOT",
        "quote_currency_id": quote,
        "base_currency_id": base,
        "fcm_trading_session_details": None,
        "mid_market_price": "",
        "alias": aliases[0],
        "alias_to": list(aliases[1]),
        "base_display_symbol": base,
        "quote_display_symbol": quote,
        "view_only": False,
        "price_increment": plain(instrument.tick),
        "display_name": name,
        "product_venue": "CBE",
    }


def percent_change(stats: Stats) -> str:
    """Since the market began."""
    first = float(stats.open)
    return f"{(float(stats.last) - first) / first * 100:.14f}" if first else "0"
