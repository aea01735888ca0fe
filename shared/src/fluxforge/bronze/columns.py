"""Log records to Arrow tables, one for each source and channel.

Column by column over many events: a row at a time costs several times more.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

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
from fluxforge.events import KIND_OF
from fluxforge.files.commit import folder_name
from fluxforge.log import Headers, RecordColumns

UNDECODABLE_FOLDER = "_undecodable"
"""In the place of a source: records that do not decode name none."""


class Columns(NamedTuple):
    """Tables by (source folder, channel), each in the order of the records."""

    tables: dict[tuple[str, str], pa.Table]
    undecodable: int


class _Group(NamedTuple):
    """The rows of one table: events of one kind and source, or the errors of records that do not decode.

    fixed   columns of the record that are numbers or words
    values  None where the codec writes the same
    codes   which of `names` each event's words are
    """

    fixed: dict[str, pa.Array]
    headers: Sequence[Headers]
    events: Sequence[Any]
    values: Sequence[bytes | None]
    codes: NDArray[np.int64]
    names: Sequence[tuple[str, ...]]


def ordinals(offsets: Sequence[int]) -> NDArray[np.int32]:
    """Of each record, its place among the neighbours of the same offset: all 0 for records of a log."""
    at = np.arange(len(offsets))
    first = np.diff(np.array(offsets, np.int64), prepend=-1) != 0
    return (at - np.maximum.accumulate(np.where(first, at, 0))).astype(np.int32)


def to_columns(topic: str, records: RecordColumns, ordinals: Sequence[int] | NDArray[np.int32]) -> Columns:
    """The records of one partition as Bronze rows.

    Loses nothing: a record that does not decode becomes a `control` row with its bytes.
    """
    tables: dict[tuple[str, str], list[pa.Table]] = {}
    undecodable = 0
    for (kind, source), group in _groups(topic, records, np.asarray(ordinals, np.int32)):
        channel = CONTROL if kind is CodecError else CHANNEL_OF[kind]
        folder = UNDECODABLE_FOLDER if kind is CodecError else folder_name(source)
        undecodable += len(group.events) if kind is CodecError else 0
        tables.setdefault((folder, channel), []).append(_table(channel, group))
    return Columns({place: _in_order(parts) for place, parts in tables.items()}, undecodable)


def _groups(
    topic: str, records: RecordColumns, ordinals: NDArray[np.int32]
) -> Iterator[tuple[tuple[type[Any], str], _Group]]:
    """The records by kind of event and source; CodecError is the kind of those that are none.

    One look-up finds kind and all words of an event, since few sets of them occur.
    """
    values = records.values
    events = codec.decode_all(values)
    again = codec.encode_all(events)
    kept = (
        [None] * len(events) if again == values else [None if a == b else b for a, b in zip(again, values, strict=True)]
    )
    known = _Numbers()
    codes = np.fromiter(map(known.__getitem__, zip(map(type, events), _all_words(events), strict=True)), np.int64)
    names = [words for _, words in known]
    places = _Numbers()
    place_of = np.array([places[kind, words[_SOURCE]] for kind, words in known])
    of_events = place_of[codes]
    fixed = _record_columns(topic, records, ordinals)
    for place, number in places.items():
        if len(places) == 1:
            yield place, _Group(fixed, records.headers, events, kept, codes, names)
            return
        at = np.flatnonzero(of_events == number)
        pick = itemgetter(*at.tolist()) if len(at) > 1 else partial(_only, int(at[0]))
        mine = {name: column.take(pa.array(at)) for name, column in fixed.items()}
        yield place, _Group(mine, pick(records.headers), pick(events), pick(kept), codes[at], names)


class _Numbers(dict[Any, int]):
    """Numbers what it is asked for, in the order it is first asked."""

    def __missing__(self, key: Any) -> int:
        number = self[key] = len(self)
        return number


def _only(at: int, items: Sequence[Any]) -> tuple[Any, ...]:
    return (items[at],)


def _all_words(events: Sequence[Any]) -> list[tuple[str, ...]]:
    try:
        return list(map(_get_words, events))
    except AttributeError:
        return [_NO_WORDS if isinstance(event, CodecError) else _get_words(event) for event in events]


_get_words: Callable[[Any], tuple[str, ...]] = attrgetter(*schema.WORDS)
_NO_WORDS = ("",) * len(schema.WORDS)
_SOURCE = schema.WORDS.index("source")


def _in_order(parts: list[pa.Table]) -> pa.Table:
    """Tables of several kinds as one, in the order of the records."""
    if len(parts) == 1:
        return parts[0]
    table = pa.concat_tables(parts)
    order = np.lexsort((table.column("ordinal").to_numpy(), table.column("offset").to_numpy()))
    return table.take(order)


def _table(channel: str, group: _Group) -> pa.Table:
    columns = {**group.fixed, "headers": _headers(group.headers, group.events), "value": _values(group.values)}
    if isinstance(group.events[0], CodecError):
        columns |= _undecodable_columns(group)
    else:
        columns |= _event_columns(group) | _OWN_COLUMNS[channel](group.events)
    return pa.table([columns[name] for name in SCHEMAS[channel].names], schema=SCHEMAS[channel])


def _record_columns(topic: str, records: RecordColumns, ordinals: NDArray[np.int32]) -> dict[str, pa.Array]:
    count = len(ordinals)
    return {
        "topic": _constant(topic, count),
        "partition": pa.array(np.full(count, records.partitions[0], np.int32)),
        "offset": pa.array(records.offsets, pa.int64()),
        "ordinal": pa.array(ordinals),
        "timestamp": pa.array(records.timestamps, pa.int64()).cast(_type("timestamp")),
        "key": pa.array(records.keys, pa.binary()).dictionary_encode(),
    }


def _values(kept: Sequence[bytes | None]) -> pa.Array:
    return pa.nulls(len(kept), pa.binary()) if kept.count(None) == len(kept) else pa.array(kept, pa.binary())


def _headers(given: Sequence[Headers], events: Sequence[Any]) -> pa.Array:
    """Null where they are the codec's own."""
    own = None if isinstance(events[0], CodecError) else codec.headers(events[0])
    if given.count(own) == len(given):
        return pa.nulls(len(given), schema.HEADERS)
    rows = [
        None if headers == own else [{"name": name, "value": value} for name, value in headers] for headers in given
    ]
    return pa.array(rows, schema.HEADERS)


def _event_columns(group: _Group) -> dict[str, pa.Array]:
    events = group.events
    columns = {"kind": _constant(KIND_NAMES[KIND_OF[type(events[0])]], len(events))}
    columns |= _identities(group)
    for name in ("ts", "capture_ts"):
        columns[name] = pa.array(_each(name, events), pa.int64()).cast(_type(name))
    for name in ("skew", "clock", "seq"):
        columns[name] = pa.array(_each(name, events), pa.int64())
    return columns


def _identities(group: _Group) -> dict[str, pa.Array]:
    """Who and what the events are of."""
    used, codes = np.unique(group.codes, return_inverse=True)
    columns = {}
    for name, words in zip(schema.WORDS, zip(*(group.names[code] for code in used), strict=True), strict=True):
        distinct: dict[str, int] = {}
        places = np.array([distinct.setdefault(word, len(distinct)) for word in words], np.int32)
        columns[name] = pa.DictionaryArray.from_arrays(pa.array(places[codes]), pa.array(list(distinct), pa.string()))
    return columns


def _undecodable_columns(group: _Group) -> dict[str, pa.Array]:
    count = len(group.events)
    columns = {field.name: pa.nulls(count, field.type) for field in SCHEMAS[CONTROL]}
    for name in _RECORD_NAMES:
        del columns[name]
    return columns | {
        "kind": _constant(UNDECODABLE, count),
        "detail": pa.array(list(map(str, group.events)), pa.string()),
    }


def _book_columns(events: Sequence[Any]) -> dict[str, pa.Array]:
    bid_prices, bid_sizes = _sides([event.bids for event in events])
    ask_prices, ask_sizes = _sides([event.asks for event in events])
    levels = {"bid_prices": bid_prices, "bid_sizes": bid_sizes, "ask_prices": ask_prices, "ask_sizes": ask_sizes}
    return levels | _own_or_null(ORDERBOOK, events, skip=levels)


def _own_or_null(channel: str, events: Sequence[Any], skip: Collection[str] = ()) -> dict[str, pa.Array]:
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


def _each(name: str, events: Sequence[Any]) -> list[Any]:
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
_OWN_COLUMNS: dict[str, Callable[[Sequence[Any]], dict[str, pa.Array]]] = {
    TICKER: partial(_own_or_null, TICKER),
    TRADES: partial(_own_or_null, TRADES),
    ORDERBOOK: _book_columns,
    CONTROL: partial(_own_or_null, CONTROL),
    WIRE: partial(_own_or_null, WIRE),
}
