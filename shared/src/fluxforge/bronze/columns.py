"""Log records to Arrow tables, one for each source and channel.

Column by column over many events: a row at a time costs several times more.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from fluxforge import codec
from fluxforge.bronze import schema
from fluxforge.bronze.schema import (
    CHANNEL_OF,
    CONTROL,
    KIND_NAMES,
    ORDERBOOK,
    SCHEMAS,
    TICKER,
    TRADES,
    UNDECODABLE,
    WIRE,
)
from fluxforge.errors import CodecError
from fluxforge.events import KIND_OF, AnyEvent
from fluxforge.files.commit import folder_name
from fluxforge.log import Headers, Record

UNDECODABLE_FOLDER = "_undecodable"
"""In the place of a source: records that do not decode name none."""


class Columns(NamedTuple):
    """Tables by (source folder, channel), each in the order of the records."""

    tables: dict[tuple[str, str], pa.Table]
    undecodable: int


class _Group:
    """Rows of one table, column by column."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.ordinals: list[int] = []
        self.events: list[Any] = []
        self.values: list[bytes | None] = []
        self.details: list[str] = []


def ordinals(records: Sequence[Record]) -> list[int]:
    """Of each record, its place among the neighbours of the same offset: all 0 for records of a log."""
    found, last, ordinal = [], None, 0
    for record in records:
        ordinal = ordinal + 1 if record.offset == last else 0
        last = record.offset
        found.append(ordinal)
    return found


def to_columns(topic: str, records: Sequence[Record], ordinals: Sequence[int]) -> Columns:
    """The records of one partition as Bronze rows.

    Loses nothing: a record that does not decode becomes a `control` row with its bytes.
    """
    groups: dict[tuple[type | None, str], _Group] = {}
    decode, encode = codec.decode, codec.encode
    for record, ordinal in zip(records, ordinals, strict=True):
        value = record.value
        try:
            event = decode(value)
        except CodecError as error:
            group = groups.get((None, "")) or groups.setdefault((None, ""), _Group())
            group.values.append(value)
            group.details.append(str(error))
        else:
            place = (type(event), event.source)
            group = groups.get(place) or groups.setdefault(place, _Group())
            group.events.append(event)
            group.values.append(None if encode(event) == value else value)
        group.records.append(record)
        group.ordinals.append(ordinal)
    tables: dict[tuple[str, str], list[pa.Table]] = {}
    for (kind, source), group in groups.items():
        channel = CONTROL if kind is None else CHANNEL_OF[kind]
        folder = UNDECODABLE_FOLDER if kind is None else folder_name(source)
        tables.setdefault((folder, channel), []).append(_table(topic, channel, group))
    undecodable = groups.get((None, ""))
    return Columns(
        {place: _in_order(parts) for place, parts in tables.items()},
        len(undecodable.records) if undecodable else 0,
    )


def _in_order(parts: list[pa.Table]) -> pa.Table:
    """Tables of several kinds as one, in the order of the records."""
    if len(parts) == 1:
        return parts[0]
    table = pa.concat_tables(parts)
    order = np.lexsort((table.column("ordinal").to_numpy(), table.column("offset").to_numpy()))
    return table.take(order)


def _table(topic: str, channel: str, group: _Group) -> pa.Table:
    columns = _record_columns(topic, group)
    if group.events:
        columns |= _event_columns(group.events) | _OWN_COLUMNS[channel](group.events)
    else:
        columns |= _undecodable_columns(group)
    return pa.table([columns[name] for name in SCHEMAS[channel].names], schema=SCHEMAS[channel])


def _record_columns(topic: str, group: _Group) -> dict[str, pa.Array]:
    records = group.records
    count = len(records)
    return {
        "topic": _constant(topic, count),
        "partition": pa.array(np.full(count, records[0].partition, np.int32)),
        "offset": pa.array([record.offset for record in records], pa.int64()),
        "ordinal": pa.array(group.ordinals, pa.int32()),
        "timestamp": pa.array([record.timestamp for record in records], pa.int64()).cast(_type("timestamp")),
        "key": pa.array([record.key for record in records], pa.binary()).dictionary_encode(),
        "headers": _headers([record.headers for record in records], group.events),
        "value": _values(group.values),
    }


def _values(kept: list[bytes | None]) -> pa.Array:
    return pa.nulls(len(kept), pa.binary()) if kept.count(None) == len(kept) else pa.array(kept, pa.binary())


def _headers(given: list[Headers], events: list[AnyEvent]) -> pa.Array:
    """Null where they are the codec's own."""
    own = codec.headers(events[0]) if events else None
    if given.count(own) == len(given):  # type: ignore[arg-type]
        return pa.nulls(len(given), schema.HEADERS)
    rows = [
        None if headers == own else [{"name": name, "value": value} for name, value in headers] for headers in given
    ]
    return pa.array(rows, schema.HEADERS)


def _event_columns(events: list[Any]) -> dict[str, pa.Array]:
    columns = {"kind": _constant(KIND_NAMES[KIND_OF[type(events[0])]], len(events))}
    columns |= _identities(events)
    for name in ("ts", "capture_ts"):
        columns[name] = pa.array(_each(name, events), pa.int64()).cast(_type(name))
    for name in ("skew", "clock", "seq"):
        columns[name] = pa.array(_each(name, events), pa.int64())
    return columns


def _identities(events: list[Any]) -> dict[str, pa.Array]:
    """Who and what the events are of: one look-up for all words of an event, since few sets of words occur."""
    known: dict[tuple[str, ...], int] = {}
    codes = np.array([known.setdefault(words, len(known)) for words in map(_words_of, events)], np.int32)
    columns = {}
    for name, words in zip(schema.WORDS, zip(*known, strict=True), strict=True):
        distinct: dict[str, int] = {}
        places = np.array([distinct.setdefault(word, len(distinct)) for word in words], np.int32)
        columns[name] = pa.DictionaryArray.from_arrays(pa.array(places[codes]), pa.array(list(distinct), pa.string()))
    return columns


_words_of = attrgetter(*schema.WORDS)


def _undecodable_columns(group: _Group) -> dict[str, pa.Array]:
    count = len(group.records)
    columns = {field.name: pa.nulls(count, field.type) for field in SCHEMAS[CONTROL]}
    for name in _RECORD_NAMES:
        del columns[name]
    return columns | {"kind": _constant(UNDECODABLE, count), "detail": pa.array(group.details, pa.string())}


def _book_columns(events: list[Any]) -> dict[str, pa.Array]:
    bid_prices, bid_sizes = _sides([event.bids for event in events])
    ask_prices, ask_sizes = _sides([event.asks for event in events])
    levels = {"bid_prices": bid_prices, "bid_sizes": bid_sizes, "ask_prices": ask_prices, "ask_sizes": ask_sizes}
    return levels | _own_or_null(ORDERBOOK, events, skip=levels)


def _own_or_null(channel: str, events: list[Any], skip: Collection[str] = ()) -> dict[str, pa.Array]:
    """The channel's own columns; null where events of this kind have no such field."""
    fields = events[0].__struct_fields__
    columns = {}
    for field in _own_fields(channel):
        if field.name in skip:
            continue
        if field.name not in fields:
            columns[field.name] = pa.nulls(len(events), field.type)
        elif pa.types.is_dictionary(field.type):
            columns[field.name] = _words(_each(field.name, events))
        else:
            columns[field.name] = pa.array(_each(field.name, events), field.type)
    return columns


def _sides(blobs: list[bytes]) -> tuple[pa.Array, pa.Array]:
    """Prices and sizes of one book side of many events, as list columns."""
    pairs = np.frombuffer(b"".join(blobs), "<f8").reshape(-1, 2)
    ends = np.zeros(len(blobs) + 1, np.int32)
    np.cumsum([len(blob) >> 4 for blob in blobs], out=ends[1:])
    offsets = pa.array(ends)
    prices, sizes = (pa.ListArray.from_arrays(offsets, pa.array(np.ascontiguousarray(pairs[:, i]))) for i in (0, 1))
    return prices, sizes


def _each(name: str, events: list[Any]) -> list[Any]:
    return list(map(attrgetter(name), events))


def _words(words: Iterable[str | None]) -> pa.Array:
    return pa.array(words, pa.string()).dictionary_encode()


def _constant(word: str, count: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), pa.array([word], pa.string()))


def _type(name: str) -> pa.DataType:
    return SCHEMAS[CONTROL].field(name).type


def _own_fields(channel: str) -> list[pa.Field]:
    shared = {*_RECORD_NAMES, *_EVENT_NAMES}
    return [field for field in SCHEMAS[channel] if field.name not in shared]


_RECORD_NAMES = ("topic", "partition", "offset", "ordinal", "timestamp", "key", "headers", "value")
_EVENT_NAMES = ("kind", *schema.WORDS, "ts", "capture_ts", "skew", "clock", "seq")
_OWN_COLUMNS: dict[str, Callable[[list[Any]], dict[str, pa.Array]]] = {
    TICKER: partial(_own_or_null, TICKER),
    TRADES: partial(_own_or_null, TRADES),
    ORDERBOOK: _book_columns,
    CONTROL: partial(_own_or_null, CONTROL),
    WIRE: partial(_own_or_null, WIRE),
}
