"""Bytes an event on disk: Bronze beside lines of JSON, plain and compressed, and beside a plain Parquet file."""

from __future__ import annotations

import gzip
import io
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard
from benchmarks.history import REPOSITORY

from collector.wire.binance import BinanceParser, rest_book
from fluxforge.bronze import record_of, to_columns
from fluxforge.bronze.columns import ordinals
from fluxforge.bronze.ndjson import ndjson_format
from fluxforge.bronze.schema import parquet_format
from fluxforge.events import AnyEvent, BookDelta, BookSnapshot, Ticker, Trade
from fluxforge.files import Format
from fluxforge.log import RecordColumns
from fluxforge.recordings import by_instrument, read_binance_capture

DEPTH = 20
_CHANNEL = {"books": "orderbook", "deltas": "orderbook", "trades": "trades", "tickers": "ticker"}


def measure() -> dict[str, dict[str, float]]:
    """By kind of event, bytes an event in each form; empty, said aloud, where there is no recording."""
    folder = Path(os.environ.get("FLUXFORGE_RECORDINGS") or REPOSITORY.parent / "shared" / "data") / "binance_spot"
    captures = by_instrument(folder.glob("*_*.gz")) if folder.is_dir() else {}
    if not captures:
        print(f"BYTES NOT MEASURED: no recording in {folder}", file=sys.stderr)
        return {}
    markets = [events(files) for _, files in sorted(captures.items())]
    return {name: _sizes(_CHANNEL[name], [market[name] for market in markets]) for name in _CHANNEL}


def events(files: list[Path]) -> dict[str, list[AnyEvent]]:
    """A capture's diffs, trades and tickers, and the book of `DEPTH` levels after each diff."""
    parser = BinanceParser("binance", collector="home", connection="home-1")
    found: dict[str, list[AnyEvent]] = {name: [] for name in _CHANNEL}
    sides: tuple[dict[float, float], dict[float, float]] = ({}, {})
    for line in read_binance_capture(files):
        if b"lastUpdateId" in line.frame[:30]:
            whole = rest_book(line.frame)
            sides = (dict(_levels(whole.bids)), dict(_levels(whole.asks)))
            continue
        for event in parser.parse(line.frame, line.receive_ns):
            if isinstance(event, BookDelta):
                found["deltas"].append(event)
                if all(sides):
                    found["books"].append(_book(event, sides))
            elif isinstance(event, Trade):
                found["trades"].append(event)
            elif isinstance(event, Ticker):
                found["tickers"].append(event)
    return found


def _book(delta: BookDelta, sides: tuple[dict[float, float], dict[float, float]]) -> BookSnapshot:
    """The best levels once the diff is applied."""
    for side, blob in zip(sides, (delta.bids, delta.asks), strict=True):
        for price, size in _levels(blob):
            if size:
                side[price] = size
            else:
                side.pop(price, None)
    best = (sorted(sides[0].items(), reverse=True)[:DEPTH], sorted(sides[1].items())[:DEPTH])
    bids, asks = (np.array(levels, "<f8").tobytes() for levels in best)
    return BookSnapshot(
        exchange=delta.exchange, symbol=delta.symbol, native=delta.native, source=delta.source,
        collector=delta.collector, connection=delta.connection, ts=delta.ts, capture_ts=delta.capture_ts,
        skew=delta.skew, seq=delta.seq, bids=bids, asks=asks,
    )  # fmt: skip


def _levels(blob: bytes) -> Iterable[tuple[float, float]]:
    pairs: list[tuple[float, float]] = [(price, size) for price, size in np.frombuffer(blob, "<f8").reshape(-1, 2)]
    return pairs


def _sizes(channel: str, markets: Sequence[Sequence[AnyEvent]]) -> dict[str, float]:
    """Each market in a file of its own; bytes over all of them."""
    totals: dict[str, int] = {}
    for market in markets:
        records = RecordColumns.of([record_of(event, at) for at, event in enumerate(market)])
        (table,) = to_columns("market.raw", records, ordinals(records.offsets)).tables.values()
        lines = _written(ndjson_format(), table)
        plain = io.BytesIO()
        pq.write_table(table, plain, compression="zstd", use_dictionary=False)
        made = {
            "ndjson": len(lines),
            "ndjson.gz": len(gzip.compress(lines, 6)),
            "ndjson.zst": len(zstandard.ZstdCompressor().compress(lines)),
            "ndjson.zst -9": len(zstandard.ZstdCompressor(level=9).compress(lines)),
            "plain Parquet": plain.getbuffer().nbytes,
            "Bronze": len(_written(parquet_format(channel), table)),
        }
        totals = {name: totals.get(name, 0) + size for name, size in made.items()}
    count = sum(map(len, markets))
    return {name: size / count for name, size in totals.items()}


def _written(form: Format, table: pa.Table) -> bytes:
    kept = _Kept()
    writer = form.open(kept)
    writer.write(table)
    writer.close()
    return kept.getvalue()


class _Kept(io.BytesIO):
    """Bytes that outlive their writer."""

    def close(self) -> None:
        """What was written is still asked for."""
