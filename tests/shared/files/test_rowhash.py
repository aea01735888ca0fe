"""The row hash is of the multiset of rows: order, chunks and encoding do not matter, every bit does."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluxforge.files.rowhash import RowHash, row_hash

SCHEMA = pa.schema(
    [
        ("whole", pa.int64()),
        ("small", pa.int8()),
        ("real", pa.float64()),
        ("flag", pa.bool_()),
        ("time", pa.timestamp("ns", "UTC")),
        ("text", pa.string()),
        ("data", pa.binary()),
        ("levels", pa.list_(pa.float64())),
        ("headers", pa.list_(pa.struct([("name", pa.string()), ("value", pa.binary())]))),
        ("nothing", pa.null()),
    ]
)
NULL = st.none()
HEADERS = st.fixed_dictionaries({"name": NULL | st.text(max_size=3), "value": NULL | st.binary(max_size=9)})
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "whole": NULL | st.integers(-(2**63), 2**63 - 1),
            "small": NULL | st.integers(-128, 127),
            "real": NULL | st.floats(),
            "flag": NULL | st.booleans(),
            "time": NULL | st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1), timezones=st.just(UTC)),
            "text": NULL | st.text(max_size=20),
            "data": NULL | st.binary(max_size=20),
            "levels": NULL | st.lists(NULL | st.sampled_from([0.0, -0.0, 1.0, 2.0, 100.25]), max_size=4),
            "headers": NULL | st.lists(HEADERS, max_size=2),
            "nothing": NULL,
        }
    ),
    max_size=12,
)  # fmt: skip


def table_of(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def bits(value: Any) -> Any:
    """Equal where the value is the same bit for bit."""
    if isinstance(value, float):
        return struct.pack("<d", value)
    if isinstance(value, list):
        return tuple(bits(each) for each in value)
    return tuple(map(bits, value.values())) if isinstance(value, dict) else value


@given(ROWS, st.randoms(use_true_random=False))
def test_order_chunks_and_encoding_do_not_matter(rows: list[dict[str, Any]], random: Any) -> None:
    table = table_of(rows)
    mixed = rows[:]
    random.shuffle(mixed)
    cut = random.randrange(len(rows) + 1)
    parts = [table_of(mixed[:cut]), table_of(mixed[cut:])]
    assert row_hash(parts[0]) + row_hash(parts[1]) == row_hash(table)
    assert row_hash(pa.concat_tables(parts)) == row_hash(table)
    assert row_hash(table.select(SCHEMA.names[::-1])) == row_hash(table)
    coded = table.set_column(5, "text", table["text"].combine_chunks().dictionary_encode())
    assert row_hash(coded) == row_hash(table)
    assert row_hash(pa.concat_tables([table, table]).slice(len(rows))) == row_hash(table)


@given(ROWS, ROWS)
def test_other_rows_have_another_hash(one: list[dict[str, Any]], two: list[dict[str, Any]]) -> None:
    same = sorted(map(repr, map(bits, one))) == sorted(map(repr, map(bits, two)))
    assert (row_hash(table_of(one)) == row_hash(table_of(two))) == same


def test_near_misses_differ() -> None:
    """What a mixing that is too plain would miss: values moved between rows, columns, lists and list places."""
    lists = pa.list_(pa.float64())
    tables = [
        pa.table({"a": [1.0, 2.0], "b": [3.0, 4.0]}),
        pa.table({"a": [2.0, 1.0], "b": [3.0, 4.0]}),
        pa.table({"a": [3.0, 4.0], "b": [1.0, 2.0]}),
        pa.table({"a": [1.0, 2.0], "c": [3.0, 4.0]}),
        pa.table({"a": [1.0, 1.0], "b": [3.0, 3.0]}),
        pa.table({"a": [1.0], "b": [3.0]}),
        pa.table({"a": [0.0], "b": [3.0]}),
        pa.table({"a": [-0.0], "b": [3.0]}),
        pa.table({"a": [None], "b": [3.0]}, schema=pa.schema([("a", pa.float64()), ("b", pa.float64())])),
        *(
            pa.table({"l": pa.array(rows, lists)})
            for rows in ([[1.0, 2.0]], [[2.0, 1.0]], [[1.0], [2.0]], [[1.0, 2.0, 0.0]], [[0.0, 1.0, 2.0]], [[]], [None])
        ),
        *(pa.table({"t": [text]}) for text in ("", "\0", "\0\0", "12345678", "12345678\0", "1234567", "123456781")),
    ]
    assert len({row_hash(table) for table in tables}) == len(tables)


def test_a_changed_bit_anywhere_is_seen_among_many_rows() -> None:
    values = np.arange(200_000, dtype=np.float64)
    before = row_hash(pa.table({"x": values, "y": values[::-1].copy()}))
    for row in (0, 1, 77_777, 199_999):
        for bit in (0, 31, 32, 62, 63):
            changed = values.copy()
            changed.view(np.uint64)[row] ^= np.uint64(1 << bit)
            assert row_hash(pa.table({"x": changed, "y": values[::-1].copy()})) != before


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.int64()), pa.string(), pa.dictionary(pa.int32(), pa.string()), pa.int16()]
)
def test_parts_of_a_chunk_add_up(kind: pa.DataType) -> None:
    """Slices share their buffers, and do not begin at the first value."""
    lists = [[n % 5] * (n % 4) for n in range(100)]
    values = {True: lists, False: [n % 7 for n in range(100)]}[pa.types.is_list(kind)]
    column = pa.array(list(map(str, values)) if "string" in str(kind) else values).cast(kind)
    table = pa.table({"x": column})
    alone = [row_hash(pa.table({"x": column.take(pa.array([n]))})) for n in range(100)]
    assert row_hash(table) == sum(alone, RowHash())
    for at in (1, 37, 99):
        assert row_hash(table.slice(at, 30)) == sum(alone[at : at + 30], RowHash())


def test_as_text_and_back() -> None:
    found = row_hash(pa.table({"x": [1, 2]}))
    assert RowHash.parse(str(found)) == found
    assert str(found).startswith("2-")
    assert row_hash(pa.table({"x": pa.array([], pa.int64())})) == RowHash()


def test_the_same_in_every_run() -> None:
    """It is stored in records, so it must not change."""
    table = pa.table({"x": [1, None], "w": ["a", "longer than eight bytes"], "l": [[0.5], []]})
    assert str(row_hash(table)) == "2-7ce2bdfff70fd8e976a0771e98e59673"


def test_what_is_not_stored_here_is_refused() -> None:
    with pytest.raises(TypeError, match="no row hash of decimal128"):
        row_hash(pa.table({"d": pa.array([1], pa.decimal128(5, 2))}))
