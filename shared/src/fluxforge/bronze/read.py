"""Bronze read back: records, events or kernel batches, in offset order, merged over channels."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fluxforge.bronze import batches, ndjson
from fluxforge.bronze.batches import BronzeBatch, Slots
from fluxforge.bronze.merge import merged
from fluxforge.bronze.records import events_of, records_of
from fluxforge.bronze.scaled import decode
from fluxforge.bronze.schema import ORDERBOOK, TRADES
from fluxforge.errors import SegmentError, StorageError, Superseded
from fluxforge.events import AnyEvent
from fluxforge.files import ChainId, Commit, CommittedFile, Tree, commits, locate
from fluxforge.files.history import stands
from fluxforge.log import Record

OnError = Callable[[SegmentError], None]
"""Told of a segment (or a row group of it) that cannot be read; returning goes on past it, raising stops."""


OnGap = Callable[[int, int], None]
"""Told of offsets [first, next) that the log had dropped before they were stored, or retention has dropped since."""


def pass_over(_first: int, _next: int) -> None:
    """Read on behind a gap."""


def stop(error: SegmentError) -> None:
    """Stop at the first segment that cannot be read."""
    raise error


def read(
    tree: Tree, chain: ChainId, *, start: int = 0, end: int | None = None, on_error: OnError = stop
) -> Iterator[Record]:
    """The log's records with offsets in [start, end), as they were, byte for byte."""
    for tables in read_tables(tree, chain, start=start, end=end, on_error=on_error):
        yield from records_of(tables)


def read_events(
    tree: Tree, chain: ChainId, *, start: int = 0, end: int | None = None, on_error: OnError = stop
) -> Iterator[tuple[int, AnyEvent]]:
    """Offset and event, without the records that do not decode."""
    for tables in read_tables(tree, chain, start=start, end=end, on_error=on_error):
        found = []
        for table in tables:
            places = zip(table.column("offset").to_pylist(), table.column("ordinal").to_pylist(), strict=True)
            found += [(*place, event) for place, event in zip(places, events_of(table), strict=True) if event]
        for offset, _, event in sorted(found, key=lambda one: one[:2]):
            yield offset, event


def read_batches(
    tree: Tree, chain: ChainId, slots: Slots, *, start: int = 0, end: int | None = None, on_error: OnError = stop
) -> Iterator[BronzeBatch]:
    """Kernel batches straight from the columns; equal to `fluxforge.batch.build` of the events."""
    for tables in read_tables(tree, chain, start=start, end=end, on_error=on_error):
        batch = batches.build(tables, slots)
        if len(batch.batch.events):
            yield batch


def read_tables(
    tree: Tree,
    chain: ChainId,
    *,
    start: int = 0,
    end: int | None = None,
    wanted: Callable[[CommittedFile], bool] = lambda _: True,
    without: Collection[str] = (),
    on_gap: OnGap = pass_over,
    on_error: OnError = stop,
) -> Iterator[list[pa.Table]]:
    """Lists of tables of one channel and source each; a list holds every row of its run of offsets.

    wanted   leaves out whole segments, of a channel or a time
    without  columns of trades and books that need not be read
    on_gap   told of offsets that are not here, before what lies behind them is given
    """
    while True:
        try:
            for commit in commits(tree, chain, start=start):
                if end is not None and commit.start >= end:
                    return
                if commit.start > start:
                    on_gap(start, commit.start)
                if commit.gap is not None and commit.gap.next > start:
                    on_gap(commit.gap.first, commit.gap.next)
                files = filter(wanted, commit.files)
                whole = commit.start >= start and (end is None or commit.next_offset <= end)
                for tables in merged(_tables(tree, commit, file, without, on_error) for file in files):
                    found = tables if whole else [_within(table, start, end) for table in tables]
                    if any(table.num_rows for table in found):
                        start = max(table.column("offset")[-1].as_py() for table in found if table.num_rows) + 1
                        yield found
                start = max(start, commit.next_offset)
            return
        except Superseded:
            continue  # a compaction made one of records that were read and others: on from the row that comes next


def _within(table: pa.Table, start: int, end: int | None) -> pa.Table:
    keep = pc.greater_equal(table.column("offset"), start)
    if end is not None:
        keep = pc.and_(keep, pc.less(table.column("offset"), end))
    return table.filter(keep)


def _tables(
    tree: Tree, commit: Commit, file: CommittedFile, without: Collection[str], on_error: OnError
) -> Iterator[pa.Table]:
    """The row groups of a segment, past those that cannot be read where `on_error` allows it."""
    try:
        with _opened(tree, file) as opened:
            size = opened.seek(0, os.SEEK_END)
            opened.seek(0)
            if size != file.bytes:
                raise ValueError(f"{size} bytes, where {file.bytes} were committed")
            if file.path.endswith(".ndjson"):
                yield from ndjson.tables(opened)
            else:
                yield from _row_groups(tree, commit, file, opened, without, on_error)
    except (SegmentError, Superseded):
        raise  # on_error's own word, or ours
    except (StorageError, OSError, ValueError, pa.ArrowException) as error:
        _check_stands(tree, commit)
        on_error(_unreadable(tree.storage.name(file.path), error))


def _row_groups(
    tree: Tree, commit: Commit, file: CommittedFile, opened: BinaryIO, without: Collection[str], on_error: OnError
) -> Iterator[pa.Table]:
    with pq.ParquetFile(opened, page_checksum_verification=True, pre_buffer=False) as segment:
        names = segment.schema_arrow.names
        if without and file.meta.get("channel") in (TRADES, ORDERBOOK):
            names = [name for name in names if name not in without]
        for group in range(segment.num_row_groups):
            try:
                table = decode(segment.read_row_group(group, names, use_threads=False))
            except (OSError, ValueError, pa.ArrowException) as error:
                _check_stands(tree, commit)
                on_error(_unreadable(tree.storage.name(file.path), error, f"row group {group} "))
            else:
                yield table


def _check_stands(tree: Tree, commit: Commit) -> None:
    """Raises Superseded where the record is no longer the one to read, which is why its file could not be."""
    if not stands(tree, commit):
        raise Superseded(f"{commit.chain.commits}: [{commit.start}, {commit.next_offset}) was merged while it was read")


def _opened(tree: Tree, file: CommittedFile) -> BinaryIO:
    """The segment, open; once more where its writer took away the active name in between."""
    try:
        return tree.storage.open(locate(tree, file))
    except FileNotFoundError:
        return tree.storage.open(locate(tree, file))


def _unreadable(path: str, error: Exception, part: str = "") -> SegmentError:
    return SegmentError(
        f"{part and part + 'of '}{path} cannot be read: {error}",
        hint="restore it from a copy or write it again from the log; reading can go on past it when told to",
    )
