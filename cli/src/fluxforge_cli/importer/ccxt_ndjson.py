"""NDJSON of ccxt's unified structures, one line a message.

    {"exchange": "binance", "symbol": "BTC/USDT", "channel": "orderbook", "capture_ts": 1700000000123456789,
     "data": {"bids": [[100.0, 1.5], …], "asks": [[100.1, 2.0], …], "timestamp": 1700000000100, "nonce": 7}}

`channel` is ticker, trades or orderbook; `capture_ts` is in ns; `data` is what ccxt's watch_ticker, watch_trades
(one trade or a list) or watch_order_book gave. Times inside `data` are ms. NaN and Infinity may stand as Python
writes them. Books are snapshots of a conflated feed.

An exchange whose books carry no time at all runs on the capture clock, with all its events.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from fluxforge.clock import MS
from fluxforge.events import AnyEvent, BookSnapshot, ClockSource, Ticker, Trade
from fluxforge.recordings import read_lines
from fluxforge_cli.importer.line import COLLECTOR, Line, pack

SIDES = {"buy": 1, "sell": -1, None: 0}


class _Message(msgspec.Struct):
    exchange: str
    symbol: str
    channel: str
    capture_ts: int
    data: Any


class _Stamp(msgspec.Struct):
    timestamp: float | None = None


class _Head(msgspec.Struct):
    exchange: str
    channel: str
    data: msgspec.Raw


_decode = msgspec.json.Decoder(_Message).decode
_decode_head = msgspec.json.Decoder(_Head).decode
_decode_stamp = msgspec.json.Decoder(_Stamp).decode


def capture_clocked(paths: Iterable[Path]) -> frozenset[str]:
    """The exchanges whose books never carry a time, over all the files."""
    stamped: set[str] = set()
    seen: set[str] = set()
    for path in paths:
        for text in read_lines(path, on_error=lambda _: None):
            try:
                head = _decode_head(text)
                if head.channel != "orderbook" or head.exchange in stamped:
                    continue
                seen.add(head.exchange)
                if _decode_stamp(head.data).timestamp is not None:
                    stamped.add(head.exchange)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                continue  # told of when the line itself is read
    return frozenset(seen - stamped)


def read(paths: Sequence[Path]) -> Iterator[tuple[Path, Iterator[Line]]]:
    """Each file with its lines. Raises SegmentError, from the lines, where a file breaks off."""
    clocked = capture_clocked(paths)
    for path in paths:
        yield path, read_file(path, clocked)


def read_file(path: Path, clocked: frozenset[str] = frozenset()) -> Iterator[Line]:
    """The lines of one file; `clocked` are the exchanges on the capture clock. Empty lines are none."""
    for number, text in enumerate(read_lines(path), start=1):
        if text:
            events, bad = parse(text, path.name, clocked)
            yield Line(number, events, bad, text if bad else b"")


def parse(text: bytes, connection: str, clocked: frozenset[str] = frozenset()) -> tuple[list[AnyEvent], str | None]:
    """The events of one line, and what is wrong with it; of a list of trades the sound ones are kept."""
    try:
        message = _message(text)
        read_channel = _CHANNELS.get(message.channel)
        if read_channel is None:
            return [], f"channel {message.channel!r} is none of {', '.join(_CHANNELS)}"
    except (ValueError, RecursionError, msgspec.MsgspecError) as error:
        return [], str(error)
    clock = ClockSource.CAPTURE if message.exchange in clocked else ClockSource.EXCHANGE
    records = message.data if message.channel == "trades" and isinstance(message.data, list) else [message.data]
    events: list[AnyEvent] = []
    bad: list[str] = []
    for record in records:
        try:
            if not isinstance(record, dict):
                raise TypeError("data is no object")
            ts = nanoseconds(record.get("timestamp"))
            common = {
                "exchange": message.exchange,
                "symbol": message.symbol,
                "native": native_of(record, message.symbol),
                "source": "ccxt",
                "collector": COLLECTOR,
                "connection": connection,
                "ts": ts,
                "capture_ts": message.capture_ts,
                "clock": clock,
            }
            events.append(read_channel(record, common))
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            bad.append(f"no {error.args[0]!r}" if isinstance(error, KeyError) else str(error))
    return events, "; ".join(bad) or None


def _message(text: bytes) -> _Message:
    """The line's envelope; Python's own JSON reader knows NaN and Infinity."""
    try:
        return _decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        if b"NaN" not in text and b"Infinity" not in text:
            raise ValueError(str(error)) from error
        return msgspec.convert(json.loads(text), _Message)


def nanoseconds(ms: Any) -> int | None:
    """ns of a time in ms; None of None."""
    if ms is None:
        return None
    if isinstance(ms, bool) or not isinstance(ms, int | float) or not math.isfinite(ms):
        raise ValueError(f"timestamp {ms!r} is no time in ms")
    return ms * MS if isinstance(ms, int) else round(ms * MS)


def native_of(record: Mapping[str, Any], symbol: str) -> str:
    """The exchange's own name of the symbol, where its record tells; else the unified one."""
    info = record.get("info")
    if isinstance(info, dict):
        for name in ("symbol", "s", "product_id", "instId"):
            if isinstance(info.get(name), str):
                return str(info[name])
    return symbol


def number(value: Any) -> float:
    """A number; NaN of None, so that a book or trade that lacks one is seen as invalid and not lost."""
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError(f"{value!r} is no number")
    return float(value)


def optional(value: Any) -> float | None:
    return None if value is None else number(value)


def _book(record: Mapping[str, Any], common: dict[str, Any]) -> BookSnapshot:
    nonce = record.get("nonce")
    return BookSnapshot(
        **common,
        seq=nonce if isinstance(nonce, int) else None,
        bids=_side(record["bids"]),
        asks=_side(record["asks"]),
        conflated=True,
    )


def _side(levels: Any) -> bytes:
    if not isinstance(levels, list):
        raise TypeError("a book side is no list")
    if not all(isinstance(level, list) and len(level) >= 2 for level in levels):
        raise TypeError("a level is no [price, size]")
    return pack((number(level[0]), number(level[1])) for level in levels)


def _trade(record: Mapping[str, Any], common: dict[str, Any]) -> Trade:
    side = record.get("side")
    if side not in SIDES:
        raise ValueError(f"side {side!r} is none of buy, sell, null")
    return Trade(
        **common,
        id="" if record.get("id") is None else str(record["id"]),
        price=number(record["price"]),
        size=number(record["amount"]),
        side=SIDES[side],
        raw=_raw(record),
    )


def _ticker(record: Mapping[str, Any], common: dict[str, Any]) -> Ticker:
    return Ticker(
        **common,
        bid=optional(record.get("bid")),
        bid_size=optional(record.get("bidVolume")),
        ask=optional(record.get("ask")),
        ask_size=optional(record.get("askVolume")),
        last=optional(record.get("last")),
        open=optional(record.get("open")),
        high=optional(record.get("high")),
        low=optional(record.get("low")),
        volume=optional(record.get("baseVolume")),
        quote_volume=optional(record.get("quoteVolume")),
        raw=_raw(record),
    )


def _raw(record: Mapping[str, Any]) -> bytes | None:
    """The exchange's own record, which ccxt hands on as `info`."""
    info = record.get("info")
    return msgspec.json.encode(info) if info else None


_CHANNELS: dict[str, Callable[[Mapping[str, Any], dict[str, Any]], AnyEvent]] = {
    "ticker": _ticker,
    "trades": _trade,
    "orderbook": _book,
}
