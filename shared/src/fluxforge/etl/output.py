"""A Bronze chain's rows of one table, under the chain's own offsets.

A row belongs to the offset of the event that brought it forth. What is committed is made again on a later run, held
against its record, and not written twice.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from fluxforge.errors import StorageError
from fluxforge.files import ChainId, Commit, Tree, records
from fluxforge.files.rowhash import row_hash
from fluxforge.files.runs import Batch, batches
from fluxforge.lake.writer import LakeWriter
from fluxforge.rows import Markets, Table


def lake_chain(bronze: ChainId, table: Table) -> ChainId:
    """The lake's chain for a Bronze chain."""
    return ChainId(bronze.log_id, f"{bronze.topic}.{table.name}", bronze.partition)


class Output:
    """The rows of one Bronze chain and table; opened for writing only when there is something new, never if `dry`.

    Rows that are not stored yet are taken between `begin` and `stop`; none before it has begun.
    """

    def __init__(
        self, tree: Tree, bronze: ChainId, end: int, table: Table, config_hash: str, *, dry: bool = False
    ) -> None:
        self.table = table
        self._tree, self._chain, self._end = tree, lake_chain(bronze, table), end
        self._config_hash, self._dry = config_hash, dry
        self._first: int | None = None
        self._stop: int | None = None
        stored = records(tree, self._chain)
        self._batches = [batch for record in stored for batch in batches(record)]
        self._checked = 0
        self._again: list[pa.Table] = []
        self._writer: LakeWriter | None = None
        for record in stored:
            self._check_config(record)

    def fits(self, reached: int, *, wanted: bool) -> bool:
        """Whether a run may begin at offset `reached` of the chain.

        Then every row of the events below that is `wanted` is stored, and none of those behind in a batch with them.
        """
        if not self._batches or reached <= self._batches[0].start:
            return not wanted
        return any(batch.next_offset == reached for batch in self._batches)

    def resume(self, reached: int) -> None:
        """Take what is stored of the offsets below as verified."""
        self._checked = sum(batch.next_offset <= reached for batch in self._batches)

    def begin(self, first: int, before: int) -> None:
        """The first offset that is wanted; events end at `before` ahead of it.

        Raises StorageError where it does not continue what is stored: rows of the chain would be missing between.
        """
        if self._batches and self._batches[0].start > first:
            raise StorageError(
                f"{self._chain}: the lake begins at offset {self._batches[0].start}, what is asked for at {first}",
                hint="rows are added at the end only; take a fresh --output for earlier days",
            )
        if self._batches and self._batches[-1].next_offset < before:
            raise StorageError(
                f"{self._chain}: the lake ends at offset {self._batches[-1].next_offset}, what is asked for begins at "
                f"{first}",
                hint="ask for the days between too (--mode range or all), or take a fresh --output",
            )
        self._first = first

    def stop(self, offset: int) -> None:
        """Nothing new from this offset on is wanted; the first call counts."""
        if self._stop is None:
            self._stop = offset

    @property
    def next_offset(self) -> int:
        """First offset of the chain whose rows are not committed."""
        if self._writer is not None:
            return self._writer.next_offset
        return self._batches[-1].next_offset if self._batches else self._first or 0

    @property
    def complete(self) -> bool:
        """Everything Bronze holds of the chain is committed."""
        return self.next_offset >= self._end

    @property
    def bytes(self) -> int:
        return self._writer.bytes if self._writer else 0

    def add(self, rows: pa.Table, markets: Markets) -> None:
        """Rows in the chain's order."""
        offsets = rows["source_offset"].to_numpy()
        if self._batches:
            start, known = np.searchsorted(offsets, (self._batches[0].start, self._batches[-1].next_offset)).tolist()
            if known > start:
                self._again.append(rows.slice(start, known - start))
        if self._first is None or self._dry:
            return
        new = int(np.searchsorted(offsets, max(self._first, self.next_offset)))
        end = len(offsets) if self._stop is None else int(np.searchsorted(offsets, self._stop))
        if new < end:
            self._open(self._first).add_table(rows.slice(new, end - new), markets.at(slice(new, end)))

    @property
    def verified(self) -> bool:
        """All that was stored has come out again as it is stored."""
        return self._checked == len(self._batches)

    @property
    def is_open(self) -> bool:
        return self._writer is not None

    def verify(self, next_offset: int) -> None:
        """The events below `next_offset` have been processed: hold what was stored of them against its records.

        Raises StorageError where it came out otherwise.
        """
        while not self.verified and self._batches[self._checked].next_offset <= next_offset:
            self._compare(self._batches[self._checked])
            self._checked += 1

    def commit(self, next_offset: int) -> Commit | None:
        """Store what is new of the events below `next_offset`; None where nothing is."""
        if self._stop is not None:
            next_offset = min(next_offset, self._stop)
        if self._first is None or next_offset <= self.next_offset:
            return None
        writer = self._open(self._first)
        return writer.commit(next_offset, {"row_hash": str(row_hash(writer.waiting().select(self.table.schema.names)))})

    def close(self) -> None:
        self._again.clear()
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _open(self, first: int) -> LakeWriter:
        if self._writer is None:
            self._writer = LakeWriter.open(
                self._tree,
                self.table,
                self._chain,
                first=first,
                end=self._end,
                config_hash=self._config_hash,
                road="etl",
            )
        return self._writer

    def _compare(self, batch: Batch) -> None:
        """The rows of a committed batch came out as they were committed."""
        again = pa.concat_tables(self._again) if self._again else self.table.schema.empty_table()
        cut = int(np.searchsorted(again["source_offset"].to_numpy(), batch.next_offset))
        self._again = [again.slice(cut)] if cut < again.num_rows else []
        if str(row_hash(again.slice(0, cut))) != batch.row_hash:
            raise StorageError(
                f"{self._chain}: the {self.table.name} rows of offsets [{batch.start}, {batch.next_offset}) come out "
                "otherwise than they are stored",
                hint="earlier events of these symbols were imported since, or files changed; take a fresh --output",
            )

    def _check_config(self, record: Commit) -> None:
        if record.config_hash != self._config_hash:
            raise StorageError(
                f"{self._tree.storage.name('')} holds {self.table.name} rows of configuration {record.config_hash}, "
                f"not of {self._config_hash}",
                hint="take a fresh --output for another configuration or version",
            )
