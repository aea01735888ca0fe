"""Segments of the system's first generation: Parquet of ccxt's unified structures, and NDJSON.

Parquet has a row for each message of `trades`, `ticker` or `orderbook` (told by its columns; a trade is a row), with
`exchange`, `symbol` as folders write it (`BTC-USDT`), `capture_ts` as a timestamp, ccxt's `timestamp` in ms, the
exchange's record as text in `info_json`, and book sides as lists of {price, size}. Lines of NDJSON are those of
`ccxt_ndjson`, but that the channel may be called `type` and `capture_ts` may be ISO 8601.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fluxforge.clock import NS
from fluxforge.errors import SegmentError
from fluxforge.recordings import read_lines
from fluxforge_cli.importer import ccxt_ndjson
from fluxforge_cli.importer.line import Line

CHANNEL_BY = {"trade_id": "trades", "bids": "orderbook", "bid_volume": "ticker"}
"""The column that only a channel's segments have."""
_NAMES = {
    "trade_id": "id", "bid_volume": "bidVolume", "ask_volume": "askVolume", "base_volume": "baseVolume",
    "quote_volume": "quoteVolume",
}  # fmt: skip


def read(paths: Sequence[Path]) -> Iterator[tuple[Path, Iterator[Line]]]:
    """Each file with its lines, or its rows from 1. Raises SegmentError, from the lines, where a file breaks off."""
    for path in paths:
        yield path, _rows(path) if path.suffix == ".parquet" else _lines(path)


def symbol_of(folder: str) -> str:
    """`BTC-USDT` → `BTC/USDT`, `BTC-USDT-USDT` → `BTC/USDT:USDT`; a unified symbol as it is."""
    base, *rest = folder.split("-", 2)
    if "/" in folder or not rest:
        return folder
    return f"{base}/{':'.join(rest)}"


def _lines(path: Path) -> Iterator[Line]:
    for number, text in enumerate(read_lines(path), start=1):
        if not text:
            continue
        try:
            message = json.loads(text)
            message["channel"] = message.get("channel", message.get("type"))
            message["capture_ts"] = _capture(message["capture_ts"])
            message["symbol"] = symbol_of(message["symbol"])
            events, bad = ccxt_ndjson.parse(json.dumps(message).encode(), path.name)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            events, bad = [], f"no {error.args[0]!r}" if isinstance(error, KeyError) else str(error)
        yield Line(number, events, bad, text if bad else b"")


def _rows(path: Path) -> Iterator[Line]:
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            names = set(file.schema_arrow.names)
            channel = next((channel for column, channel in CHANNEL_BY.items() if column in names), None)
            if channel is None or not {"exchange", "symbol", "capture_ts"} <= names:
                raise SegmentError(
                    f"{path}: its columns are of no known channel",
                    hint="expected exchange, symbol, capture_ts and those of trades, ticker or orderbook",
                )
            number = 0
            for batch in file.iter_batches(5000):
                at = batch.column("capture_ts").cast(pa.timestamp("ns", "UTC")).cast(pa.int64()).to_pylist()
                for row, capture_ts in zip(batch.drop_columns(["capture_ts"]).to_pylist(), at, strict=True):
                    number += 1
                    try:
                        text = json.dumps(_message(row, channel, capture_ts)).encode()
                        events, bad = ccxt_ndjson.parse(text, path.name)
                    except (ValueError, TypeError) as error:
                        text = json.dumps(row, default=str).encode()
                        events, bad = [], str(error)
                    yield Line(number, events, bad, text if bad else b"")
    except (OSError, pa.ArrowException) as error:
        raise SegmentError(f"{path} cannot be read: {error}", hint="restore it from a copy") from error


def _message(row: Mapping[str, Any], channel: str, capture_ts: int | None) -> dict[str, Any]:
    """The row as the message that ccxt had given; its columns that are null are not there.

    Raises ValueError or TypeError where a value is none of its column's.
    """
    data = {_NAMES.get(name, name): value for name, value in row.items() if value is not None}
    if "info_json" in data:
        data["info"] = json.loads(data.pop("info_json") or "null")
    for side in ("bids", "asks"):
        if side in data:
            data[side] = [[level["price"], level["size"]] for level in data[side]]
    symbol = row["symbol"]
    return {
        "exchange": row["exchange"],
        "symbol": symbol and symbol_of(symbol),
        "channel": channel,
        "capture_ts": capture_ts,
        "data": data,
    }


def _capture(value: Any) -> int:
    """ns of a capture time."""
    if isinstance(value, int):
        return value
    at = datetime.fromisoformat(value)
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return int(at.replace(microsecond=0).timestamp()) * NS + at.microsecond * 1000
