"""A run of records made one: new files beside the old ones, read back, then the record."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator, Sequence
from threading import Lock
from typing import Any
from uuid import uuid4

import msgspec
import pyarrow as pa

from fluxforge.clock import uptime
from fluxforge.errors import StorageError, Superseded
from fluxforge.files import history
from fluxforge.files.commit import Commit, CommittedFile, encode
from fluxforge.files.groups import check_rows, gathered, in_order
from fluxforge.files.rowhash import RowHash, row_hash
from fluxforge.files.runs import Layout, Run, batches
from fluxforge.files.segment import Segment
from fluxforge.files.storage import Step, Tree, no_step
from fluxforge.files.syncs import Syncs

STEPS = ("files.finished", "files.verified", "files.synced", "record.written", "record.linked", "record.synced")
"""Where a merge can be cut off, in order, before `fluxforge.files.settle` takes over."""
_ATTEMPTS = 5
_SUMMED = {"left_out": ("files", "rows", "bytes")}

Progress = Callable[[int], None]
"""Told of bytes of input that are done."""


def merge(
    tree: Tree,
    run: Run,
    layout: Layout,
    *,
    now: int,
    progress: Progress = lambda _: None,
    step: Step = no_step,
) -> tuple[Commit, RowHash]:
    """Make the run one record; it, and the hash of its rows. Raises StorageError; then nothing has changed."""
    newest = run.records[-1]
    if not newest.merged:
        tree.storage.publish(newest.files)  # its writer may have been cut off before it did
    began = uptime()
    writing = _Writing(tree, run, layout, now, step)
    try:
        record, hashed = writing.write(progress)
        _create(tree, run, record, began, step)
    except BaseException:
        writing.discard()
        raise
    return record, hashed


class _Writing:
    """The new files of one run."""

    def __init__(self, tree: Tree, run: Run, layout: Layout, now: int, step: Step) -> None:
        self._tree, self._run, self._layout, self._now, self._step = tree, run, layout, now, step
        self._writer = f"{now:020d}-{uuid4().hex[:12]}"
        self._segments: list[Segment] = []
        self._reading = Lock()
        self._done: list[tuple[CommittedFile, RowHash]] = []

    def write(self, progress: Progress) -> tuple[Commit, RowHash]:
        """The record of the new files, complete and safe; and the hash of all rows."""
        kept, total, files = self._run.kept(self._layout.schema), RowHash(), list[CommittedFile]()
        with Syncs() as syncs:
            for (folder, _), old in self._run.folders().items():
                if old[0].path in kept:
                    files.append(old[0])
                    total += RowHash.parse(old[0].meta["rows_hash"])
                else:
                    segment, hashed = self._fill(folder, old)
                    self._step("files.finished")
                    syncs.add(lambda segment=segment, hashed=hashed: self._verify(segment, hashed))  # type: ignore[misc]
                progress(sum(file.bytes for file in old))
        self._tree.storage.sealed(segment.active for segment in self._segments)
        self._step("files.synced")
        for file, hashed in self._done:
            total += hashed
            files.append(msgspec.structs.replace(file, meta={**file.meta, "rows_hash": str(hashed)}))
        record = _record(self._run, sorted(files, key=lambda file: file.path), self._writer, self._now)
        return msgspec.structs.replace(record, schema=self._layout.schema or record.schema), total

    def discard(self) -> None:
        for segment in self._segments:
            segment.discard()

    def _fill(self, folder: str, old: Sequence[CommittedFile]) -> tuple[Segment, RowHash]:
        segment, hashed = None, RowHash()
        for table in gathered(self._tables(old)):
            if segment is None:
                segment = self._segment(folder, old[0], table.schema)
            hashed += row_hash(table)
            segment.write(table)
        if segment is None:
            raise StorageError(f"{self._tree.storage.name(old[0].path)} has no rows", hint="restore it from a copy")
        segment.finish()
        return segment, hashed

    def _tables(self, old: Sequence[CommittedFile]) -> Iterator[pa.Table]:
        if self._layout.sort is not None:
            yield from in_order(self._tree, old, self._layout.sort)
            return
        for file in old:
            rows = 0
            for table in self._layout.tables(self._tree, file):
                rows += table.num_rows
                yield table
            check_rows(self._tree, file, rows)

    def _segment(self, folder: str, like: CommittedFile, schema: pa.Schema) -> Segment:
        form = self._layout.form(like, schema)
        name = f"{self._run.chain.name(self._run.start)}-{self._run.next_offset:020d}.{form.suffix}"
        inside = posixpath.relpath(folder, self._tree.ready or ".") if self._tree.mirror else ""
        segment = Segment(
            self._tree.storage,
            posixpath.join(self._tree.active, inside, f"{name}.{self._writer}-{len(self._segments)}"),
            posixpath.join(folder, name),
            form,
            time_column=self._layout.time_column,
            meta={name: value for name, value in like.meta.items() if name != "rows_hash"},
            group_bytes=0,
            staged=True,
        )
        self._segments.append(segment)
        return segment

    def _verify(self, segment: Segment, hashed: RowHash) -> None:
        """Make the file safe, and read it back; one at a time, as each holds a row group."""
        file = segment.seal()
        found = RowHash()
        with self._reading:
            for table in self._layout.tables(self._tree, file):
                found += row_hash(table)
        if found != hashed:
            raise StorageError(
                f"{self._tree.storage.name(segment.active)}: other rows than were written ({found}, not {hashed})",
                hint="check the device; the old files are as they were",
            )
        self._done.append((file, hashed))
        self._step("files.verified")


def _create(tree: Tree, run: Run, record: Commit, began: float, step: Step) -> None:
    """The commit itself: readers switch. Raises Superseded where the records have changed meanwhile."""
    places = [history.place_of(each) for each in run.records]
    path = run.chain.record(run.start, run.next_offset)
    for attempt in range(_ATTEMPTS):
        if not set(places) <= set(history.standing(tree, run.chain)) or _too_old(tree, began):
            raise _superseded(run)
        try:
            tree.storage.create(path, encode(record), step)
            break
        except FileExistsError as error:
            raise _superseded(run) from error
        except FileNotFoundError:  # a writer that tidied up took the attempt for a leftover
            if attempt + 1 == _ATTEMPTS:
                raise
    standing = history.standing(tree, run.chain)
    own = history.place_of(record)
    after = next((place for place in standing if place.start >= run.next_offset), None)
    if own not in standing or (after is not None and after.start != run.next_offset):
        tree.storage.remove([path])
        raise _superseded(run)


def _superseded(run: Run) -> Superseded:
    return Superseded(
        f"{run.chain.commits}: [{run.start}, {run.next_offset}) was merged by another process", hint="nothing is lost"
    )


def _too_old(tree: Tree, began: float) -> bool:
    """Whether others may have cleared its files away."""
    return tree.storage.expires_s is not None and uptime() - began > tree.storage.expires_s


def _record(run: Run, files: list[CommittedFile], writer: str, now: int) -> Commit:
    first = run.records[0]
    return Commit(
        log_id=run.chain.log_id,
        topic=run.chain.topic,
        partition=run.chain.partition,
        start=run.start,
        next_offset=run.next_offset,
        writer=writer,
        files=files,
        merged=sum(max(record.merged, 1) for record in run.records),
        schema=first.schema,
        config_hash=first.config_hash,
        meta=_meta([record.meta for record in run.records])
        | {
            "made_at": now,
            "batches": [[each.next_offset, each.row_hash] for record in run.records for each in batches(record)],
        },
    )


def _meta(metas: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What all records say alike, lists one after the other, counts of what was left out summed."""
    found: dict[str, Any] = {}
    for name in {name: None for meta in metas for name in meta}:
        values = [meta[name] for meta in metas if name in meta]
        if name in ("made_at", "batches", "row_hash"):
            continue
        if name in _SUMMED:
            found[name] = values[0] | {each: sum(value.get(each, 0) for value in values) for each in _SUMMED[name]}
        elif all(isinstance(value, list) for value in values):
            found[name] = [each for value in values for each in value]
        elif len(values) == len(metas) and all(value == values[0] for value in values):
            found[name] = values[0]
    return found
