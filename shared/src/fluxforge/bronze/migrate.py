"""Older forms of Bronze into today's: lines of JSON, and books as doubles, become Parquet of the present schema.

Each batch is written anew beside itself, read back, and taken over by a record of its own, as compaction does: readers
see the old files or the new ones, and the old go a grace later.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

import pyarrow as pa

from fluxforge.bronze import scaled
from fluxforge.bronze.compaction import LAYOUT
from fluxforge.bronze.scan import is_stored
from fluxforge.bronze.schema import ORDERBOOK, SCHEMA_VERSION, SCHEMAS, parquet_format
from fluxforge.errors import StorageError
from fluxforge.files import Commit, CommittedFile, Format, Tree, chains, records
from fluxforge.files.merge import merge
from fluxforge.files.runs import Layout, Run
from fluxforge.files.settle import GRACE_S, lock, settle


@dataclass
class Migrated:
    """Of a dry run, what would be done. `failed`: what could not be, and why."""

    batches: int = 0
    files: int = 0
    rows: int = 0
    failed: list[str] = field(default_factory=list)


def migrate(
    tree: Tree, *, apply: bool = False, grace_s: float = GRACE_S, progress: Callable[[int], None] = lambda _: None
) -> Migrated:
    """Bring every batch of Bronze that is of an older form to today's; `progress` is told bytes that are done."""
    done = Migrated()
    for chain in chains(tree):
        held = lock(tree, chain) if apply else None
        try:
            for record in records(tree, chain):
                old = [file for file in record.files if not is_stored(file, record.schema)]
                if not old:
                    continue
                try:
                    if record.merged:
                        raise StorageError("a compaction made it", hint="it can be read as it is")
                    if apply:
                        merge(tree, Run(chain, [record]), PARQUET, now=time.time_ns(), progress=progress)
                    _count(done, record, old)
                except (StorageError, OSError, ValueError, TypeError, pa.ArrowException) as error:
                    done.failed.append(f"{chain.folder}, [{record.start}, {record.next_offset}): {error}")
            if apply:
                settle(tree, chain, grace_s=grace_s)
        finally:
            if held is not None:
                held.release()
    return done


def _count(done: Migrated, record: Commit, old: list[CommittedFile]) -> None:
    done.batches += 1
    done.files += len(old)
    done.rows += sum(file.rows for file in old)


class _Parquet:
    sort: str | None = None
    time_column = "capture_ts"
    schema: str | None = SCHEMA_VERSION

    def day(self, file: CommittedFile) -> str | None:
        return LAYOUT.day(file)

    def tables(self, tree: Tree, file: CommittedFile) -> Iterator[pa.Table]:
        scaler = scaled.Scaler(SCHEMAS[ORDERBOOK])
        for table in LAYOUT.tables(tree, file):
            plain = file.meta["channel"] == ORDERBOOK and not scaled.is_stored(table)
            yield scaler.encode(table) if plain else table

    def form(self, file: CommittedFile, schema: pa.Schema) -> Format:
        return parquet_format(file.meta["channel"])


PARQUET: Final[Layout] = _Parquet()
