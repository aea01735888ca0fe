"""Some rows on their way out, in the form they came in, to be had as rows or as columns."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from itertools import chain
from typing import Any, Protocol

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fluxforge import rows
from fluxforge.client.order import TIME, selected
from fluxforge.client.row import Row
from fluxforge.errors import CodecError

_CHUNK = 128
"""Rows whose cells are transposed at once: as many as the caches hold."""
_TYPES: dict[pa.DataType, Any] = {
    pa.int64(): int | None,
    pa.int32(): int | None,
    pa.float64(): float | None,
    pa.string(): str | None,
    pa.bool_(): bool | None,
}


class Piece(Protocol):
    """Rows of one table."""

    def __len__(self) -> int: ...

    def rows(self) -> list[Row]: ...

    def arrow(self) -> pa.Table:
        """With the columns that the table has under the configuration."""


class Stored:
    """Rows that are an Arrow table already."""

    def __init__(self, table: pa.Table, form: Form) -> None:
        columns = form.columns
        self._table = table if columns is None else table.select(selected(table.schema.names, columns))
        self._form = form

    def __len__(self) -> int:
        count: int = self._table.num_rows
        return count

    def rows(self) -> list[Row]:
        names = self._table.schema.names
        columns = [self._table[name].to_pylist() for name in names]
        make = self._form.row
        return [make(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]

    def arrow(self) -> pa.Table:
        schema, there = self._form.schema, set(self._table.schema.names)
        columns = [
            self._table[field.name].cast(field.type)
            if field.name in there
            else pa.nulls(self._table.num_rows, field.type)
            for field in schema
        ]
        return pa.table(columns, schema=schema)


class Published:
    """Rows as a topic has them, JSON or msgpack."""

    def __init__(self, values: Sequence[bytes], form: Form) -> None:
        self._values, self._form = values, form

    def __len__(self) -> int:
        return len(self._values)

    def rows(self) -> list[Row]:
        """With every column that was published."""
        make, columns = self._form.row, self._form.columns
        found = [make(rows.decode(value)) for value in self._values]
        if columns is None:
            return found
        return [make((name, row[name]) for name in selected(row, columns)) for row in found]

    def arrow(self) -> pa.Table:
        return self._form.decoder.table(self._values)


class Together:
    """Several pieces as one."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self._pieces = pieces

    def __len__(self) -> int:
        return sum(map(len, self._pieces))

    def rows(self) -> list[Row]:
        return [row for piece in self._pieces for row in piece.rows()]

    def arrow(self) -> pa.Table:
        """Not of nothing: at least one piece."""
        return pa.concat_tables([piece.arrow() for piece in self._pieces])


class Since:
    """Of a piece what was captured at `first`, ns, or later."""

    def __init__(self, piece: Piece, first: int) -> None:
        self._piece, self._first = piece, first

    def __len__(self) -> int:
        """At most so many."""
        return len(self._piece)

    def rows(self) -> list[Row]:
        return [row for row in self._piece.rows() if row.capture_ts >= self._first]

    def arrow(self) -> pa.Table:
        table = self._piece.arrow()
        return table.filter(pc.greater_equal(table[TIME], self._first))


class Form:
    """What rows of a stream look like.

    table    their schema under the configuration
    row      the type of a row
    columns  what is asked for besides what names and orders a row; None: all
    """

    def __init__(self, table: pa.Schema, row: type[Row], columns: Sequence[str] | None) -> None:
        self._table, self.row, self.columns = table, row, columns

    @cached_property
    def schema(self) -> pa.Schema:
        """Of the columns that are asked for. Raises ConfigError where the configuration knows none of that name."""
        if self.columns is None:
            return self._table
        return pa.schema([self._table.field(name) for name in selected(self._table.names, self.columns)])

    @cached_property
    def decoder(self) -> Decoder:
        return Decoder(self.schema)


class Decoder:
    """Published values to a table of some schema; without columns that it does not know, null where a row has none."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        floats = [field.name for field in schema if pa.types.is_floating(field.type)]
        others = [field.name for field in schema if field.name not in set(floats)]
        self._names, self._floats = (*floats, *others), len(floats)
        fields = [(name, _TYPES.get(schema.field(name).type, Any), None) for name in self._names]
        made = msgspec.defstruct("Cells", fields, gc=False)
        self._json = msgspec.json.Decoder(made).decode
        self._msgpack = msgspec.msgpack.Decoder(made).decode

    def table(self, values: Sequence[bytes]) -> pa.Table:
        """Raises CodecError for bytes that are no row of this table."""
        count, width = len(values), len(self._names)
        floats = np.empty((self._floats, count))
        others: list[list[Any]] = [[] for _ in range(width - self._floats)]
        for at in range(0, count, _CHUNK):
            found = self._decoded(values[at : at + _CHUNK])
            flat = chain.from_iterable(map(msgspec.structs.astuple, found))
            cells = np.fromiter(flat, object, len(found) * width).reshape(len(found), width)
            floats[:, at : at + _CHUNK] = cells[:, : self._floats].astype(np.float64).T  # null becomes NaN
            for column, more in zip(others, cells[:, self._floats :].T, strict=True):
                column.extend(more.tolist())
        columns = dict(zip(self._names, (*floats, *others), strict=True))
        arrays = [pa.array(columns[field.name], field.type, from_pandas=True) for field in self._schema]
        return pa.table(arrays, schema=self._schema)

    def _decoded(self, values: Sequence[bytes]) -> list[Any]:
        with suppress(msgspec.MsgspecError, UnicodeDecodeError):
            return list(map(self._json, values))
        try:  # one of them is msgpack, or no row
            return [self._json(value) if value[:1] == b"{" else self._msgpack(value) for value in values]
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise CodecError(f"bytes that are no row: {error}") from error
