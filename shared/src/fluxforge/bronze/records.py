"""Arrow tables back to events and log records, byte for byte."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fluxforge import codec
from fluxforge.bronze.schema import COVERAGE_COUNTS, KIND_NAMES, UNDECODABLE, WORDS
from fluxforge.events import EVENT_OF, AnyEvent, Kind
from fluxforge.log import Headers, Record

_KIND_OF_NAME = {name: kind for kind, name in KIND_NAMES.items()}
_TICKER_FIELDS = ("bid", "bid_size", "ask", "ask_size", "last", "open", "high", "low", "volume", "quote_volume", "raw")
_TRADE_FIELDS = ("id", "price", "size", "side", "backfilled", "raw")
_OWN_FIELDS: dict[Kind, tuple[str, ...]] = {
    Kind.BOOK_SNAPSHOT: ("bids", "asks", "refresh", "conflated", "updates"),
    Kind.BOOK_DELTA: ("bids", "asks", "first_seq"),
    Kind.TRADE: _TRADE_FIELDS,
    Kind.TICKER: _TICKER_FIELDS,
    Kind.HEARTBEAT: (),
    Kind.RESET: ("reason", "incomplete", "detail"),
    Kind.WIRE: ("data", "about"),
    Kind.COVERAGE: ("since", "until", *COVERAGE_COUNTS),
}
_EVENT_FIELDS = (*WORDS, "ts", "capture_ts", "skew", "clock", "seq")


class Row(NamedTuple):
    """One row: its place, the log's record, and the event; None where the record does not decode."""

    offset: int
    ordinal: int
    record: Record
    event: AnyEvent | None


def rows(table: pa.Table) -> list[Row]:
    """All rows of a table of one channel, in its order."""
    events = events_of(table)
    get = {name: _plain(table, name) for name in ("partition", "offset", "ordinal", "timestamp", "key", "value")}
    headers = _headers(table, events)
    values = [
        codec.encode(event) if value is None and event is not None else value
        for value, event in zip(get["value"], events, strict=True)
    ]
    records = map(Record, get["partition"], get["offset"], get["timestamp"], get["key"], values, headers)
    return [Row(*row) for row in zip(get["offset"], get["ordinal"], records, events, strict=True)]


def events_of(table: pa.Table) -> list[AnyEvent | None]:
    """The event of every row; None where the record does not decode."""
    columns: dict[str, list[Any]] = {}
    for name in table.column_names:
        if name not in _NOT_EVENT:
            columns[name] = _plain(table, name)
    if "bid_prices" in table.column_names:
        columns["bids"] = blobs(table, "bid")
        columns["asks"] = blobs(table, "ask")
    events: list[AnyEvent | None] = [None] * table.num_rows
    for kind, at in _rows_by_kind(columns.pop("kind")).items():
        fields = (*_EVENT_FIELDS, *_OWN_FIELDS[kind])
        make = EVENT_OF[kind]
        picked = [[columns[field][i] for i in at] for field in fields]
        for i, values in zip(at, zip(*picked, strict=True), strict=True):
            events[i] = make(**dict(zip(fields, values, strict=True)))
    return events


def pairs(table: pa.Table, side: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Levels of one side ("bid" or "ask") of all rows, (n, 2) price and size, and where each row's begin (rows + 1)."""
    prices = table.column(f"{side}_prices").combine_chunks()
    sizes = table.column(f"{side}_sizes").combine_chunks()
    ends = np.asarray(prices.offsets, np.int64)
    both = np.empty((int(ends[-1] - ends[0]), 2), "<f8")
    both[:, 0] = np.asarray(prices.flatten())
    both[:, 1] = np.asarray(sizes.flatten())
    return both, ends - ends[0]


def blobs(table: pa.Table, side: str) -> list[bytes]:
    """One side of every row as an event carries it: price, size, price, size…"""
    both, ends = pairs(table, side)
    data = both.tobytes()
    at = (ends * 16).tolist()
    return [data[start:end] for start, end in pairwise(at)]


_NOT_EVENT = {
    "topic",
    "partition",
    "offset",
    "ordinal",
    "timestamp",
    "key",
    "headers",
    "value",
    "bid_prices",
    "bid_sizes",
    "ask_prices",
    "ask_sizes",
}


def _plain(table: pa.Table, name: str) -> list[Any]:
    """A column as Python values; times as integers."""
    column = table.column(name)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)  # to_pylist of a dictionary column costs 3 µs a row
    elif pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    values: list[Any] = column.to_pylist()
    return values


def _headers(table: pa.Table, events: list[AnyEvent | None]) -> list[Headers]:
    column = table.column("headers")
    given = [None] * len(events) if column.null_count == len(events) else column.to_pylist()
    return [
        (codec.headers(event) if event is not None else ())
        if own is None
        else tuple((one["name"], one["value"]) for one in own)
        for own, event in zip(given, events, strict=True)
    ]


def _rows_by_kind(names: list[str]) -> dict[Kind, list[int]]:
    found: dict[Kind, list[int]] = {}
    for at, name in enumerate(names):
        if name != UNDECODABLE:
            found.setdefault(_KIND_OF_NAME[name], []).append(at)
    return found
