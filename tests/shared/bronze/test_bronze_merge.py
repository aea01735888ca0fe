"""Runs of offsets are complete over all files, wherever the row groups were cut."""

from __future__ import annotations

from itertools import pairwise

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from fluxforge.bronze.merge import merged

rows = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 2)), max_size=20).map(
    lambda some: [r[0] for r in sorted(some)]
)
cuts = st.sets(st.integers(0, 20), max_size=6)


def table(offsets: list[int], stream: int) -> pa.Table:
    return pa.table({"offset": pa.array(offsets, pa.int64()), "stream": pa.array([stream] * len(offsets), pa.int64())})


@given(st.lists(st.tuples(rows, cuts), max_size=4))
def test_every_run_is_complete_and_they_follow_each_other(files: list[tuple[list[int], set[int]]]) -> None:
    streams = []
    for number, (offsets, at) in enumerate(files):
        edges = [0, *sorted(cut for cut in at if cut < len(offsets)), len(offsets)]
        streams.append([table(offsets[a:b], number) for a, b in pairwise(edges)])
    runs = [pa.concat_tables(run).to_pylist() for run in merged(map(iter, streams))]
    for before, after in pairwise(runs):
        assert max(row["offset"] for row in before) < min(row["offset"] for row in after)
    for number, (offsets, _) in enumerate(files):
        assert [row["offset"] for run in runs for row in run if row["stream"] == number] == offsets
