"""Committed Parquet as a pyarrow dataset that knows from the records alone what each file holds.

Nothing is opened before it is read, and a filter leaves out what the records rule out: a file's partition and its
earliest and latest time are told to Arrow as guarantees. What a dataset of many files costs is told in `files_at`.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from functools import reduce
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from fluxforge.errors import StorageError
from fluxforge.files.commit import Commit, CommittedFile
from fluxforge.files.history import chains, locate, records
from fluxforge.files.storage import Tree


class Found(NamedTuple):
    """A committed file and its record; `last`: it is the newest of its chain."""

    file: CommittedFile
    record: Commit
    last: bool


class At(NamedTuple):
    """A committed file and the path it can be read at now."""

    file: CommittedFile
    record: Commit
    path: str


def committed_files(tree: Tree) -> Iterator[Found]:
    """Every committed file, chain by chain, each chain's in order of offset."""
    for chain in chains(tree):
        known = records(tree, chain)
        for record in known:
            for file in record.files:
                yield Found(file, record, record is known[-1])


def files_at(tree: Tree, found: Iterable[Found]) -> list[At]:
    """Where the files can be read.

    Asks the store for one listing of its active files, and for a file only where it may not have its final name yet:
    one that a record of a compaction staged, or an upload of a chain's newest record. Raises StorageError where such
    a file is gone.
    """
    found = list(found)
    staged = set(tree.storage.walk(tree.active))  # after the records: what they staged is listed, or has its final name
    unsure = [one.file.active in staged or (one.last and one.file.upload is not None) for one in found]
    return [
        At(one.file, one.record, locate(tree, one.file) if ask else one.file.path)
        for one, ask in zip(found, unsure, strict=True)
    ]


def dataset(
    tree: Tree,
    files: Sequence[At],
    schema: pa.Schema,
    partitions: Iterable[Mapping[str, Any]],
    time_column: str,
) -> ds.Dataset:
    """The rows of the files.

    partitions   of each file, the values of columns that are the same in all its rows, as scalars of the schema's types
    time_column  whose least and greatest value the records tell
    """
    form = ds.ParquetFileFormat()
    filesystem = tree.storage.filesystem()
    time_type = schema.field(time_column).type
    same: dict[tuple[tuple[str, Any], ...], ds.Expression] = {}  # shared: expressions are most of a dataset's memory
    fragments = []
    for at, values in zip(files, partitions, strict=True):
        key = tuple(values.items())
        if key not in same:
            same[key] = _all(ds.field(name) == pa.scalar(value, schema.field(name).type) for name, value in key)
        guarantee = _all([same[key], *_times(at.file, time_column, time_type)])
        fragments.append(
            form.make_fragment(at.path, filesystem, partition_expression=guarantee, file_size=at.file.bytes)
        )
    return ds.FileSystemDataset(fragments, schema, form, filesystem)


def schema_of(tree: Tree, files: Iterable[At]) -> pa.Schema:
    """The columns of all files together: the footer of one file of each schema and configuration is read.

    Raises StorageError where their types do not go together.
    """
    newest: dict[Hashable, At] = {}
    for at in files:
        newest[at.record.schema, at.record.config_hash, at.record.meta.get("table")] = at
    found = [_footer(tree, at) for at in newest.values()]
    try:
        return pa.unify_schemas(found, promote_options="permissive").remove_metadata()
    except pa.ArrowException as error:
        raise StorageError(
            f"{tree}: files of different configurations do not go together: {error}",
            hint="read one source, table or configuration at a time",
        ) from error


def _footer(tree: Tree, at: At) -> pa.Schema:
    try:
        with tree.storage.open(at.path) as opened, pq.ParquetFile(opened) as found:
            return found.schema_arrow.remove_metadata()
    except FileNotFoundError as error:
        raise StorageError(
            f"{tree.storage.name(at.path)} is committed, but gone",
            hint="`fluxforge validate` lists what is missing; restore it from a copy",
        ) from error
    except (OSError, pa.ArrowException) as error:
        raise StorageError(f"{tree.storage.name(at.path)} cannot be read: {error}") from error


def _times(file: CommittedFile, column: str, kind: pa.DataType) -> list[ds.Expression]:
    """What is true of the time of every row."""
    if file.first_ts is None or file.last_ts is None:
        return []
    first, last = (pa.scalar(ts, pa.int64()).cast(kind) for ts in (file.first_ts, file.last_ts))
    return [ds.field(column) >= first, ds.field(column) <= last]


def _all(expressions: Iterable[ds.Expression]) -> ds.Expression:
    return reduce(lambda one, other: one & other, expressions, ds.scalar(True))
