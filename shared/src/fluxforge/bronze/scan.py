"""A channel of Bronze as a pyarrow dataset: whole batches, as they are stored."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.dataset as ds

from fluxforge.bronze import scaled
from fluxforge.bronze.compaction import LAYOUT
from fluxforge.bronze.layout import tree as bronze_tree
from fluxforge.bronze.schema import ORDERBOOK, SCHEMA_VERSION, SCHEMAS, parquet_format
from fluxforge.files import CommittedFile, Tree
from fluxforge.files.dataset import At, Found, committed_files, dataset, files_at
from fluxforge.storage import Root

TIME = "capture_ts"


class Stored(NamedTuple):
    """The segments of a channel that match.

    dataset  those whose columns stand as `stored_schema` says; None where there are none
    files    the same ones, in its order
    others   lines of JSON, and books as an earlier version stored them: `rewrite` makes Parquet of such a one
    """

    dataset: ds.Dataset | None
    files: list[At]
    others: list[At]


def scan(
    root: Root, channel: str, *, source: str | None = None, start: int | None = None, end: int | None = None
) -> Stored:
    """The segments of a channel that hold rows with start ≤ capture_ts < end, ns.

    Segments are chosen whole by the times in their records; rows of theirs that lie outside are there too. A filter on
    capture_ts leaves out whole segments, one on exchange or symbol row groups. Books have their levels as integers and
    decimal places, see `fluxforge.bronze.scaled`.
    """
    tree = bronze_tree(root)
    found = files_at(tree, _chosen(committed_files(tree), channel, source, start, end))
    stored = [at for at in found if is_stored(at.file, at.record.schema)]
    made = dataset(tree, stored, stored_schema(channel), ({} for _ in stored), TIME) if stored else None
    return Stored(made, stored, [at for at in found if not is_stored(at.file, at.record.schema)])


def stored_schema(channel: str) -> pa.Schema:
    """The columns of a channel's Parquet; words plain, so that filters on them go down to the row groups."""
    schema = scaled.schema_of(SCHEMAS[channel]) if channel == ORDERBOOK else SCHEMAS[channel]
    return pa.schema(
        [
            pa.field(field.name, field.type.value_type if pa.types.is_dictionary(field.type) else field.type)
            for field in schema
        ]
    )


def is_stored(file: CommittedFile, schema: str) -> bool:
    """Whether a segment is Parquet in today's columns."""
    return file.path.endswith(".parquet") and (schema == SCHEMA_VERSION or file.meta.get("channel") != ORDERBOOK)


def rewrite(tree: Tree, file: CommittedFile, target: BinaryIO) -> None:
    """The segment as Parquet in today's columns. Raises SegmentError, StorageError, OSError or ValueError."""
    writer = parquet_format(file.meta["channel"]).open(target)
    for table in LAYOUT.tables(tree, file):
        writer.write(table)
    writer.close()


def _chosen(
    found: Iterable[Found], channel: str, source: str | None, start: int | None, end: int | None
) -> Iterator[Found]:
    for one in found:
        file = one.file
        if file.meta.get("channel") != channel or source not in (None, file.meta.get("source")):
            continue
        if start is not None and file.last_ts is not None and file.last_ts < start:
            continue
        if end is not None and file.first_ts is not None and file.first_ts >= end:
            continue
        yield one
