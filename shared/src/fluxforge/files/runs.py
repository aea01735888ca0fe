"""Which records of a chain become one: those of a closed day that follow each other."""

from __future__ import annotations

import posixpath
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol

import pyarrow as pa

from fluxforge.files import history
from fluxforge.files.commit import ChainId, Commit, CommittedFile
from fluxforge.files.segment import Format
from fluxforge.files.settle import GRACE_S
from fluxforge.files.storage import Tree

MAX_BYTES = 512_000_000
"""A folder's files that together are larger are not made one."""


class Layout(Protocol):
    """What compaction asks of the files of a tree."""

    sort: str | None
    """Column whose order the rows get, the time column; None: they stay in order of offset."""
    time_column: str
    schema: str | None
    """What a record says of files that `form` wrote; None: what its records said before."""

    def day(self, file: CommittedFile) -> str | None:
        """The newest day its rows are of, ISO 8601; None where it has none."""

    def tables(self, tree: Tree, file: CommittedFile) -> Iterator[pa.Table]:
        """The rows as they are stored, a row group at a time."""

    def form(self, file: CommittedFile, schema: pa.Schema) -> Format:
        """How a file that holds the same is written."""


@dataclass(frozen=True)
class Options:
    """What to merge, and how.

    before     days before this one are closed, ISO 8601; None: before today, UTC
    date       only this day, closed or not
    wanted     only days of a chain that hold such a file
    max_bytes  see MAX_BYTES
    grace_s    see `fluxforge.files.settle`
    dry_run    only count
    """

    before: str | None = None
    date: str | None = None
    wanted: Callable[[CommittedFile], bool] = lambda _: True
    max_bytes: int = MAX_BYTES
    grace_s: float = GRACE_S
    dry_run: bool = False


class Batch(NamedTuple):
    """One of the batches that a record holds, merged or not."""

    start: int
    next_offset: int
    row_hash: str | None


class Run(NamedTuple):
    """Records that become one."""

    chain: ChainId
    records: list[Commit]

    @property
    def start(self) -> int:
        return self.records[0].start

    @property
    def next_offset(self) -> int:
        return self.records[-1].next_offset

    @property
    def bytes(self) -> int:
        return sum(file.bytes for record in self.records for file in record.files)

    def folders(self) -> dict[tuple[str, str], list[CommittedFile]]:
        """Files by folder and ending, in order of offset."""
        found: dict[tuple[str, str], list[CommittedFile]] = defaultdict(list)
        for record in self.records:
            for file in record.files:
                found[_group(file)].append(file)
        return dict(sorted(found.items()))

    def kept(self, schema: str | None) -> set[str]:
        """Paths of merged files that have their folder to themselves, of that schema: they go over as they are."""
        ready = [record for record in self.records if record.merged and record.schema == (schema or record.schema)]
        merged = {file.path for record in ready for file in record.files}
        alone = (files[0].path for files in self.folders().values() if len(files) == 1)
        return {path for path in alone if path in merged}


def batches(record: Commit) -> list[Batch]:
    """The batches in a record, as they were committed."""
    if not record.merged:
        return [Batch(record.start, record.next_offset, record.meta.get("row_hash"))]
    found, start = [], record.start
    for next_offset, hashed in record.meta["batches"]:
        found.append(Batch(start, next_offset, hashed))
        start = next_offset
    return found


def runs(tree: Tree, chain: ChainId, layout: Layout, options: Options) -> list[Run]:
    """What there is to merge in a chain."""
    before = options.before or datetime.now(UTC).date().isoformat()
    found: list[Run] = []
    for day, records in _days(history.records(tree, chain), layout):
        closed = day < before if options.date is None else day == options.date
        if closed and any(options.wanted(file) for record in records for file in record.files):
            found += (Run(chain, part) for part in _pieces(records, options.max_bytes))
    return [run for run in found if _worth_it(run)]


def _days(records: Iterable[Commit], layout: Layout) -> Iterator[tuple[str, list[Commit]]]:
    """Records that may become one, behind their day. One without files belongs to what comes after it."""
    day, run, waiting = None, list[Commit](), list[Commit]()
    for record in records:
        new = max(filter(None, map(layout.day, record.files)), default=None)
        if (run or waiting) and (_kind(record) != _kind([*run, *waiting][0]) or record.gap is not None):
            if day is not None:
                yield day, run
            day, run, waiting = None, [], []
        if record.gap is not None:
            continue
        if new is None:
            waiting.append(record)
        elif new == day:
            run += [*waiting, record]
            waiting = []
        else:
            if day is not None:
                yield day, run
            day, run, waiting = new, [*waiting, record], []
    if day is not None:
        yield day, run


def _kind(record: Commit) -> tuple[Any, ...]:
    return record.schema, record.config_hash, record.meta.get("road"), record.meta.get("table")


def _pieces(records: Sequence[Commit], max_bytes: int) -> Iterator[list[Commit]]:
    """Cut where a folder's files would grow together beyond the largest size."""
    piece: list[Commit] = []
    sizes: dict[tuple[str, str], int] = defaultdict(int)
    for record in records:
        adds: dict[tuple[str, str], int] = defaultdict(int)
        for file in record.files:
            adds[_group(file)] += file.bytes
        if piece and any(sizes[group] + size > max_bytes for group, size in adds.items()):
            yield piece
            piece, sizes = [], defaultdict(int)
        piece.append(record)
        for group, size in adds.items():
            sizes[group] += size
    if piece:
        yield piece


def _worth_it(run: Run) -> bool:
    """Some record is new, and some folder has several files."""
    several = any(len(files) > 1 for files in run.folders().values())
    return several and not all(record.merged for record in run.records)


def _group(file: CommittedFile) -> tuple[str, str]:
    folder, name = posixpath.split(file.path)
    return folder, name.rsplit(".", 1)[-1]
