"""Two lakes compared, day by day of each market: rows that only one has, and values that differ.

Rows meet by their time, a bar also by its kind, a trade by its id; where several rows agree in these, the first meets
the first. Floating-point values are equal where their bits are.
"""

from __future__ import annotations

import posixpath
from collections import defaultdict
from collections.abc import Collection, Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fluxforge.errors import StorageError
from fluxforge.files import Tree
from fluxforge.files.dataset import At
from fluxforge.lake.scan import FOLDERS, Chosen, Time, matching
from fluxforge.lake.versions import reading
from fluxforge.storage import Root

ORIGIN = frozenset({"source_partition", "source_offset"})
"""Where in a topic a row comes from: another one after a replay."""
_TURNS = 1 << 24
"""More rows than a day of one market has with one identity."""
_IDENTITY = {"bars": ("timestamp", "bar_type"), "trades": ("timestamp", "id")}


class ColumnDiff(NamedTuple):
    """A column that differs.

    rows   how many rows do
    first  time of the first one, ns
    most   largest difference of two numbers; None where none are comparable
    """

    name: str
    rows: int
    first: int
    most: float | None


class DayDiff(NamedTuple):
    """A day of one market (of bars: of one duration) in lakes A and B.

    path      its folder, as `binance/orderbook/hf/exchange=X/symbol=Y/date=Z`
    rows      in A, in B
    alone     rows only A has, rows only B has
    differ    rows both have, with a value that differs
    unshared  columns only one of them has
    """

    table: str
    path: str
    rows: tuple[int, int]
    alone: tuple[int, int]
    differ: int
    columns: list[ColumnDiff]
    unshared: list[str]

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        return not (any(self.alone) or self.differ or self.unshared)


def diff(
    a: Root,
    b: Root,
    *,
    tables: Collection[str] = tuple(FOLDERS),
    exchange: str | None = None,
    symbol: str | None = None,
    start: Time | None = None,
    end: Time | None = None,
    ignore: Collection[str] = ORIGIN,
) -> Iterator[DayDiff]:
    """Every day that either lake has, by table and path; one day of one market is in memory at a time.

    a, b        the version that a root names, else its current one
    start, end  as of `fluxforge.lake.scan`
    ignore      columns that are not compared

    Raises StorageError where neither lake has any such row.
    """
    nothing, chosen = True, Chosen(exchange, symbol, start, end)
    trees = reading(a), reading(b)
    for table in tables:
        one, two = (_Side(tree, table, chosen) for tree in trees)
        for path in sorted({*one.files, *two.files}):
            found = compare(table, path, one.rows(path), two.rows(path), ignore)
            if any(found.rows):
                nothing = False
                yield found
    if nothing:
        raise StorageError(
            f"neither {trees[0]} nor {trees[1]} has rows to compare",
            hint="nothing has been written yet, or exchange, symbol and times are others",
        )


class _Side:
    """One lake's files of a table, by folder."""

    def __init__(self, tree: Tree, table: str, chosen: Chosen) -> None:
        self.files: dict[str, list[At]] = defaultdict(list)
        self._storage, self._bounds = tree.storage, chosen.bounds
        for at in matching(tree, table, chosen):
            self.files[posixpath.dirname(at.file.path)].append(at)

    def rows(self, path: str) -> pa.Table:
        """Those of one folder."""
        tables = []
        for at in self.files.get(path, ()):
            with self._storage.open(at.path) as opened:
                tables.append(pq.ParquetFile(opened).read(use_threads=False))
        if not tables:
            return pa.table({"timestamp": pa.array([], pa.int64())})
        whole = pa.concat_tables(tables, promote_options="permissive")
        for bound, keep in zip(self._bounds, (pc.greater_equal, pc.less), strict=True):
            if bound is not None:
                whole = whole.filter(keep(whole.column("timestamp"), bound))
        return whole


def compare(table: str, path: str, a: pa.Table, b: pa.Table, ignore: Collection[str] = ORIGIN) -> DayDiff:
    """Two tables of one day, in any order."""
    a, b = (side.sort_by([(name, "ascending") for name in _order(table, side)]) for side in (a, b))
    names = [name for name in a.column_names if name in b.column_names and name not in ignore]
    unshared = sorted({*a.column_names, *b.column_names} - {*names, *ignore}) if a.num_rows and b.num_rows else []
    at_a, at_b = _meet(table, a, b)
    times = np.asarray(a.column("timestamp"))[at_a]
    differ, columns = np.zeros(len(at_a), bool), []
    for name in names:
        x, y = a.column(name).take(pa.array(at_a)), b.column(name).take(pa.array(at_b))
        unlike = _unlike(x, y)
        if unlike.any():
            differ |= unlike
            columns.append(ColumnDiff(name, int(unlike.sum()), int(times[unlike].min()), _most(x, y, unlike)))
    alone = (a.num_rows - len(at_a), b.num_rows - len(at_b))
    return DayDiff(table, path, (a.num_rows, b.num_rows), alone, int(differ.sum()), columns, unshared)


def _order(table: str, rows: pa.Table) -> list[str]:
    return [name for name in (*_IDENTITY.get(table, ("timestamp",)), *sorted(ORIGIN)) if name in rows.column_names]


def _meet(table: str, a: pa.Table, b: pa.Table) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions of the rows both have: the n-th of an identity meets the n-th."""
    if not (a.num_rows and b.num_rows):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    both = [_codes(a.column(name), b.column(name)) for name in _IDENTITY.get(table, ("timestamp",))]
    _, codes = np.unique(np.stack(both, axis=1), axis=0, return_inverse=True)
    sides = [_numbered(side) for side in np.split(codes.reshape(-1), [a.num_rows])]
    _, at_a, at_b = np.intersect1d(sides[0], sides[1], assume_unique=True, return_indices=True)
    order = np.argsort(at_a, kind="stable")
    return at_a[order], at_b[order]


def _codes(a: pa.ChunkedArray, b: pa.ChunkedArray) -> NDArray[np.int64]:
    """The values of both as numbers that are equal where the values are."""
    if pa.types.is_integer(a.type):
        return np.concatenate([np.asarray(a), np.asarray(b)]).astype(np.int64)
    words = pa.chunked_array([*a.cast(pa.string()).chunks, *b.cast(pa.string()).chunks])
    return np.asarray(words.combine_chunks().dictionary_encode().indices.fill_null(-1), np.int64)


def _numbered(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Each code with its turn among its like, as one number; rows of a code need not be neighbours."""
    order = np.argsort(codes, kind="stable")
    ordered = codes[order]
    starts = np.maximum.accumulate(np.where(np.diff(ordered, prepend=-1) != 0, np.arange(len(codes)), 0))
    turns = np.empty(len(codes), np.int64)
    turns[order] = np.arange(len(codes)) - starts
    return codes * _TURNS + turns


def _unlike(x: pa.ChunkedArray, y: pa.ChunkedArray) -> NDArray[np.bool_]:
    if x.type == y.type and not pa.types.is_nested(x.type):
        if pa.types.is_float64(x.type):
            one, other = (np.asarray(side.fill_null(0.0)).view(np.int64) for side in (x, y))
            unlike = one != other
        else:
            unlike = np.asarray(pc.fill_null(pc.not_equal(x, y), fill_value=False), bool)
        missing: NDArray[np.bool_] = np.asarray(x.is_null()) != np.asarray(y.is_null())
        found: NDArray[np.bool_] = unlike | missing
        return found
    return np.array([one != other for one, other in zip(x.to_pylist(), y.to_pylist(), strict=True)], bool)


def _most(x: pa.ChunkedArray, y: pa.ChunkedArray, unlike: NDArray[np.bool_]) -> float | None:
    if not (_is_number(x.type) and _is_number(y.type)):
        return None
    here, whole = pa.array(unlike), pa.types.is_integer(x.type) and pa.types.is_integer(y.type)
    kind = pa.int64() if whole else pa.float64()  # times in ns are no whole numbers as floats
    distance = pc.abs(pc.subtract(x.filter(here).cast(kind), y.filter(here).cast(kind))).cast(pa.float64(), safe=False)
    found = pc.max(pc.if_else(pc.is_nan(distance), None, distance)).as_py()
    return None if found is None else float(found)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))
