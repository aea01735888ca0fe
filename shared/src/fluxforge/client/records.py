"""Records of a topic as rows: which of them are wanted, and where in history each belongs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import compress
from typing import Protocol, cast

import msgspec
import pyarrow as pa

from fluxforge.client.order import ORDER
from fluxforge.client.piece import Form, Piece, Published, Stored
from fluxforge.client.tables import TAPE, Wanted
from fluxforge.client.tape import trades_of
from fluxforge.errors import CodecError
from fluxforge.log import Record, RecordColumns
from fluxforge.log.protocol import Columns

_VALUE = "value"


class Place(msgspec.Struct, gc=False):
    """What a row is ordered by."""

    capture_ts: int
    exchange: str
    symbol: str
    source: str
    timestamp: int
    source_partition: int = 0
    source_offset: int = 0
    duration: int = 0
    bar_type: str = ""


_json, _msgpack = msgspec.json.Decoder(Place).decode, msgspec.msgpack.Decoder(Place).decode
_PLACES = pa.schema(
    [(name, pa.string() if Place.__annotations__[name] == "str" else pa.int64()) for name in ORDER]
    + [(_VALUE, pa.binary())]
)


def keys_of(records: Sequence[Record]) -> list[bytes | None]:
    """No record is made for it."""
    return records.keys if isinstance(records, Columns) else [record.key for record in records]


def values_of(records: Sequence[Record]) -> list[bytes]:
    """No record is made for it."""
    return records.values if isinstance(records, Columns) else [record.value for record in records]


class Markets:
    """Which records are of wanted markets, as their keys tell; where a key names no market, the row does."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._known: dict[bytes | None, bool | None] = {}
        self.found: set[tuple[str, str]] = set()
        """Exchange and symbol of all that was seen."""

    def mask(self, records: Sequence[Record]) -> list[bool]:
        keys = keys_of(records)
        for key in set(keys) - self._known.keys():
            exchange, bar, symbol = (key or b"").decode(errors="replace").partition("|")
            self._known[key] = self._is_wanted(exchange, symbol) if bar else None
        known = [self._known[key] for key in keys]
        if None not in known:
            return cast(list[bool], known)
        values = values_of(records)
        return [self._row(value) if told is None else told for told, value in zip(known, values, strict=True)]

    def _is_wanted(self, exchange: str, symbol: str) -> bool:
        self.found.add((exchange, symbol))
        return self._wanted.market(exchange, symbol)

    def _row(self, value: bytes) -> bool:
        place = _place(value)
        return self._is_wanted(place.exchange, place.symbol)


class Reading(Protocol):
    """How a topic's records become rows."""

    def piece(self, records: Sequence[Record], mask: Iterable[bool]) -> Piece:
        """The rows of those records that the mask lets pass."""

    def held(self, records: Sequence[Record], mask: Iterable[bool]) -> pa.Table:
        """The same with what orders them, for `order.Held`."""

    def released(self, table: pa.Table) -> Piece:
        """The rows of what was held."""


class RowReading:
    """A record is a row."""

    def __init__(self, form: Form) -> None:
        self._form = form

    def piece(self, records: Sequence[Record], mask: Iterable[bool]) -> Piece:
        return Published(list(compress(values_of(records), mask)), self._form)

    def held(self, records: Sequence[Record], mask: Iterable[bool]) -> pa.Table:
        """Raises CodecError for a row that does not say where it belongs."""
        values = list(compress(values_of(records), mask))
        places = [msgspec.structs.astuple(_place(value)) for value in values]
        columns = dict(zip(Place.__struct_fields__, zip(*places, strict=True), strict=True)) if values else {}
        return pa.table(
            [pa.array(columns.get(name, ()), _PLACES.field(name).type) for name in ORDER]
            + [pa.array(values, pa.binary())],
            schema=_PLACES,
        )

    def released(self, table: pa.Table) -> Piece:
        return Published(table[_VALUE].to_pylist(), self._form)


class TapeReading:
    """Some records are trades."""

    def __init__(self, form: Form) -> None:
        self._form = form

    def piece(self, records: Sequence[Record], mask: Iterable[bool]) -> Piece:
        return self.released(self.held(records, mask))

    def held(self, records: Sequence[Record], mask: Iterable[bool]) -> pa.Table:
        return trades_of(RecordColumns.of(records), mask)

    def released(self, table: pa.Table) -> Piece:
        return Stored(table, self._form)


def reading(table: str, form: Form) -> Reading:
    """Of the table's topic."""
    return TapeReading(form) if table == TAPE else RowReading(form)


def _place(value: bytes) -> Place:
    try:
        return _json(value) if value[:1] == b"{" else _msgpack(value)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CodecError(f"a row of {len(value)} bytes has no place in history: {error}") from error
