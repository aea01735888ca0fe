"""Feature rows of a lake in the order in which live partitions bring them, a piece at a time.

A partition's rows come in the order of its log: those of one chain by offset, those of several chains (daily files, a
recreated topic) by capture time, as a run makes them. Partitions meet by their times, as in `fluxforge.cross.kernel`: a
row counts from the greatest timestamp of its partition on. Held at once: some ten thousand rows of each chain that is
being read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fluxforge.errors import Superseded
from fluxforge.files import ChainId, Commit, CommittedFile, Tree, commits, groups

AT_ONCE = 65_536
"""Rows of a chain that are read at once, of records that have more."""
_OFFSET, _TIME, _CAPTURED = "source_offset", "timestamp", "capture_ts"
_MARKET = ("exchange", "symbol")
_LAST = (1 << 63) - 1

Integers = NDArray[np.int64]


class Place(msgspec.Struct, array_like=True, frozen=True):
    """Up to where a chain's rows were taken.

    offset    of the last one taken; -1: none yet
    rows      how many of that offset
    captured  the latest capture time up to there, ns
    """

    offset: int = -1
    rows: int = 0
    captured: int = 0


class Piece(msgspec.Struct, frozen=True):
    """Rows in order, and of each its chain's number, its partition, when it counts and when it counts as captured."""

    rows: pa.Table
    chain: Integers
    partition: Integers
    at: Integers
    captured: Integers

    def take(self, which: Integers) -> Piece:
        """Those at these positions."""
        rows = self.rows.take(pa.array(which))
        return Piece(rows, self.chain[which], self.partition[which], self.at[which], self.captured[which])

    @classmethod
    def of(cls, parts: Sequence[Piece]) -> Piece:
        """All of these, one behind the other."""
        names = ("chain", "partition", "at", "captured")
        columns = [np.concatenate([getattr(part, name) for part in parts]) for name in names]
        return cls(pa.concat_tables([part.rows for part in parts]).combine_chunks(), *columns)


class Stored:
    """The rows of one chain of the lake, from a place on, by offset; `captured`: nothing to come was before, ns."""

    def __init__(
        self, tree: Tree, chain: ChainId, number: int, columns: Sequence[str], place: Place, captured: int = 0
    ) -> None:
        self.number, self.frontier, self.done = number, max(place.captured, captured), False
        self.partition = chain.partition
        self._tree, self._id, self._columns, self._place = tree, chain, list(columns), place
        self._tables: Iterator[pa.Table] | None = None
        self._held: list[Piece] = []

    @property
    def holds(self) -> bool:
        """Rows have been read that are not passed on."""
        return bool(self._held)

    def load(self) -> None:
        """Read some more."""
        if self._tables is None:
            self._tables = self._read()
        table = next(self._tables, None)
        if table is None:
            self.done = True
        elif table.num_rows:
            keys = np.maximum.accumulate(np.maximum(_integers(table, _CAPTURED), self.frontier))
            self.frontier = int(keys[-1])
            same = np.full(table.num_rows, self.number), np.full(table.num_rows, self.partition)
            self._held.append(Piece(table, *same, _integers(table, _TIME), keys))

    def before(self, bound: int | None) -> list[Piece]:
        """Pass on what counts as captured before `bound`, ns; everything where that is None."""
        given, kept = [], []
        for piece in self._held:
            cut = len(piece.captured) if bound is None else int(np.searchsorted(piece.captured, bound))
            given.append(piece.take(np.arange(cut)))
            if cut < len(piece.captured):
                kept.append(piece.take(np.arange(cut, len(piece.captured))))
        self._held = kept
        return [piece for piece in given if len(piece.at)]

    def _read(self) -> Iterator[pa.Table]:
        for record in filter(lambda record: record.rows, self._records()):
            for first, last in _parts(self._tree, record):
                found = [self._table(file, first, last) for file in record.files]
                table = pa.concat_tables(found).combine_chunks()
                table = table.take(pa.array(np.argsort(_integers(table, _OFFSET), kind="stable")))
                yield table.filter(self._behind(table)).drop_null()

    def _records(self) -> list[Commit]:
        """Those that hold the place, and all behind it."""
        start = None if self._place.offset < 0 else self._place.offset
        while True:
            try:
                return list(commits(self._tree, self._id, start=start))
            except Superseded:
                continue

    def _behind(self, table: pa.Table) -> pa.Array:
        """Which rows lie behind the place."""
        offsets = _integers(table, _OFFSET)
        behind = offsets >= self._place.offset
        behind[np.flatnonzero(offsets == self._place.offset)[: self._place.rows]] = False
        return pa.array(behind)

    def _table(self, file: CommittedFile, first: int, last: int) -> pa.Table:
        """The file's rows of offsets [first, last], with their market."""
        with groups.opened(self._tree, file) as found:
            names = found.schema_arrow.names
            wanted = [
                group
                for group in range(found.num_row_groups)
                if _meets(found.metadata.row_group(group).column(names.index(_OFFSET)).statistics, first, last)
            ]
            table = found.read_row_groups(wanted, columns=[_OFFSET, *self._columns], use_threads=False)
        offsets = table[_OFFSET]
        table = table.filter(pc.and_(pc.greater_equal(offsets, first), pc.less_equal(offsets, last)))
        for name in _MARKET:
            same = pa.array(np.zeros(table.num_rows, np.int32)), pa.array([file.meta[name]])
            table = table.append_column(name, pa.DictionaryArray.from_arrays(*same))
        return table.select([*_MARKET, _OFFSET, *self._columns])


class Partition:
    """The rows of one partition in its order; `at` is its time, ns, that of the last row taken at first."""

    def __init__(self, chains: Sequence[Stored], at: int) -> None:
        self.at, self.done = at, False
        self._chains = list(chains)
        self._ready: list[Piece] = []

    def more(self) -> None:
        """Bring some more rows, or find that there are none."""
        reading = [chain for chain in self._chains if not chain.done]
        if reading:
            min(reading, key=lambda chain: chain.frontier).load()
        reading = [chain for chain in reading if not chain.done]
        bound = min((chain.frontier for chain in reading), default=None)
        parts = [part for chain in self._chains for part in chain.before(bound)]
        self._chains = [chain for chain in self._chains if not chain.done or chain.holds]
        self.done = not self._chains
        if parts:
            piece = Piece.of(parts)
            piece = piece.take(np.lexsort((_integers(piece.rows, _OFFSET), piece.chain, piece.captured)))
            at = np.maximum.accumulate(np.maximum(piece.at, self.at))
            self.at = int(at[-1])
            self._ready.append(msgspec.structs.replace(piece, at=at))

    def until(self, last: int) -> list[Piece]:
        """Pass on what counts by `last`, ns."""
        given, kept = [], []
        for piece in self._ready:
            cut = int(np.searchsorted(piece.at, last, side="right"))
            given.append(piece.take(np.arange(cut)))
            if cut < len(piece.at):
                kept.append(piece.take(np.arange(cut, len(piece.at))))
        self._ready = kept
        return [piece for piece in given if len(piece.at)]


def in_order(partitions: Sequence[tuple[Partition, int | None]]) -> Iterator[Piece]:
    """The rows of the partitions, as far as no row to come counts earlier.

    With each partition comes up to when it is known to have no rows but those that are stored, ns: its own last row
    tells that too. None: it has no others at all.
    """
    while True:
        reading = [part for part, _ in partitions if not part.done]
        ended = [max(part.at, known) for part, known in partitions if part.done and known is not None]
        bounds = [*(part.at - 1 for part in reading), *ended]
        last = min(bounds, default=max((part.at for part, _ in partitions), default=0))
        parts = [piece for part, _ in partitions for piece in part.until(last)]
        if parts:
            piece = Piece.of(parts)
            yield piece.take(np.lexsort((np.arange(len(piece.at)), piece.partition, piece.at)))
        if not reading or min(ended, default=last + 1) <= last:
            return
        min(reading, key=lambda part: part.at).more()


def _parts(tree: Tree, record: Commit) -> list[tuple[int, int]]:
    """The offsets of a record's rows, first and last, in parts of about AT_ONCE rows."""
    count = -(-record.rows // AT_ONCE)
    if count == 1:
        return [(0, _LAST)]
    found = []
    for file in record.files:
        with groups.opened(tree, file) as opened:
            at = opened.schema_arrow.names.index(_OFFSET)
            found += [opened.metadata.row_group(group).column(at).statistics for group in range(opened.num_row_groups)]
    first, last = min(each.min for each in found), max(each.max for each in found)
    cuts = [first + (last + 1 - first) * i // count for i in range(count + 1)]
    return [(start, end - 1) for start, end in pairwise(cuts)]


def _meets(statistics: Any, first: int, last: int) -> bool:
    """Whether a row group can hold offsets [first, last]."""
    told = statistics is not None and statistics.has_min_max
    return not told or (statistics.min <= last and statistics.max >= first)


def _integers(table: pa.Table, name: str) -> Integers:
    return np.asarray(table[name], np.int64)
