"""A hash of the rows of a table, whatever their order, their chunks and their encoding.

Each row becomes 64 bits, and those of all rows are summed under two mixes: equal multisets of rows have equal hashes,
and hashes of parts add up to that of the whole. It tells rows that were lost, doubled or changed by mistake; it is no
defence against an adversary. Values are taken bit by bit, so -0.0 is not 0.0. Columns count by name, in any order.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fluxforge.kernels.compiled import njit, read_only

Words = NDArray[np.uint64]

_BLOCK_BYTES = 1 << 20
"""Of the widest column, worked on at once: what a core's cache holds."""
_BLOCK_ROWS = 1 << 15
_MASK = (1 << 64) - 1
_BASE = np.uint64(0x9E3779B97F4A7C15)
_SPREAD = np.uint64(0xBF58476D1CE4E5B9)
_NULL = np.uint64(0xA0761D6478BD642F)
_LENGTH = np.uint64(0xE7037ED1A0B428DB)
_PRESENT = 0x8EBC6AF09C88C6E3
"""What a column adds to every row, so that one of zeros is not one that is missing."""
_MIXES = ((0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53), (0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
"""Multipliers of MurmurHash3's and of SplitMix64's finalizers."""


@dataclass(frozen=True)
class RowHash:
    """The number of rows and two sums modulo 2^64."""

    rows: int = 0
    first: int = 0
    second: int = 0

    def __add__(self, other: RowHash) -> RowHash:
        return RowHash(self.rows + other.rows, self.first + other.first & _MASK, self.second + other.second & _MASK)

    def __str__(self) -> str:
        return f"{self.rows}-{self.first:016x}{self.second:016x}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """What `str` gave."""
        rows, sums = text.split("-")
        return cls(int(rows), int(sums[:16], 16), int(sums[16:], 16))


def row_hash(table: pa.Table) -> RowHash:
    """The hash of a table's rows. Raises TypeError for a column of a type that is not stored here."""
    if not table.num_rows:
        return RowHash()
    widest = max((column.nbytes for column in table.columns), default=0) / table.num_rows
    size = int(min(max(_BLOCK_BYTES / max(widest, 1), 64), _BLOCK_ROWS))
    seed = sum(int(_weight(name)) * _PRESENT for name in table.column_names) & _MASK
    first = second = 0
    for batch in table.to_batches(max_chunksize=size):
        rows = np.full(batch.num_rows, seed, np.uint64)
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            rows += _same_or_each(column) * _weight(name)
        first += _sum(rows, *_MIXES[0])
        second += _sum(rows, *_MIXES[1])
    return RowHash(table.num_rows, first & _MASK, second & _MASK)


def _sum(rows: Words, one: int, two: int) -> int:
    return int(np.add.reduce(_mixed(rows, one, two), dtype=np.uint64))


def _mixed(values: Words, one: int, two: int) -> Words:
    mixed = values ^ (values >> np.uint64(31))
    mixed *= np.uint64(one)
    mixed ^= mixed >> np.uint64(30)
    mixed *= np.uint64(two)
    mixed ^= mixed >> np.uint64(33)
    return mixed


@cache
def _weight(name: str) -> np.uint64:
    """An odd number for each column name."""
    return np.uint64(int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little") | 1)


def _same_or_each(array: pa.Array) -> Words:
    """One word where a look tells that all values are the same, nulls or a dictionary's only one; else a word each."""
    if array.null_count == len(array):
        return np.full(1, _NULL)
    if pa.types.is_dictionary(array.type) and len(array.dictionary) == 1 and not array.null_count:
        return _values(array.dictionary)
    return _values(array)


def _values(array: pa.Array) -> Words:
    """64 bits for each value; their high bits reach the low ones, as sums carry upwards only."""
    kind = array.type
    if array.null_count == len(array):
        return np.full(len(array), _NULL)
    if pa.types.is_dictionary(kind):
        return _of_words(array)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        found = _of_lists(array)
    elif pa.types.is_struct(kind):
        found = np.zeros(len(array), np.uint64)
        for field, part in zip(kind, array.flatten(), strict=True):
            found += _values(part) * _weight(field.name)
    elif pa.types.is_binary(kind) or pa.types.is_string(kind) or _is_large(kind):
        found = _of_bytes(array)
    else:
        found = _of_bits(array)
    return _nulled(found, array)


def _nulled(values: Words, array: pa.Array) -> Words:
    return np.where(np.asarray(array.is_valid()), values, _NULL) if array.null_count else values


def _of_bits(array: pa.Array) -> Words:
    if pa.types.is_boolean(array.type):
        array = array.cast(pa.uint8())
    width = getattr(array.type, "bit_width", 0)
    if width not in (8, 16, 32, 64):
        raise TypeError(f"no row hash of {array.type} values")
    bits = np.frombuffer(array.buffers()[1], f"<u{width // 8}", len(array), array.offset * width // 8)
    values = bits.astype(np.uint64, copy=False)
    return values ^ (values >> np.uint64(32))


def _of_words(array: pa.DictionaryArray) -> Words:
    words = np.append(_values(array.dictionary), _NULL)
    indices = array.indices.fill_null(len(words) - 1) if array.indices.null_count else array.indices
    found: Words = words[np.asarray(indices)]
    return found


def _of_lists(array: Any) -> Words:
    ends = np.asarray(array.offsets, np.int64)
    found = np.empty(len(array), np.uint64)
    _fold(read_only(_values(array.values.slice(ends[0], ends[-1] - ends[0]))), read_only(ends), found)
    return found


def _of_bytes(array: pa.Array) -> Words:
    width = 8 if _is_large(array.type) else 4
    ends = np.frombuffer(array.buffers()[1], f"<i{width}", len(array) + 1, array.offset * width).astype(np.int64)
    data = np.frombuffer(array.buffers()[2] or b"", np.uint8)
    found = np.empty(len(array), np.uint64)
    _fold_bytes(read_only(data), read_only(ends), found)
    return found


@njit  # type: ignore[untyped-decorator]
def _fold(values: Words, ends: NDArray[np.int64], found: Words) -> None:
    """One word for each run of values, `values` beginning with the first: a polynomial of them, and their number."""
    for row in range(len(found)):
        total, power = np.uint64(0), np.uint64(1)
        for at in range(ends[row] - ends[0], ends[row + 1] - ends[0]):
            total += _spread(values[at]) * power
            power *= _BASE
        total += np.uint64(ends[row + 1] - ends[row]) * _LENGTH
        found[row] = total ^ (total >> np.uint64(32))


@njit  # type: ignore[untyped-decorator]
def _fold_bytes(data: NDArray[np.uint8], ends: NDArray[np.int64], found: Words) -> None:
    """The same of bytes, eight at a time, the last ones filled up with zeros."""
    for row in range(len(found)):
        total, power = np.uint64(0), np.uint64(1)
        at, end = ends[row], ends[row + 1]
        while at < end:
            word = np.uint64(0)
            if end - at >= 8:
                for k in range(8):
                    word |= np.uint64(data[at + k]) << np.uint64(8 * k)
            else:
                for k in range(end - at):
                    word |= np.uint64(data[at + k]) << np.uint64(8 * k)
            total += _spread(word) * power + _LENGTH
            power *= _BASE
            at += 8
        found[row] = total ^ (total >> np.uint64(32)) ^ np.uint64(end - ends[row])


@njit  # type: ignore[untyped-decorator]
def _spread(value: np.uint64) -> np.uint64:
    mixed = value * _SPREAD
    return mixed ^ (mixed >> np.uint64(29))


def _is_large(kind: pa.DataType) -> bool:
    return bool(pa.types.is_large_binary(kind) or pa.types.is_large_string(kind))
