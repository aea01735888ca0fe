"""ccxt's unified structures → events; pure. A structure's `timestamp` is in ms."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

import msgspec
import orjson

from collector.wire.fields import SIDES
from collector.wire.head import Head
from fluxforge.clock import MS
from fluxforge.events import BookSnapshot, Ticker, Trade


def book_of(
    head: Head, book: Mapping[str, Any], levels: int, capture_ts: int, updates: int = 1, *, sampled: bool = False
) -> BookSnapshot:
    """The top `levels` of a ccxt order book, {"bids": [[price, size, …], …], "asks": …, "timestamp", "nonce"}.

    The book is ccxt's live object: this copies what it takes and must run before anything else of the loop does.
    `updates`: what ccxt folded into it since the last one; `sampled`: the exchange sends whole books now and then, so
    each folds an unknown number. Raises ValueError or TypeError for a number that is none.
    """
    nonce = book.get("nonce")
    event = head.snapshot(
        capture_ts,
        _time(book),
        None if nonce is None else int(nonce),
        _side(book["bids"][:levels]),
        _side(book["asks"][:levels]),
        conflated=sampled or updates > 1,
    )
    return msgspec.structs.replace(event, updates=updates) if updates > 1 else event


def trade_of(head: Head, trade: Mapping[str, Any], capture_ts: int, *, backfilled: bool = False) -> Trade:
    """One trade; ccxt's `side` is the taker's. Raises ValueError or TypeError for a number that is none."""
    return head.trade(
        capture_ts,
        _time(trade),
        None,
        str(trade.get("id") or ""),
        float(trade["price"]),
        float(trade["amount"]),
        SIDES.get(trade.get("side") or "", 0),
        _raw(trade),
        backfilled=backfilled,
    )


def ticker_of(head: Head, ticker: Mapping[str, Any], capture_ts: int) -> Ticker:
    """Best prices and day statistics."""
    return head.ticker(
        capture_ts,
        _time(ticker),
        None,
        _raw(ticker),
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
    )


def _time(record: Mapping[str, Any]) -> int | None:
    ms = record.get("timestamp")
    return None if ms is None else int(ms) * MS


def _side(levels: Sequence[Sequence[Any]]) -> bytes:
    flat = [level[place] for level in levels for place in (0, 1)]
    if not isfinite(sum(flat)):
        raise ValueError("a price or size of the book is not finite")
    return struct.pack(f"<{len(flat)}d", *flat)


def _number(value: Any) -> float | None:
    number = None if value is None else float(value)
    return number if number is not None and isfinite(number) else None


def _raw(record: Mapping[str, Any]) -> bytes | None:
    info = record.get("info")
    return None if info is None else orjson.dumps(info, option=orjson.OPT_NON_STR_KEYS, default=str)
