"""One chain of Bronze as pieces of records ready to be written, in the order of its offsets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fluxforge import bronze
from fluxforge.bronze.records import Records, records_of
from fluxforge.files import Tree
from fluxforge.log import Headers
from fluxforge.replay.gaps import Gap, with_resets
from fluxforge.replay.selection import Selection
from fluxforge.replay.state import Position

PIECE_RECORDS = 8_000


@dataclass(frozen=True, slots=True)
class Piece:
    """Records of one chain, none of whose offsets is in another piece.

    source  which of the run's positions
    times   (n,) when each is due, ns: its capture, but never before that of the records in front of it
    gap     the last gap they lie behind
    resets  index → key of the Resets that were put in because of it
    """

    source: int
    records: Records
    times: NDArray[np.int64]
    gap: Gap | None
    resets: dict[int, str]


class Feed:
    """A chain being read, from its position on."""

    def __init__(
        self, source: int, tree: Tree, position: Position, selection: Selection, *, shared: bool = False
    ) -> None:
        """`shared`: another chain has the same partition, so that an offset alone does not tell a record."""
        self.source, self.partition = source, position.partition
        self.frontier = position.reached
        """No record still to come is due before this."""
        self.done = position.next >= position.end
        self._tree, self._selection, self._chain = tree, selection, position.chain
        self._start, self._end = position.next, position.end
        self._begun = position.written > 0
        self._gap, self._told = position.gap, set(position.told)
        self._origin: Headers = (("source-log", position.log_id.encode()),) if shared else ()
        self._pieces: Iterator[Piece] | None = None
        self._held: list[tuple[Piece, int]] = []

    @property
    def holds(self) -> bool:
        """Records have been read that are not yet passed on."""
        return bool(self._held)

    def load(self) -> None:
        """Read one more piece."""
        if self._pieces is None:
            self._pieces = self._read()
        piece = next(self._pieces, None)
        if piece is None:
            self.done = True
            return
        self.frontier = int(piece.times[-1])
        self._held.append((piece, 0))

    def take_before(self, bound: int | None) -> Iterator[tuple[Piece, int, int]]:
        """Pass on what is due before `bound`; all of it where that is None."""
        kept = []
        for piece, start in self._held:
            end = len(piece.times) if bound is None else int(np.searchsorted(piece.times, bound))
            if end > start:
                yield piece, start, end
            if end < len(piece.times):
                kept.append((piece, max(start, end)))
        self._held = kept

    def _read(self) -> Iterator[Piece]:
        found = bronze.read_tables(
            self._tree, self._chain, start=self._start, end=self._end, wanted=self._selection.wants, on_gap=self._behind
        )
        for tables in found:
            for part in parts(tables, PIECE_RECORDS):
                kept = [table for table in map(self._selection.keep, part) if table.num_rows]
                if kept:
                    yield self._piece(records_of(kept))

    def _behind(self, first: int, next_: int) -> None:
        if self._begun:  # before the first record there is nothing that a gap could part
            self._gap, self._told = (first, next_), set()

    def _piece(self, records: Records) -> Piece:
        self._begun = True
        resets: dict[int, str] = {}
        if self._gap is not None:
            records, resets = with_resets(records, self._gap, self._told)
        offsets = records.places[:, 0]
        found = replace(records, headers=self._headers(records.headers, offsets))
        return Piece(self.source, found, due(records.captured, offsets, self.frontier), self._gap, resets)

    def _headers(self, own: Sequence[Headers], offsets: NDArray[np.int64]) -> list[Headers]:
        """Their own, and where they come from."""
        origin = self._origin
        return [
            (*headers, *origin, ("source-offset", b"%d" % offset))
            for headers, offset in zip(own, offsets.tolist(), strict=True)
        ]


def feeds_of(tree: Tree, positions: Sequence[Position], selection: Selection) -> list[Feed]:
    """The feed of each position."""
    chains = Counter(position.partition for position in positions)
    return [
        Feed(number, tree, position, selection, shared=chains[position.partition] > 1)
        for number, position in enumerate(positions)
    ]


def due(captured: NDArray[np.int64], offsets: NDArray[np.int64], frontier: int) -> NDArray[np.int64]:
    """Times that never run back; records of one offset (an imported line's) stay together."""
    times = np.maximum.accumulate(np.maximum(captured, frontier))
    last = np.searchsorted(offsets, offsets, side="right") - 1
    of_offset: NDArray[np.int64] = times[last]
    return of_offset


def parts(tables: Sequence[pa.Table], most: int) -> Iterator[list[pa.Table]]:
    """Tables over one run of offsets, cut into runs of about `most` rows, never within an offset."""
    offsets = [table.column("offset").to_numpy() for table in tables]
    every = np.sort(np.concatenate(offsets))
    starts = [0] * len(tables)
    for bound in (*np.unique(every[most::most]).tolist(), None):
        ends = [len(each) if bound is None else int(np.searchsorted(each, bound)) for each in offsets]
        yield [table.slice(a, b - a) for table, a, b in zip(tables, starts, ends, strict=True) if b > a]
        starts = ends
