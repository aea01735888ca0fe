"""Bronze's order books as DuckDB can take them, so that what it filters by chooses files and row groups.

DuckDB hands down no condition on a time in ns and compares such a time with few others. Here times are in µs, without a
zone (UTC), and `capture_ns` has the exact one. Arrow in turn cannot hold such a condition against files whose times are
in ns: it is held against stand-ins that guarantee of each file, and of each row group, what its record or footer tells.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import reduce
from operator import and_
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pyarrow.fs import LocalFileSystem

EXACT = "capture_ns"
_TIME = "capture_ts"
_SHOWN_TIME = pa.timestamp("us")
_ALL = ds.scalar(True)
_PARQUET = ds.ParquetFileFormat()


class Part(NamedTuple):
    """A file of books, and the least and greatest capture time in it, ns; None where it is not known."""

    fragment: ds.ParquetFileFragment
    first: int | None
    last: int | None


class Books(ds.FileSystemDataset):  # type: ignore[misc]  # Arrow has no stubs
    """The books of `parts` with start ≤ capture_ts < end, ns, as a dataset whose scans read what a filter leaves."""

    def __init__(self, parts: Sequence[Part], stored: pa.Schema, start: int | None, end: int | None) -> None:
        times = [field.with_type(_SHOWN_TIME) if pa.types.is_timestamp(field.type) else field for field in stored]
        shown = pa.schema([*times, pa.field(EXACT, pa.int64())])
        super().__init__([part.fragment for part in parts], shown, _PARQUET, LocalFileSystem())
        self._parts, self._stored = parts, stored
        self._within = _within(start, end, stored.field(_TIME).type)

    def scanner(
        self, columns: list[str] | None = None, filter: ds.Expression | None = None, **options: Any
    ) -> ds.Scanner:
        """What DuckDB asks for: some columns of the rows that match."""
        shown = self.schema
        columns = shown.names if columns is None else columns
        asked = set(re.findall(r"\w+", str(filter)))
        needed = pa.schema([field for field in shown if field.name in columns or field.name in asked])
        fragments = list(self._left(filter))
        rows = ds.FileSystemDataset(fragments, self._stored, _PARQUET, LocalFileSystem())
        inside = sorted({_TIME if name == EXACT else name for name in needed.names})
        shaped = (_shown(batch, needed) for batch in rows.to_batches(columns=inside, filter=self._within))
        return ds.Scanner.from_batches(shaped, schema=needed, columns=columns, filter=filter, **options)

    def _left(self, filter: ds.Expression | None) -> Iterator[ds.Fragment]:
        """The files that can hold a match, each with the row groups that can."""
        guarantees = [_times(part.first, part.last) for part in self._parts]
        for number in _matching(guarantees, self.schema, filter):
            fragment = self._parts[number].fragment
            if filter is not None:
                footer = fragment.metadata
                groups = [_guarantee(footer.row_group(k)) for k in range(footer.num_row_groups)]
                fragment = fragment.subset(row_group_ids=_matching(groups, self.schema, filter))
            yield fragment


def _within(start: int | None, end: int | None, kind: pa.DataType) -> ds.Expression:
    time = ds.field(_TIME)
    bounds = [] if start is None else [time >= pa.scalar(start, pa.int64()).cast(kind)]
    bounds += [] if end is None else [time < pa.scalar(end, pa.int64()).cast(kind)]
    return reduce(and_, bounds, _ALL)


def _matching(guarantees: Iterable[ds.Expression], schema: pa.Schema, filter: ds.Expression | None) -> list[int]:
    """The numbers of those that do not rule the filter out; Arrow decides, over files that are never opened."""
    nowhere = LocalFileSystem()
    files = [_PARQUET.make_fragment(str(k), nowhere, partition_expression=told) for k, told in enumerate(guarantees)]
    found = ds.FileSystemDataset(files, schema, _PARQUET, nowhere)
    return [int(fragment.path) for fragment in found.get_fragments(filter=filter)]


def _times(first: int | None, last: int | None) -> ds.Expression:
    """What is true of the times of all rows between two, ns."""
    if first is None or last is None:
        return _ALL
    early, late = (pa.scalar(ns // 1000, pa.int64()).cast(_SHOWN_TIME) for ns in (first, last))
    shown, exact = ds.field(_TIME), ds.field(EXACT)
    return (shown >= early) & (shown <= late) & (exact >= pa.scalar(first)) & (exact <= pa.scalar(last))


def _guarantee(group: pq.RowGroupMetaData) -> ds.Expression:
    """What the statistics of a row group tell of its times and markets."""
    told = _ALL
    for number in range(group.num_columns):
        column = group.column(number)
        name, found = column.path_in_schema, column.statistics
        if found is None or not found.has_min_max:
            continue
        if name == _TIME:
            told &= _times(found.min_raw, found.max_raw)
        elif name in ("exchange", "symbol", "source"):
            told &= (ds.field(name) >= found.min) & (ds.field(name) <= found.max)
    return told


def _shown(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    columns = [
        batch[_TIME].cast(pa.int64()) if field.name == EXACT else batch[field.name].cast(field.type, safe=False)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
