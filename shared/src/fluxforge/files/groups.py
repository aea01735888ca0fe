"""Row groups of committed Parquet: of one file as they stand, of many in order of time.

One thread reads them, and a small file is taken whole: most of what a minute's file costs is calls.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from operator import itemgetter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fluxforge.errors import StorageError
from fluxforge.files.commit import CommittedFile
from fluxforge.files.history import locate
from fluxforge.files.storage import Tree

GROUP_BYTES = 32 * 1024 * 1024
"""Arrow bytes of a row group that compaction writes, at least, and less than twice that: what a reader holds."""
_WHOLE_BYTES = 8 * 1024 * 1024
_EARLIEST, _LATEST = -(1 << 63), (1 << 63) - 1


@contextmanager
def opened(tree: Tree, file: CommittedFile) -> Iterator[pq.ParquetFile]:
    """A committed Parquet file, to be read row group by row group."""
    whole = file.bytes <= _WHOLE_BYTES
    with (
        tree.storage.open(locate(tree, file)) as stored,
        pq.ParquetFile(
            pa.BufferReader(stored.read()) if whole else stored,
            page_checksum_verification=True,
            pre_buffer=not whole,
        ) as found,
    ):
        yield found


def tables(tree: Tree, file: CommittedFile) -> Iterator[pa.Table]:
    """The row groups of a file."""
    with opened(tree, file) as found:
        for group in range(found.num_row_groups):
            yield found.read_row_group(group, use_threads=False)


def check_rows(tree: Tree, file: CommittedFile, rows: int) -> None:
    """Raises StorageError where a file has other than the rows that were committed."""
    if rows != file.rows:
        raise StorageError(
            f"{tree.storage.name(file.path)} has {rows} rows, where {file.rows} were committed",
            hint="restore it from a copy",
        )


def gathered(stored: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in as large row groups as compaction writes, each in one chunk."""
    waiting: list[pa.Table] = []
    size = 0
    for table in stored:
        waiting.append(table)
        size += table.nbytes
        if size >= GROUP_BYTES:
            yield _joined(waiting)
            size = 0
    if waiting:
        yield _joined(waiting)


def in_order(tree: Tree, files: Sequence[CommittedFile], column: str) -> Iterator[pa.Table]:
    """The rows of all files by rising `column`, a time in ns; equal ones as the files come, nulls last.

    `first_ts` of a file is its earliest time. Held at once: what makes a row group, and the row groups of the files
    whose times overlap. Raises StorageError where a file has other than the rows that were committed.
    """
    waiting = _Waiting(column)
    ahead = [
        (_EARLIEST if file.first_ts is None else file.first_ts, at, _by_time(tree, file, column))
        for at, file in enumerate(files)
    ]
    heapq.heapify(ahead)
    while ahead:
        earliest, at, groups = heapq.heappop(ahead)
        if waiting.bytes * 4 >= GROUP_BYTES * 5:  # what overlaps stays, and a whole row group goes
            yield from waiting.taken(earliest)
        for group, table, following in groups:
            waiting.add((at, group), table)
            if following is not None:
                heapq.heappush(ahead, (following, at, groups))
                break
    yield from waiting.taken(None)


def _by_time(tree: Tree, file: CommittedFile, column: str) -> Iterator[tuple[int, pa.Table, int | None]]:
    """A file's row groups by their earliest time: number, rows, and that of the next one; None after the last."""
    with opened(tree, file) as found:
        check_rows(tree, file, found.metadata.num_rows)
        order = range(found.num_row_groups)
        times = [_EARLIEST] * len(order)
        if len(order) > 1:
            times = [_earliest(found.metadata.row_group(group), column) for group in order]
        for group, following in pairwise([*sorted(order, key=times.__getitem__), None]):
            assert group is not None
            table = found.read_row_group(group, use_threads=False)
            yield group, table, None if following is None else times[following]


def _earliest(group: pq.RowGroupMetaData, column: str) -> int:
    """What the statistics tell."""
    columns = map(group.column, range(group.num_columns))
    stored = next(each.statistics for each in columns if each.path_in_schema == column)
    return int(stored.min_raw) if stored is not None and stored.has_min_max else _EARLIEST


class _Waiting:
    """Rows that some still to come may precede; those of each row group in order."""

    def __init__(self, column: str) -> None:
        self._column = column
        self._parts: dict[tuple[int, int], tuple[pa.Table, int]] = {}
        self.bytes = 0

    def add(self, place: tuple[int, int], table: pa.Table) -> None:
        self._keep(place, self._sorted(table), table.get_total_buffer_size())  # `nbytes` takes as long as a sort

    def taken(self, until: int | None) -> Iterator[pa.Table]:
        """Give out what is earlier than `until`, everything without it; a row group's worth at a time."""
        ready: list[pa.Table] = []
        for place, (table, size) in sorted(self._parts.items(), key=itemgetter(0)):
            cut = table.num_rows if until is None else int(np.searchsorted(self._times(table), until))
            if cut:
                ready.append(table.slice(0, cut))
                del self._parts[place]
                self.bytes -= size
                rest = table.slice(cut)
                if rest.num_rows:
                    self._keep(place, rest, rest.nbytes)
        if ready:
            table = self._sorted(_joined(ready))
            size = math.ceil(table.num_rows / max(table.nbytes // GROUP_BYTES, 1))
            yield from (table.slice(at, size) for at in range(0, table.num_rows, size))

    def _keep(self, place: tuple[int, int], table: pa.Table, size: int) -> None:
        self._parts[place] = table, size
        self.bytes += size

    def _sorted(self, table: pa.Table) -> pa.Table:
        times = self._times(table)
        if (times[1:] >= times[:-1]).all():
            return table
        return table.take(pa.array(np.argsort(times, kind="stable")))

    def _times(self, table: pa.Table) -> NDArray[np.int64]:
        return np.asarray(table.column(self._column).cast(pa.int64()).fill_null(_LATEST))


def _joined(waiting: list[pa.Table]) -> pa.Table:
    """One table in one chunk; `waiting` is let go of."""
    table = pa.concat_tables(waiting)
    waiting.clear()
    return table.combine_chunks().unify_dictionaries()
