"""Many chains of Bronze as one sequence of kernel batches, in order of capture time.

Each chain keeps its own order: an event counts as captured no earlier than those before it in its chain. Chains that
follow each other (daily files, a recreated topic) are read one after the other, those that overlap (partitions, a
file of books beside one of trades) are interleaved; ties go by the order of the chains. Memory is bounded by a few row
groups of each chain that is being read. No batch has events of two days, UTC.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fluxforge.batch import EventBatch
from fluxforge.bronze import BronzeBatch
from fluxforge.clock import DAY
from fluxforge.events import AnyEvent
from fluxforge.rows import Market, Markets


class Piece(NamedTuple):
    """Events [start, end) of one chain's batch; `keys` are their places in the merged order, ns."""

    chain: int
    bronze: BronzeBatch
    keys: NDArray[np.int64]

    def between(self, start: int, end: int) -> tuple[NDArray[np.void], NDArray[np.float64]]:
        """Events with `levels` counted from 0, and the levels."""
        events = self.bronze.batch.events[start:end].copy()
        if not len(events):
            return events, self.bronze.batch.levels[:0]
        first = int(events["levels"][0])
        last = events[-1]
        end_of_levels = int(last["levels"] + 2 * (last["bids"] + last["asks"]))
        events["levels"] -= first
        return events, self.bronze.batch.levels[first:end_of_levels]


class Merged(NamedTuple):
    """A kernel batch over several chains, and the way back.

    batch   events in merged order
    keys    per event, when it counts as captured, ns
    chain   per event, the index of its chain
    pieces  where they come from
    piece   per event, which of the pieces
    place   per event, its position in the piece's batch
    """

    batch: EventBatch
    keys: NDArray[np.int64]
    chain: NDArray[np.int64]
    pieces: Sequence[Piece]
    piece: NDArray[np.int64]
    place: NDArray[np.int64]

    def decoded(self, at: NDArray[np.int64]) -> list[AnyEvent]:
        """The events at these positions."""
        found: list[AnyEvent | None] = [None] * len(at)
        for which, piece in enumerate(self.pieces):
            mine = np.flatnonzero(self.piece[at] == which)
            for i, event in zip(mine.tolist(), piece.bronze.decoded(self.place[at[mine]]), strict=True):
                found[i] = event
        return [event for event in found if event is not None]

    def rows(self, at: NDArray[np.int64], names: list[str]) -> pa.Table:
        """Columns of Bronze of the events at these positions, one or more, whose tables must have them."""
        order = np.empty(len(at), np.int64)
        found: list[pa.Table] = []
        count = 0
        for where, table, rows in self._rows(at):
            found.append(table.select(names).take(pa.array(rows)))
            order[where] = np.arange(count, count + len(where))
            count += len(where)
        return pa.concat_tables(found).combine_chunks().take(pa.array(order))

    def markets(self, at: NDArray[np.int64], key: Callable[[int], str]) -> Markets:
        """The market of the events at these positions; `key` gives a slot's. A table of Bronze holds one source's."""
        codes = np.empty(len(at), np.int32)
        known: dict[tuple[int, str], int] = {}
        slots = self.batch.events["slot"][at]
        for where, table, _ in self._rows(at):
            source = str(table["source"][0].as_py())
            distinct, back = np.unique(slots[where], return_inverse=True)
            code = [known.setdefault((slot, source), len(known)) for slot in distinct.tolist()]
            codes[where] = np.array(code, np.int32)[back]
        return Markets([_market(key(slot), source) for slot, source in known], codes)

    def _rows(self, at: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], pa.Table, NDArray[np.int64]]]:
        """Table by table: which of the positions lie in it, and in which of its rows."""
        pieces, places = self.piece[at], self.place[at]
        for which in np.unique(pieces).tolist():
            bronze = self.pieces[which].bronze
            mine = np.flatnonzero(pieces == which)
            tables, rows = bronze.table[places[mine]], bronze.row[places[mine]]
            for table in np.unique(tables).tolist():
                within = tables == table
                yield mine[within], bronze.tables[table], rows[within]


def _market(key: str, source: str) -> Market:
    exchange, _, symbol = key.partition("|")
    return Market(exchange, symbol, source)


class Feed:
    """One chain being read; no event of it counts as captured before `first`, ns."""

    def __init__(
        self,
        chain: int,
        first: int,
        open_: Callable[[], Iterator[BronzeBatch]],
        renewed: frozenset[int] | None = None,
    ) -> None:
        self.chain = chain
        self.frontier = first
        """No event still to come counts as captured before this."""
        self.passed = first
        """No event that is still to be passed on does."""
        self.renewed = renewed
        """`BronzeBatch.renewed` behind what was passed on."""
        self.done = False
        self._open = open_
        self._batches: Iterator[BronzeBatch] | None = None
        self._held: list[tuple[Piece, int]] = []

    @property
    def holds(self) -> bool:
        """Events have been read that are not yet passed on."""
        return bool(self._held)

    @property
    def first(self) -> int:
        """When the first event that it holds counts as captured."""
        piece, start = self._held[0]
        return int(piece.keys[start])

    def load(self) -> None:
        """Read one more batch."""
        if self._batches is None:
            self._batches = self._open()
        bronze = next(self._batches, None)
        if bronze is None:
            self.done = True
            return
        keys = _keys(bronze.batch.events, self.frontier)
        self.frontier = int(keys[-1])
        self._held.append((Piece(self.chain, bronze, keys), 0))

    def take_before(self, bound: int | None) -> Iterator[tuple[Piece, int, int]]:
        """Pass on what counts as captured before `bound`; all of it where that is None."""
        kept = []
        for piece, start in self._held:
            end = len(piece.keys) if bound is None else int(np.searchsorted(piece.keys, bound))
            if end > start:
                self.passed = int(piece.keys[end - 1])
                self.renewed = piece.bronze.renewed
                if self.renewed is not None:
                    self.renewed |= set(np.unique(piece.bronze.batch.events["slot"][:end]).tolist())
                yield piece, start, end
            if end < len(piece.keys):
                kept.append((piece, max(start, end)))
        self._held = kept


def merge(feeds: Sequence[Feed], on_day: Callable[[int], None] = lambda _: None) -> Iterator[Merged]:
    """All events of all feeds; `on_day` is told of a midnight, ns, once all before it was given and more is to come."""
    feeds = list(feeds)
    day: int | None = None
    while feeds:
        reading = [feed for feed in feeds if not feed.done]
        bound = min((feed.frontier for feed in reading), default=None)
        while held := [feed.first for feed in feeds if feed.holds]:
            first = min(held)
            if bound is not None and first >= bound:
                break
            if day is not None and first >= day + DAY:
                on_day(first - first % DAY)
            day = first - first % DAY
            end = day + DAY if bound is None else min(bound, day + DAY)
            yield _merged([part for feed in feeds for part in feed.take_before(end)])
        for feed in reading:
            if feed.frontier == bound:
                feed.load()
        feeds = [feed for feed in feeds if feed.holds or not feed.done]


def _keys(events: NDArray[np.void], frontier: int) -> NDArray[np.int64]:
    """The capture time no event runs behind, one for each offset: events of one offset stay together."""
    keys = np.maximum.accumulate(np.maximum(events["capture_ts"], frontier))
    last = np.searchsorted(events["offset"], events["offset"], side="right") - 1
    of_offset: NDArray[np.int64] = keys[last]
    return of_offset


def _merged(parts: Sequence[tuple[Piece, int, int]]) -> Merged:
    found = [piece.between(start, end) for piece, start, end in parts]
    at = 0
    for events, levels in found:
        events["levels"] += at
        at += len(levels)
    keys = np.concatenate([piece.keys[start:end] for piece, start, end in parts])
    counts = [end - start for _, start, end in parts]
    which = np.repeat(np.arange(len(parts)), counts)
    places = np.concatenate([np.arange(start, end) for _, start, end in parts])
    order = np.argsort(keys, kind="stable")
    batch = EventBatch(
        np.concatenate([events for events, _ in found])[order], np.concatenate([levels for _, levels in found])
    )
    chain = np.repeat([piece.chain for piece, _, _ in parts], counts)
    return Merged(batch, keys[order], chain[order], [piece for piece, _, _ in parts], which[order], places[order])
