"""Arrow tables back to events and log records, byte for byte."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise, repeat
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fluxforge import codec
from fluxforge.bronze.schema import COVERAGE_COUNTS, KIND_NAMES, UNDECODABLE, WORDS
from fluxforge.clock import MS
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


@dataclass(frozen=True, slots=True)
class Records:
    """Records of one partition, column by column.

    places    (n, 2) offset and ordinal
    captured  (n,) when, ns; by the record's own timestamp where it is no event
    """

    partition: int
    places: NDArray[np.int64]
    captured: NDArray[np.int64]
    timestamps: list[int]
    keys: list[bytes | None]
    values: list[bytes]
    headers: list[Headers]

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[Record]:
        columns = (self.places[:, 0].tolist(), self.timestamps, self.keys, self.values, self.headers)
        return map(Record, repeat(self.partition), *columns)


def rows(table: pa.Table) -> list[Row]:
    """All rows of a table of one channel, in its order."""
    found = records_of([table])
    ordinals = found.places[:, 1].tolist()
    return [
        Row(record.offset, ordinal, record, event)
        for ordinal, record, event in zip(ordinals, found, events_of(table), strict=True)
    ]


def records_of(tables: Sequence[pa.Table]) -> Records:
    """All rows of tables that cover the same run of offsets, in order and as the log had them, byte for byte."""
    parts = [_of_table(table) for table in tables]
    if len(parts) == 1:
        return parts[0]
    parts = [part for part in parts if len(part)] or parts[:1]
    if sum(map(len, parts)) < 2:  # `itemgetter` of one place gives no tuple
        return parts[0]
    places = np.concatenate([part.places for part in parts])
    order = np.lexsort((places[:, 1], places[:, 0]))
    pick = itemgetter(*order.tolist())

    def in_order(lists: Sequence[list[Any]]) -> list[Any]:
        return list(pick(list(chain.from_iterable(lists))))

    return Records(
        parts[0].partition,
        places[order],
        np.concatenate([part.captured for part in parts])[order],
        in_order([part.timestamps for part in parts]),
        in_order([part.keys for part in parts]),
        in_order([part.values for part in parts]),
        in_order([part.headers for part in parts]),
    )


def _of_table(table: pa.Table) -> Records:
    values, headers = _contents(table)
    places = np.stack([_numbers(table, "offset"), _numbers(table, "ordinal")], axis=1)
    stamps = table.column("timestamp").cast(pa.int64())
    captured = pc.coalesce(table.column("capture_ts").cast(pa.int64()), pc.multiply(stamps, MS))
    partition = table.column("partition")[0].as_py() if table.num_rows else 0
    return Records(partition, places, captured.to_numpy(), stamps.to_pylist(), _plain(table, "key"), values, headers)


def _contents(table: pa.Table) -> tuple[list[bytes], list[Headers]]:
    """Values and headers: those that are stored, else as our codec writes them, straight from the columns."""
    stored = table.column("value")
    values: list[Any] = [b""] * table.num_rows if stored.null_count == table.num_rows else stored.to_pylist()
    headers: list[Headers] = [()] * table.num_rows
    for kind, at in _rows_of_kinds(table).items():
        whole = len(at) == table.num_rows
        made = _encoded(table if whole else table.take(at), kind)
        if whole and stored.null_count == table.num_rows:
            values, headers = made, [codec.headers_of(kind)] * table.num_rows
            continue
        for i, value in zip(at, made, strict=True):
            headers[i] = codec.headers_of(kind)
            values[i] = values[i] or value
    own = table.column("headers")
    if own.null_count < table.num_rows:
        for i, given in enumerate(own.to_pylist()):
            if given is not None:
                headers[i] = tuple((one["name"], one["value"]) for one in given)
    return values, headers


def _rows_of_kinds(table: pa.Table) -> dict[Kind, list[int]]:
    """The rows of each kind of event there is."""
    names = pc.unique(table.column("kind").cast(pa.string())).to_pylist()
    if len(names) == 1 and names != [UNDECODABLE]:
        return {_KIND_OF_NAME[names[0]]: list(range(table.num_rows))}
    return _rows_by_kind(_plain(table, "kind"))


def _encoded(table: pa.Table, kind: Kind) -> list[bytes]:
    """The values of events of one kind."""
    fields = EVENT_OF[kind].__struct_fields__
    return codec.encode_columns(kind, [_field(table, field) for field in fields])


def _field(table: pa.Table, name: str) -> list[Any]:
    return blobs(table, name.removesuffix("s")) if name in ("bids", "asks") else _plain(table, name)


def _numbers(table: pa.Table, name: str) -> NDArray[np.int64]:
    numbers: NDArray[np.int64] = table.column(name).cast(pa.int64()).to_numpy()
    return numbers


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


def _rows_by_kind(names: list[str]) -> dict[Kind, list[int]]:
    found: dict[Kind, list[int]] = {}
    for at, name in enumerate(names):
        if name != UNDECODABLE:
            found.setdefault(_KIND_OF_NAME[name], []).append(at)
    return found
