"""Log records to Arrow tables, one for each source and channel.

Column by column over many events: a row at a time costs several times more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from fluxforge import codec
from fluxforge.bronze import schema
from fluxforge.bronze.schema import CHANNEL_OF, CONTROL, KIND_NAMES, ORDERBOOK, SCHEMAS, TICKER, TRADES, UNDECODABLE
from fluxforge.errors import CodecError
from fluxforge.events import KIND_OF, AnyEvent, BookSnapshot, Reset
from fluxforge.files.commit import folder_name
from fluxforge.log import Record

UNDECODABLE_FOLDER = "_undecodable"
"""In the place of a source: records that do not decode name none."""


class Place(NamedTuple):
    """Where the last row stood: its offset, and its ordinal among that offset's rows."""

    offset: int
    ordinal: int


NOWHERE = Place(-1, 0)


class _Row(NamedTuple):
    record: Record
    ordinal: int
    event: AnyEvent | None
    value: bytes | None
    detail: str = ""


class Columns(NamedTuple):
    """Tables by (source folder, channel), each in the order of the records, and the place of the last."""

    tables: dict[tuple[str, str], pa.Table]
    last: Place
    undecodable: int


def to_columns(topic: str, records: Sequence[Record], after: Place = NOWHERE) -> Columns:
    """The records of one partition as Bronze rows; `after` is the place of the row before them.

    Loses nothing: a record that does not decode becomes a `control` row with its bytes.
    """
    groups: dict[tuple[str, str], list[_Row]] = {}
    folders: dict[str, str] = {}
    last, undecodable = after, 0
    for record in records:
        last = Place(record.offset, last.ordinal + 1 if record.offset == last.offset else 0)
        row = _row(record, last.ordinal)
        if row.event is None:
            undecodable += 1
            group = (UNDECODABLE_FOLDER, CONTROL)
        else:
            source = row.event.source
            folder = folders.get(source) or folders.setdefault(source, folder_name(source))
            group = (folder, CHANNEL_OF[type(row.event)])
        groups.setdefault(group, []).append(row)
    tables = {group: _table(topic, group[1], rows) for group, rows in groups.items()}
    return Columns(tables, last, undecodable)


def _row(record: Record, ordinal: int) -> _Row:
    try:
        event = codec.decode(record.value)
    except CodecError as error:
        return _Row(record, ordinal, None, record.value, str(error))
    return _Row(record, ordinal, event, None if codec.encode(event) == record.value else record.value)


def _table(topic: str, channel: str, rows: list[_Row]) -> pa.Table:
    events = [row.event for row in rows]
    columns = _record_columns(topic, rows)
    if None in events:
        columns |= _undecodable_columns(rows)
    else:
        columns |= _event_columns(events) | _OWN_COLUMNS[channel](events)
    return pa.table([columns[name] for name in SCHEMAS[channel].names], schema=SCHEMAS[channel])


def _record_columns(topic: str, rows: list[_Row]) -> dict[str, pa.Array]:
    records = [row.record for row in rows]
    count = len(rows)
    return {
        "topic": _constant(topic, count),
        "partition": pa.array([record.partition for record in records], pa.int32()),
        "offset": pa.array([record.offset for record in records], pa.int64()),
        "ordinal": pa.array([row.ordinal for row in rows], pa.int32()),
        "timestamp": pa.array([record.timestamp for record in records], pa.int64()).cast(_type("timestamp")),
        "key": pa.array([record.key for record in records], pa.binary()).dictionary_encode(),
        "headers": _headers(rows),
        "value": pa.array([row.value for row in rows], pa.binary()),
    }


def _headers(rows: list[_Row]) -> pa.Array:
    own = [
        None if row.event is not None and row.record.headers == codec.headers(row.event) else row.record.headers
        for row in rows
    ]
    if not any(own) and () not in own:
        return pa.nulls(len(rows), schema.HEADERS)
    as_rows = [None if one is None else [{"name": name, "value": value} for name, value in one] for one in own]
    return pa.array(as_rows, schema.HEADERS)


def _event_columns(events: list[Any]) -> dict[str, pa.Array]:
    kinds = [int(KIND_OF[type(event)]) for event in events]
    columns = {"kind": pa.DictionaryArray.from_arrays(pa.array(kinds, pa.int32()), list(KIND_NAMES.values()))}
    for name in schema.WORDS:
        columns[name] = _words(_each(name, events))
    for name in ("ts", "capture_ts"):
        columns[name] = pa.array(_each(name, events), pa.int64()).cast(_type(name))
    for name in ("skew", "clock", "seq"):
        columns[name] = pa.array(_each(name, events), pa.int64())
    return columns


def _undecodable_columns(rows: list[_Row]) -> dict[str, pa.Array]:
    columns = {field.name: pa.nulls(len(rows), field.type) for field in SCHEMAS[CONTROL]}
    for name in _RECORD_NAMES:
        del columns[name]
    return columns | {
        "kind": _constant(UNDECODABLE, len(rows)),
        "detail": pa.array([row.detail for row in rows], pa.string()),
    }


def _ticker_columns(events: list[Any]) -> dict[str, pa.Array]:
    return {f.name: pa.array(_each(f.name, events), f.type) for f in _own_fields(TICKER)}


def _trade_columns(events: list[Any]) -> dict[str, pa.Array]:
    return {f.name: pa.array(_each(f.name, events), f.type) for f in _own_fields(TRADES)}


def _book_columns(events: list[Any]) -> dict[str, pa.Array]:
    snapshot = [isinstance(event, BookSnapshot) for event in events]
    pairs = list(zip(events, snapshot, strict=True))
    bid_prices, bid_sizes = _sides([event.bids for event in events])
    ask_prices, ask_sizes = _sides([event.asks for event in events])
    return {
        "bid_prices": bid_prices,
        "bid_sizes": bid_sizes,
        "ask_prices": ask_prices,
        "ask_sizes": ask_sizes,
        "refresh": pa.array([event.refresh if whole else None for event, whole in pairs], pa.bool_()),
        "conflated": pa.array([event.conflated if whole else None for event, whole in pairs], pa.bool_()),
        "updates": pa.array([event.updates if whole else None for event, whole in pairs], pa.int64()),
        "first_seq": pa.array([None if whole else event.first_seq for event, whole in pairs], pa.int64()),
    }


def _control_columns(events: list[Any]) -> dict[str, pa.Array]:
    resets = [event if isinstance(event, Reset) else None for event in events]
    return {
        "reason": _words([event and event.reason for event in resets]),
        "incomplete": pa.array([event and event.incomplete for event in resets], pa.bool_()),
        "detail": pa.array([event and event.detail for event in resets], pa.string()),
    }


def _sides(blobs: list[bytes]) -> tuple[pa.Array, pa.Array]:
    """Prices and sizes of one book side of many events, as list columns."""
    pairs = np.frombuffer(b"".join(blobs), "<f8").reshape(-1, 2)
    ends = np.zeros(len(blobs) + 1, np.int32)
    np.cumsum([len(blob) >> 4 for blob in blobs], out=ends[1:])
    offsets = pa.array(ends)
    return tuple(pa.ListArray.from_arrays(offsets, pa.array(np.ascontiguousarray(pairs[:, i]))) for i in (0, 1))  # type: ignore[return-value]


def _each(name: str, events: list[Any]) -> list[Any]:
    return list(map(attrgetter(name), events))


def _words(words: Iterable[str | None]) -> pa.Array:
    return pa.array(words, pa.string()).dictionary_encode()


def _constant(word: str, count: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), [word])


def _type(name: str) -> pa.DataType:
    return SCHEMAS[CONTROL].field(name).type


def _own_fields(channel: str) -> list[pa.Field]:
    shared = {*_RECORD_NAMES, *_EVENT_NAMES}
    return [field for field in SCHEMAS[channel] if field.name not in shared]


_RECORD_NAMES = ("topic", "partition", "offset", "ordinal", "timestamp", "key", "headers", "value")
_EVENT_NAMES = ("kind", *schema.WORDS, "ts", "capture_ts", "skew", "clock", "seq")
_OWN_COLUMNS: dict[str, Callable[[list[Any]], dict[str, pa.Array]]] = {
    TICKER: _ticker_columns,
    TRADES: _trade_columns,
    ORDERBOOK: _book_columns,
    CONTROL: _control_columns,
}
