"""ccxt's unified structures → events; pure."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

import orjson

from collector.identity import Stamp
from fluxforge.clock import MS
from fluxforge.events import BookSnapshot, Ticker, Trade

SIDES = {"buy": 1, "sell": -1}


def time_of(record: Mapping[str, Any]) -> int | None:
    """A structure's `timestamp` (ms) in ns; None where the exchange gave none."""
    ms = record.get("timestamp")
    return None if ms is None else int(ms) * MS


def book_of(book: Mapping[str, Any], levels: int, stamp: Stamp, updates: int) -> BookSnapshot:
    """The top `levels` of a ccxt order book, {"bids": [[price, size, …], …], "asks": …, "timestamp", "nonce"}.

    The book is ccxt's live object: this copies what it takes and must run before anything else of the loop does.
    Raises ValueError for a number that is none.
    """
    nonce = book.get("nonce")
    return BookSnapshot(
        **stamp,
        ts=time_of(book),
        seq=None if nonce is None else int(nonce),
        bids=_side(book["bids"][:levels]),
        asks=_side(book["asks"][:levels]),
        conflated=True,
        updates=max(updates, 1),
    )


def trade_of(trade: Mapping[str, Any], stamp: Stamp, *, backfilled: bool = False) -> Trade:
    """One trade; ccxt's `side` is the taker's. Raises ValueError or TypeError for a number that is none."""
    price, size = float(trade["price"]), float(trade["amount"])
    if not (isfinite(price) and isfinite(size)):
        raise ValueError(f"trade {trade.get('id')}: price {price}, size {size}")
    return Trade(
        **stamp,
        ts=time_of(trade),
        id=str(trade.get("id") or ""),
        price=price,
        size=size,
        side=SIDES.get(trade.get("side") or "", 0),
        backfilled=backfilled,
        raw=_raw(trade),
    )


def ticker_of(ticker: Mapping[str, Any], stamp: Stamp) -> Ticker:
    """Best prices and day statistics."""
    return Ticker(
        **stamp,
        ts=time_of(ticker),
        bid=_number(ticker.get("bid")),
        bid_size=_number(ticker.get("bidVolume")),
        ask=_number(ticker.get("ask")),
        ask_size=_number(ticker.get("askVolume")),
        last=_number(ticker.get("last")),
        open=_number(ticker.get("open")),
        high=_number(ticker.get("high")),
        low=_number(ticker.get("low")),
        volume=_number(ticker.get("baseVolume")),
        quote_volume=_number(ticker.get("quoteVolume")),
        raw=_raw(ticker),
    )


def _side(levels: Sequence[Sequence[Any]]) -> bytes:
    flat = [float(number) for level in levels for number in level[:2]]
    if not isfinite(sum(flat)):
        raise ValueError("a price or size of the book is not finite")
    return struct.pack(f"<{len(flat)}d", *flat)


def _number(value: Any) -> float | None:
    number = None if value is None else float(value)
    return number if number is not None and isfinite(number) else None


def _raw(record: Mapping[str, Any]) -> bytes | None:
    info = record.get("info")
    return None if info is None else orjson.dumps(info, option=orjson.OPT_NON_STR_KEYS, default=str)
