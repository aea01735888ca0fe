"""Bronze's chains as far as they are committed, and which of them have markets in common."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from fluxforge.bronze import ndjson
from fluxforge.bronze.schema import WIRE
from fluxforge.errors import StorageError
from fluxforge.etl.checkpoints import Checkpoint
from fluxforge.files import ChainId, CommittedFile, Tree, chains, locate, records

Market = tuple[str, str]
_MARKET = ["exchange", "symbol"]


@dataclass(frozen=True)
class Extent:
    """One Bronze chain as far as it is committed.

    first, end  its offsets, [first, end)
    captured    nothing in it was captured before, ns
    until       nor after, ns
    steps       of each record that has rows: (next offset, rows)
    """

    chain: ChainId
    first: int
    end: int
    captured: int
    until: int
    steps: tuple[tuple[int, int], ...]

    @property
    def rows(self) -> int:
        return self.rows_from(self.first)

    def rows_from(self, offset: int) -> int:
        """Rows of the records that end behind `offset`."""
        return sum(rows for end, rows in self.steps if end > offset)


def extents(raw: Tree) -> list[Extent]:
    """Bronze's chains by first capture time."""
    found = []
    for chain in chains(raw):
        stored = records(raw, chain)
        first = [record.first_ts for record in stored if record.first_ts is not None]
        last = [record.last_ts for record in stored if record.last_ts is not None]
        if first:
            steps = tuple((record.next_offset, record.rows) for record in stored if record.rows)
            found.append(Extent(chain, stored[0].start, stored[-1].next_offset, min(first), max(last), steps))
    return sorted(found, key=lambda extent: (extent.captured, extent.chain))


def groups(raw: Tree, found: Sequence[Extent], heads: Sequence[Checkpoint] = ()) -> list[list[Extent]]:
    """The chains, those with a market in common together, the largest group first; the order within a group stays.

    What the kernels make of a market depends on its own events alone, so groups can be processed apart. Checkpoints
    tell of the markets that were met; only records behind them are read. One group where a segment cannot be read.
    """
    try:
        markets = [_markets(raw, extent.chain, heads) for extent in found]
    except (StorageError, OSError, ValueError, pa.ArrowException):
        return [list(found)]
    made: list[tuple[set[Market], list[int]]] = []
    for i, own in enumerate(markets):
        shared = [group for group in made if group[0] & own]
        made = [group for group in made if not group[0] & own]
        members = sorted([i, *(member for _, group in shared for member in group)])
        made.append((own.union(*(known for known, _ in shared)), members))
    parts = [[found[i] for i in members] for _, members in made]
    return sorted(parts, key=lambda part: -sum(extent.rows for extent in part))


def _markets(raw: Tree, chain: ChainId, heads: Sequence[Checkpoint]) -> set[Market]:
    """Of all events; what exchanges sent (`wire`) is of none."""
    known, keys = max(((mark.reached, head.keys) for head in heads if (mark := head.mark(chain))), default=(0, ()))
    return {(exchange, symbol) for exchange, _, symbol in (key.partition("|") for key in keys)} | {
        (row["exchange"], row["symbol"])
        for record in records(raw, chain)
        if record.next_offset > known
        for file in record.files
        if file.meta.get("channel") != WIRE
        for table in _columns(raw, file)
        for row in table.group_by(_MARKET).aggregate([]).to_pylist()
    }


def _columns(raw: Tree, file: CommittedFile) -> Iterator[pa.Table]:
    with raw.storage.open(locate(raw, file)) as opened:
        if file.path.endswith(".ndjson"):
            yield from (table.select(_MARKET) for table in ndjson.tables(opened))
        else:
            yield pq.ParquetFile(opened).read(columns=_MARKET, use_threads=False)
