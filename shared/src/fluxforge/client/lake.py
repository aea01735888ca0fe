"""History out of the lake: the row groups of many files, merged in one order.

What is certain is given out, and no more is loaded than that takes: a file's footer is read when its times come near,
a row group when its first row may be next.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import count
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fluxforge.client.order import TIME, in_order, selected, times
from fluxforge.client.tables import LAKE_TABLES, MARKET, Wanted
from fluxforge.clock import NS
from fluxforge.errors import StorageError
from fluxforge.files import CommittedFile, groups
from fluxforge.lake.layout import DAY_NS
from fluxforge.lake.scan import Chosen, Selection, partition_of, select
from fluxforge.storage import Root

EARLY_NS = 3600 * NS
"""No row's timestamp lies further ahead of its capture: the exchange's clock, and the 5 s that the kernels allow."""
LATE_NS = DAY_NS
"""`start` finds rows captured so long after their timestamp; a bar of any kind closes within its day."""
PIECE_ROWS = 4096
"""Rows of one row group that are given out at once, about."""


class _Ahead(NamedTuple):
    """A file, or one row group of it: it has no row captured before `bound`."""

    bound: int
    number: int
    file: CommittedFile
    group: int | None


class Merge:
    """The rows of a selection in order, as tables of a few thousand.

    Raises StorageError where a file is gone, or has rows captured more than EARLY_NS before their timestamp.
    """

    def __init__(self, found: Selection, wanted: Wanted) -> None:
        self._tree, self._names, self._wanted = found.tree, found.names, wanted
        fields = [field for field in found.schema if field.name not in ("exchange", "symbol", "date")]
        whole = pa.schema([*((name, pa.string()) for name in MARKET), *fields])
        chosen = whole.names if wanted.columns is None else selected(whole.names, wanted.columns)
        self.schema = pa.schema([whole.field(name) for name in chosen])
        self._number = count()
        self._ahead = [
            _Ahead((at.file.first_ts or EARLY_NS) - EARLY_NS, next(self._number), at.file, None) for at in found.files
        ]
        heapq.heapify(self._ahead)
        self._given: int | None = None
        self.open: list[pa.Table] = []
        """What is loaded of row groups and not yet given out."""

    def __iter__(self) -> Iterator[pa.Table]:
        while self._ahead or self.open:
            earliest = min((int(times(table)[0]) for table in self.open), default=None)
            if self._ahead and (earliest is None or self._ahead[0].bound <= earliest):
                self._nearer(heapq.heappop(self._ahead))
                continue
            assert earliest is not None
            yield self._take(self._until(earliest))

    def _nearer(self, ahead: _Ahead) -> None:
        """A file becomes its row groups, a row group its rows."""
        file = ahead.file
        with groups.opened(self._tree, file) as found:
            if ahead.group is not None:
                there = [name for name in found.schema_arrow.names if name in self.schema.names]
                self._load(file, found.read_row_group(ahead.group, there, use_threads=False))
                return
            groups.check_rows(self._tree, file, found.metadata.num_rows)
            for group in range(found.num_row_groups):
                first, last = _captured(found.metadata.row_group(group), ahead.bound)
                if not self._outside(first, last):
                    heapq.heappush(self._ahead, _Ahead(first, next(self._number), file, group))

    def _outside(self, first: int, last: int) -> bool:
        """Nothing captured from `first` to `last` is wanted."""
        start, end = self._wanted.first, self._wanted.last
        return (start is not None and last < start) or (end is not None and first >= end)

    def _load(self, file: CommittedFile, rows: pa.Table) -> None:
        table = in_order(self._whole(file, rows))
        first, last = self._wanted.first, self._wanted.last
        start = 0 if first is None else int(np.searchsorted(times(table), first))
        end = table.num_rows if last is None else int(np.searchsorted(times(table), last))
        table = table.slice(start, end - start)
        if not table.num_rows:
            return
        if self._given is not None and times(table)[0] < self._given:
            name = self._tree.storage.name(file.path)
            raise StorageError(
                f"{name} has rows captured over {EARLY_NS / NS:.0f} s before their timestamp",
                hint="the clock of the collector or of the exchange was wrong; lake.scan gives the rows as they lie",
            )
        self.open.append(table)

    def _whole(self, file: CommittedFile, rows: pa.Table) -> pa.Table:
        """With the columns that the path and the commit record tell; null where the file's configuration had none."""
        told = {**partition_of(file, self._names), **{name: file.meta[name] for name in MARKET}}
        columns = []
        for field in self.schema:
            if field.name in rows.schema.names:
                columns.append(rows[field.name].cast(field.type))
            elif field.name in told:
                columns.append(pa.repeat(pa.scalar(told[field.name], field.type), rows.num_rows))
            else:
                columns.append(pa.nulls(rows.num_rows, field.type))
        return pa.table(columns, schema=self.schema)

    def _until(self, earliest: int) -> int | None:
        """Every row captured before this is loaded; None: every row there is."""
        bounds = [int(times(table)[PIECE_ROWS]) for table in self.open if table.num_rows > PIECE_ROWS]
        if self._ahead:
            bounds.append(self._ahead[0].bound)
        return max(min(bounds), earliest + 1) if bounds else None

    def _take(self, until: int | None) -> pa.Table:
        """What was captured before `until`; it is let go."""
        ready, left = [], []
        for table in self.open:
            cut = table.num_rows if until is None else int(np.searchsorted(times(table), until))
            ready.append(table.slice(0, cut))
            if cut < table.num_rows:
                left.append(table.slice(cut))
        self.open, self._given = left, until
        return in_order(pa.concat_tables(ready))


def selection(root: Root, table: str, wanted: Wanted, version: str | None = None) -> Selection:
    """The files of a table that can hold rows that are wanted.

    Raises StorageError where there are none, ConfigError where there are none of a market.
    """
    chosen = Chosen(
        start=None if wanted.first is None else wanted.first - LATE_NS,
        end=None if wanted.last is None else wanted.last + EARLY_NS,
    )
    found = select(root, LAKE_TABLES[table], chosen, version)
    markets = [(at.file.meta["exchange"], at.file.meta["symbol"]) for at in found.files]
    wanted.missing(set(markets))
    kept = [at for at, market in zip(found.files, markets, strict=True) if wanted.market(*market)]
    return found._replace(files=kept)


def _captured(group: pq.RowGroupMetaData, unknown: int) -> tuple[int, int]:
    """The earliest and the latest capture time of a row group, as its statistics tell."""
    columns = map(group.column, range(group.num_columns))
    stored = next(column.statistics for column in columns if column.path_in_schema == TIME)
    return (stored.min, stored.max) if stored is not None and stored.has_min_max else (unknown, (1 << 63) - 1)
