"""Prices and sizes of books as integers, where that loses nothing: half the bytes of doubles on disk.

A price that an exchange writes with k digits is the double nearest to n / 10^k; the integer n is stored, and the
division gives the same double back. Each symbol's rows of a row group share one k for prices and one for sizes; where
no k up to 12 gives back every bit, the scale is null from there on and the doubles stand in columns of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

SIDES: Final = {
    "price_scale": ("bid_prices", "ask_prices"),
    "size_scale": ("bid_sizes", "ask_sizes"),
}
"""Each scale column, and the lists of doubles it is for."""
INTEGERS: Final = tuple(name for names in SIDES.values() for name in names)
MOST_DIGITS = 12
SAMPLE = 2_000
_EXACT = 2.0**53
_BLOCK = 16_384
"""Values at once: what lies between stays in the cache."""
_POWERS = np.array([10.0**k for k in range(MOST_DIGITS + 1)])


def schema_of(plain: pa.Schema) -> pa.Schema:
    """How a schema with the four lists is stored."""
    fields = [pa.field(f.name, pa.list_(pa.int64())) if f.name in INTEGERS else f for f in plain]
    fields += [pa.field(name, pa.int8()) for name in SIDES]
    fields += [pa.field(f"{name}_double", pa.list_(pa.float64())) for name in INTEGERS]
    return pa.schema(fields, plain.metadata)


class Scaler:
    """Encodes the tables of one file. It remembers the digits of each symbol, so that most tables need one pass."""

    def __init__(self, plain: pa.Schema) -> None:
        self.schema = schema_of(plain)
        self._digits: dict[tuple[str, str, str], int] = {}

    def encode(self, table: pa.Table) -> pa.Table:
        """The table as it is stored."""
        columns = {name: table.column(name) for name in table.column_names}
        symbols, of_rows = _symbols(table)
        for scale, names in SIDES.items():
            lists = [columns[name].combine_chunks() for name in names]
            counts = [np.diff(np.asarray(each.offsets)) for each in lists]
            doubles = [np.asarray(each.flatten()) for each in lists]
            digits = np.array([self._digits.get((scale, *symbol), 0) for symbol in symbols], np.int64)
            integers = _known_digits(doubles, counts, digits[of_rows])
            if integers is None:
                values = np.concatenate(doubles)
                owners = np.concatenate([np.repeat(of_rows, count) for count in counts])
                few = slice(None, None, 1 + len(values) // SAMPLE)
                _to_integers(values[few], owners[few], digits)  # finds nearly all digits on a few values
                integers = np.split(_to_integers(values, owners, digits), [len(doubles[0])])
                self._digits |= {(scale, *symbol): k for symbol, k in zip(symbols, digits.tolist(), strict=True)}
            scales = digits[of_rows]
            whole = scales >= 0
            columns[scale] = pa.array(scales.astype(np.int8), mask=~whole)
            for name, each, count, mine in zip(names, lists, counts, integers, strict=True):
                columns[name], columns[f"{name}_double"] = _either(each, mine, count, whole)
        return pa.table([columns[name] for name in self.schema.names], schema=self.schema)


def decode(table: pa.Table) -> pa.Table:
    """The stored table with lists of doubles again; one without scales is as it was."""
    if not is_stored(table):
        return table
    columns = {
        name: table.column(name) for name in table.column_names if name not in SIDES and not name.endswith("_double")
    }
    for scale, names in SIDES.items():
        scales = table.column(scale).combine_chunks()
        whole = np.asarray(scales.is_valid())
        powers = _POWERS[np.asarray(scales.fill_null(0)).astype(np.intp)]
        for name in names:
            columns[name] = _doubles(table.column(name), table.column(f"{name}_double"), powers, whole)
    return pa.table(columns)


def is_stored(table: pa.Table) -> bool:
    """Whether its books are as they are stored."""
    return "price_scale" in table.column_names


def _symbols(table: pa.Table) -> tuple[list[tuple[str, str]], NDArray[np.int64]]:
    """The (exchange, native symbol)s there are, and which one each row is of."""
    words = [table.column(name).combine_chunks() for name in ("exchange", "native")]
    codes = np.zeros(table.num_rows, np.int64)
    for word in words:
        codes = codes * max(len(word.dictionary), 1) + np.asarray(word.indices)
    distinct, of_rows = np.unique(codes, return_inverse=True)
    inner = max(len(words[1].dictionary), 1)
    named = [
        tuple(str(w.dictionary[int(c)]) for w, c in zip(words, divmod(code, inner), strict=True)) for code in distinct
    ]
    return named, of_rows.astype(np.int64)  # type: ignore[return-value]


def _known_digits(
    sides: Sequence[NDArray[np.float64]], counts: Sequence[NDArray[np.int32]], digits: NDArray[np.int64]
) -> list[NDArray[np.int64]] | None:
    """The values of each side times 10^digits of their rows; None where one would not come back bit for bit."""
    if (digits < 0).any():
        return None
    found = []
    for values, count in zip(sides, counts, strict=True):
        powers = np.repeat(_POWERS[digits], count)
        integers = np.empty(len(values), np.int64)
        for start in range(0, len(values), _BLOCK):
            block = slice(start, start + _BLOCK)
            with np.errstate(over="ignore", invalid="ignore"):
                nearest = np.rint(values[block] * powers[block])
                integers[block] = nearest
                back = integers[block] / powers[block]
            if not (
                np.array_equal(back.view(np.int64), values[block].view(np.int64)) and np.abs(nearest).max() < _EXACT
            ):
                return None
        found.append(integers)
    return found


def _to_integers(
    values: NDArray[np.float64], owners: NDArray[np.int64], digits: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Each value times 10^digits of its owner; raises `digits` until all values of an owner come back bit for bit.

    -1 digits, and no integers of use, for an owner where none do.
    """
    while True:
        told = digits[owners]
        powers = _POWERS[np.maximum(told, 0)]
        with np.errstate(over="ignore", invalid="ignore"):
            nearest = np.rint(values * powers)
            integers: NDArray[np.int64] = nearest.astype(np.int64)
            back = integers / powers
            lost = (back.view(np.int64) != values.view(np.int64)) | ~(np.abs(nearest) < _EXACT)
        lost &= told >= 0
        if not lost.any():
            return integers
        short = np.zeros(len(digits), bool)
        short[owners[lost]] = True
        digits[short] = np.where(digits[short] < MOST_DIGITS, digits[short] + 1, -1)


def _either(
    doubles: pa.ListArray, integers: NDArray[np.int64], counts: NDArray[np.int32], whole: NDArray[np.bool_]
) -> tuple[pa.Array, pa.Array]:
    """The integers of rows that have a scale, the doubles of the others, each null where the other is."""
    if whole.all():
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        return pa.ListArray.from_arrays(pa.array(offsets), pa.array(integers)), pa.nulls(len(counts), doubles.type)
    kept = np.repeat(whole, counts)
    values = np.asarray(doubles.flatten())
    return _lists(integers[kept], counts, whole), _lists(values[~kept], counts, ~whole)


def _lists(values: NDArray[np.generic], counts: NDArray[np.int32], there: NDArray[np.bool_]) -> pa.ListArray:
    offsets = np.concatenate([[0], np.cumsum(np.where(there, counts, 0))]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values), mask=pa.array(~there))


def _doubles(
    integers: pa.ChunkedArray, doubles: pa.ChunkedArray, powers: NDArray[np.float64], whole: NDArray[np.bool_]
) -> pa.ListArray:
    scaled, plain = integers.combine_chunks(), doubles.combine_chunks()
    counts = np.asarray(scaled.value_lengths().fill_null(0), np.int64)
    values = np.asarray(scaled.flatten()) / np.repeat(powers, counts)
    if whole.all():
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values))
    both = np.where(whole, counts, np.asarray(plain.value_lengths().fill_null(0), np.int64))
    merged = np.empty(int(both.sum()), "<f8")
    of_scaled = np.repeat(whole, both)
    merged[of_scaled], merged[~of_scaled] = values, np.asarray(plain.flatten())
    return pa.ListArray.from_arrays(pa.array(np.concatenate([[0], np.cumsum(both)]).astype(np.int32)), pa.array(merged))
