"""Books as scaled integers: every bit back, whatever the numbers; integers wherever they are decimals."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from fluxforge.bronze import record_of, to_columns
from fluxforge.bronze.columns import ordinals
from fluxforge.bronze.read import read_tables
from fluxforge.bronze.scaled import INTEGERS, Scaler, decode
from fluxforge.bronze.schema import SCHEMAS, parquet_format
from fluxforge.events import BookDelta
from fluxforge.files import Chain, ChainId, Tree, commits, parquet
from fluxforge.log import RecordColumns

ID = ChainId("log", "market.raw", 0)
Level = tuple[float, float]
doubles = st.one_of(
    st.floats(),
    st.integers(0, 2**64 - 1).map(lambda bits: struct.unpack("<d", struct.pack("<Q", bits))[0]),
    st.sampled_from([0.0, -0.0, 5e-324, 2.0**53, 2.0**53 + 2, 1e22, 1e300, 0.1 + 0.2]),
)
decimals = st.builds(lambda n, k: n / 10**k, st.integers(0, 10**7), st.integers(0, 8))


def delta(native: str, bids: list[Level], asks: list[Level]) -> BookDelta:
    return BookDelta(
        exchange="x", symbol=native, native=native, source="x", collector="c", connection="1", ts=1, capture_ts=2,
        bids=np.array(bids, "<f8").tobytes(), asks=np.array(asks, "<f8").tobytes(),
    )  # fmt: skip


def table(books: list[tuple[str, list[Level], list[Level]]]) -> pa.Table:
    records = RecordColumns.of([record_of(delta(*book), at) for at, book in enumerate(books)])
    return to_columns("market.raw", records, ordinals(records.offsets)).tables["x", "orderbook"]


def bits(of: pa.Table) -> list[bytes]:
    return [np.asarray(of.column(name).combine_chunks().flatten()).tobytes() for name in INTEGERS]


def levels(numbers: st.SearchStrategy[float]) -> st.SearchStrategy[list[Level]]:
    return st.lists(st.tuples(numbers, numbers), max_size=5)


books = st.lists(
    st.one_of(
        st.tuples(st.just("ODD"), levels(doubles), levels(doubles)),
        st.tuples(st.sampled_from(["A", "B"]), levels(decimals), levels(decimals)),
    ),
    min_size=1,
    max_size=12,
)


@given(st.lists(books, min_size=1, max_size=3))
def test_every_bit_comes_back(groups: list[list[tuple[str, list[Level], list[Level]]]]) -> None:
    """Also through files, and though a scaler remembers what it has seen."""
    scaler = Scaler(SCHEMAS["orderbook"])
    for group in groups:
        plain = table(group)
        stored = scaler.encode(plain)
        assert stored.schema == scaler.schema
        sink = pa.BufferOutputStream()
        pq.write_table(stored, sink)
        back = decode(pq.read_table(pa.BufferReader(sink.getvalue())))
        assert back.column_names == plain.column_names
        assert bits(back) == bits(plain)
        for name in INTEGERS:
            assert (
                back.column(name).combine_chunks().value_lengths()
                == plain.column(name).combine_chunks().value_lengths()
            )


@given(st.lists(st.tuples(st.sampled_from(["A", "B"]), levels(decimals), levels(decimals)), min_size=1, max_size=12))
def test_decimals_are_integers(found: list[tuple[str, list[Level], list[Level]]]) -> None:
    stored = Scaler(SCHEMAS["orderbook"]).encode(table(found))
    assert stored.column("price_scale").null_count == stored.column("size_scale").null_count == 0
    assert all(stored.column(f"{name}_double").null_count == stored.num_rows for name in INTEGERS)


def test_each_symbol_has_its_own_digits_and_one_odd_price_costs_only_its_own() -> None:
    stored = Scaler(SCHEMAS["orderbook"]).encode(
        table(
            [
                ("BTC", [(61837.63, 3.78826)], [(61837.64, 1.0)]),
                ("SHIB", [(0.00001234, 5.0)], []),
                ("ODD", [(1 / 3, 2.0)], [(0.5, 0.25)]),
                ("BTC", [], [(61838.0, 0.5)]),
            ]
        )
    )
    assert stored.column("price_scale").to_pylist() == [2, 8, None, 2]
    assert stored.column("size_scale").to_pylist() == [5, 0, 2, 5]
    assert stored.column("bid_prices").to_pylist() == [[6183763], [1234], None, []]
    assert stored.column("bid_prices_double").to_pylist() == [None, None, [1 / 3], None]
    assert stored.column("ask_sizes").to_pylist() == [[100000], [], [25], [50000]]


def test_files_of_the_first_layout_are_still_read(tmp_path: Path) -> None:
    """Lists of doubles, as they were stored before."""
    plain = table([("A", [(1.5, 2.0)], []), ("A", [(1 / 3, 1.0)], [(2.0, 1.0)])])
    tree = Tree.local(tmp_path)
    with Chain.open(tree, ID, first=0) as chain:
        segment = chain.segment("x/orderbook", parquet(SCHEMAS["orderbook"]), meta={"channel": "orderbook"})
        segment.write(plain)
        chain.commit(2)
    assert bits(pa.concat_tables(part for run in read_tables(tree, ID) for part in run)) == bits(plain)


def test_another_engine_reads_the_integers(tmp_path: Path) -> None:
    plain = table([("A", [(61837.63, 3.5)], [(61838.0, 0.25)])])
    tree = Tree.local(tmp_path)
    with Chain.open(tree, ID, first=0) as chain:
        chain.segment("x/orderbook", parquet_format("orderbook")).write(plain)
        chain.commit(1)
    (commit,) = commits(tree, ID)
    frame = pl.read_parquet(tmp_path / commit.files[0].path)
    price = frame.select(pl.col("bid_prices").list.eval(pl.element().cast(pl.Float64)).list.first()).item()
    assert price / 10 ** frame["price_scale"][0] == 61837.63
