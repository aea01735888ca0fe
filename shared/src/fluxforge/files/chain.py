"""The writer of one chain: batches that tile its offsets, each visible whole or not at all."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from typing import Any, Literal, Self
from uuid import uuid4

from fluxforge.clock import uptime
from fluxforge.errors import GapError, StorageError, WriterConflict
from fluxforge.files import history
from fluxforge.files.commit import ChainId, Commit, CommittedFile, Gap, encode
from fluxforge.files.segment import GROUP_BYTES, Format, Segment
from fluxforge.files.storage import Leftover, Lock, Step, Tree, no_step
from fluxforge.files.syncs import Syncs

STEPS = (
    "files.finished",
    "files.synced",
    "record.written",
    "record.linked",
    "record.synced",
    "file.linked",
    "folders.synced",
    "active.removed",
)
"""Where a commit can be cut off, in order; `step` is called after each, for every file where it names one."""


class Chain:
    """One partition's batches. Use `Chain.open`; a chain that raised StorageError must be closed and opened again.

    Not for several threads. Errors of every method: DiskFull, StorageError; nothing committed is ever lost by them.
    """

    def __init__(self, tree: Tree, id_: ChainId, lock: Lock, next_offset: int, step: Step) -> None:
        self.id = id_
        self.next_offset = next_offset
        """First offset not yet committed: read the log from here."""
        self.gap: Gap | None = None
        """What opening found to have left the log unread; it is on record."""
        self._tree, self._storage, self._lock, self._step = tree, tree.storage, lock, step
        self._before: history.Place | None = None
        """The record that ends where the open batch begins."""
        self._segments: dict[str, Segment] = {}
        self._writer = uuid4().hex[:12]
        self._since: float | None = None

    @classmethod
    def open(
        cls,
        tree: Tree,
        id_: ChainId,
        *,
        first: int,
        end: int | None = None,
        on_gap: Literal["stop", "record"] = "stop",
        lock_timeout: float = 10.0,
        step: Step = no_step,
    ) -> Self:
        """Take the chain's lock, redo its last commit, clear what was never committed.

        first, end  the log holds [first, end); `end` None is not checked
        on_gap      what to do where the log no longer reaches back: raise GapError, or commit a record of the gap

        Raises WriterConflict while another process holds the chain, GapError, and StorageError where the disk is
        ahead of the log.
        """
        lock = tree.storage.lock(f"_locks/{id_.check().folder}.lock", lock_timeout)
        try:
            last = history.newest(tree, id_)
            chain = cls(tree, id_, lock, first if last is None else last.next_offset, step)
            chain._recover(last, first, end, on_gap)
        except BaseException:
            lock.release()
            raise
        return chain

    @property
    def open_bytes(self) -> int:
        """Size of the largest open file."""
        return max((segment.bytes for segment in self._segments.values()), default=0)

    @property
    def gathered(self) -> int:
        """Arrow bytes of rows not yet written, over all segments."""
        return sum(segment.gathered for segment in self._segments.values())

    def relieve(self, most: int) -> None:
        """Write row groups, of the fullest segments first, until at most `most` Arrow bytes are gathered."""
        while self.gathered > most:
            max(self._segments.values(), key=lambda segment: segment.gathered).write_group()

    @property
    def rows(self) -> int:
        """Rows of the batch so far."""
        return sum(segment.rows for segment in self._segments.values())

    def segment(
        self,
        folder: str,
        form: Format,
        *,
        time_column: str | None = None,
        meta: Mapping[str, Any] | None = None,
        group_bytes: int = GROUP_BYTES,
    ) -> Segment:
        """The batch's file in `folder` (relative to ready); made when first asked for.

        `time_column` (ns) fills first_ts and last_ts of the record, `meta` is kept in it.
        """
        if self._since is None:
            self._since = uptime()
        if folder not in self._segments:
            name = f"{self.id.name(self.next_offset)}.{form.suffix}"
            mine = f"{name}.{self._writer}-{len(self._segments)}"
            self._segments[folder] = Segment(
                self._storage,
                posixpath.join(self._tree.active, folder if self._tree.mirror else "", mine),
                posixpath.join(self._tree.ready, folder, name),
                form,
                time_column=time_column,
                meta=meta,
                group_bytes=group_bytes,
            )
        return self._segments[folder]

    def commit(
        self,
        next_offset: int,
        *,
        schema: str = "",
        config_hash: str = "",
        meta: Mapping[str, Any] | None = None,
        gap: Gap | None = None,
    ) -> Commit | None:
        """Make [self.next_offset, next_offset) visible: all segments, or none.

        Without rows it still moves on, over holes; None where there is nothing to do. Raises WriterConflict where
        another writer committed this start first: its batch stands, ours is thrown away.
        """
        if next_offset <= self.next_offset:
            if self.rows or next_offset < self.next_offset:
                raise ValueError(f"{self.id}: a batch from {self.next_offset} cannot end at {next_offset}")
            return None
        record = Commit(
            log_id=self.id.log_id,
            topic=self.id.topic,
            partition=self.id.partition,
            start=self.next_offset,
            next_offset=next_offset,
            writer=self._writer,
            files=self._finish(),
            gap=gap,
            schema=schema,
            config_hash=config_hash,
            meta=dict(meta or {}),
        )
        self._publish(record)
        self._settle(record)
        self.next_offset, self._before = next_offset, history.place_of(record)
        return record

    def discard(self) -> None:
        """Throw the open batch away; read again from `next_offset`."""
        segments = list(self._segments.values())
        self._segments.clear()
        self._since = None
        for segment in segments:
            segment.discard()

    def close(self) -> None:
        """Throw the open batch away and let go of the chain."""
        try:
            self.discard()
        finally:
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _finish(self) -> list[CommittedFile]:
        """Files complete and safe, as drafts."""
        used = sorted((s for s in self._segments.values() if s.rows), key=lambda s: s.path)
        files: list[CommittedFile] = []
        with Syncs() as syncs:
            for segment in used:
                segment.finish()
                self._step("files.finished")
                syncs.add(lambda segment=segment: files.append(segment.seal()))  # type: ignore[misc]
        self._storage.sealed(segment.active for segment in used)
        self._step("files.synced")
        return sorted(files, key=lambda file: file.path)

    def _publish(self, record: Commit) -> None:
        """The commit itself: one record. From here on the drafts belong to it."""
        self._check_age()
        segments, self._segments = self._segments, {}
        try:
            self._storage.create(self.id.record(record.start), encode(record), self._step)
        except (FileExistsError, FileNotFoundError) as error:
            self._segments = segments
            self.discard()
            raise self._beaten(record) from error
        self._since = None
        if not self._fits(record):  # ours came when the other's had been merged and removed
            self._storage.remove([self.id.record(record.start)])
            self._segments = segments
            self.discard()
            raise self._beaten(record)

    def _fits(self, record: Commit) -> bool:
        """Whether the record just made counts, and is the last one or meets the next.

        A merge that took another's record of this start begins there too, or took the one before it, which goes first.
        """
        if self._before is not None and history.begins_after(self._tree, self.id, self._before, record.start):
            return True
        places, own = history.standing(self._tree, self.id), history.place_of(record)
        return own in places and all(each.start == record.next_offset for each in places[places.index(own) + 1 :][:1])

    def _beaten(self, record: Commit) -> WriterConflict:
        return WriterConflict(
            f"{self.id}: another writer has committed from offset {record.start}",
            hint="its batch stands and ours was thrown away; open the chain again, and stop one of the two writers",
        )

    def _check_age(self) -> None:
        """A draft that others may have cleared away by now must not be committed."""
        limit = self._storage.expires_s
        if limit is not None and self._since is not None and uptime() - self._since > limit:
            self.discard()
            raise StorageError(
                f"{self.id}: a batch was open for more than {limit:g} s", hint="it is read again from the log"
            )

    def _settle(self, record: Commit) -> None:
        """Give the files of a published record their final names; may be done again at any time."""
        self._storage.publish(record.files, self._step)
        self._storage.unstage(record.files, self._step)

    def _recover(self, last: Commit | None, first: int, end: int | None, on_gap: Literal["stop", "record"]) -> None:
        self._storage.tidy(self.id.commits)
        if last is not None:
            self._before = history.place_of(last)
            if not last.merged:  # compaction settles its own
                self._settle(last)
            if end is not None and last.next_offset > end:
                raise StorageError(
                    f"{self.id}: committed up to offset {last.next_offset}, but the log ends at {end}",
                    hint="the log was cut back or swapped under the same id; restore it, or recreate the topic",
                )
        leftovers = self._leftovers()
        if last is None:
            self.next_offset = min((first, *(start for start, _ in leftovers)))
        if first > self.next_offset:
            self._gap(first, on_gap)
        for start, leftover in leftovers:
            if start >= first:
                self._storage.clear(leftover)
            else:
                self._storage.quarantine(leftover, f"_quarantine/{self.id.folder}")

    def _leftovers(self) -> list[tuple[int, Leftover]]:
        """Drafts of this chain that no commit took, behind the start of their batch.

        Those the log can give again are removed, the others kept in quarantine.
        """
        ours = re.compile(re.escape(self.id.name(0)[:-20]) + r"(\d{20})\.")
        found = ((ours.match(leftover.name), leftover) for leftover in self._storage.leftovers(self._tree))
        return [(int(match[1]), leftover) for match, leftover in found if match]

    def _gap(self, first: int, on_gap: Literal["stop", "record"]) -> None:
        lost = Gap(self.next_offset, first)
        if on_gap == "stop":
            raise GapError(
                f"{self.id}: offsets [{lost.first}, {lost.next}) have left the log before they were stored",
                hint="restore them, or have the gap recorded (on_gap: record) and go on",
            )
        self.commit(first, gap=lost)
        self.gap = lost
