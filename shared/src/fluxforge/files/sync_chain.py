"""One chain on its way from a tree into another."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field

from fluxforge.errors import GapError, StorageError, Superseded
from fluxforge.files import history, retain
from fluxforge.files.commit import ChainId, Commit, CommittedFile, decode
from fluxforge.files.history import Place, locate
from fluxforge.files.selection import LEFT_OUT, select
from fluxforge.files.settle import GRACE_S, covered, lock, settle
from fluxforge.files.storage import Leftover, Step, Tree
from fluxforge.files.transfer import DRAFT, Transfer

LOCK_TIMEOUT_S = 10.0
_NOTE = re.compile(r"(\d{20})\.json")


@dataclass(frozen=True)
class Options:
    """What to sync, and how.

    workers       files at once
    patterns      only files whose folder matches one, see `fluxforge.files.selection`; empty: all
    delete_after  drop from the source what was read again at the target and is right; the newest record stays
    grace_s       see `fluxforge.files.settle`
    dry_run       only count
    """

    workers: int = 8
    patterns: tuple[str, ...] = ()
    delete_after: bool = False
    grace_s: float = GRACE_S
    dry_run: bool = False


@dataclass
class Plan:
    """The records that the target lacks, in order, and how much that is; `already`: those it has."""

    places: list[Place] = field(default_factory=list)
    files: int = 0
    bytes: int = 0
    left_out: int = 0
    already: int = 0


class ChainSync:
    """`plan`, then `copy`, then `delete`. Errors: StorageError; what was copied before one stays."""

    def __init__(
        self, source: Tree, target: Tree, id_: ChainId, options: Options, transfer: Transfer, files: Executor
    ) -> None:
        self.id = id_
        self._source, self._target, self._options = source, target, options
        self._transfer, self._files = transfer, files
        self._places: list[Place] = []
        self._last: Place | None = None

    def plan(self) -> Plan:
        """What is to be copied, after comparing all that stands at both.

        Raises StorageError where they tell different stories, GapError where the source no longer reaches back to
        the target's end.
        """
        while True:
            try:
                made = self._planned()
            except Superseded:
                continue
            self._places = made.places
            self._last = made.places[-1] if made.places else None
            return made

    def copy(self, drafts: Sequence[Leftover], step: Step) -> Iterator[Commit]:
        """Copy what was planned; each record as it stands at the target. `drafts`: what the target has of these."""
        if not self._places:
            self._after()
            return
        target = self._target.storage
        held = target.lock(f"_locks/{self.id.check().folder}.lock", LOCK_TIMEOUT_S)
        try:
            self._recover(drafts)
            while self._places:
                place = self._places.pop(0)
                try:
                    yield self._record(place, step)
                except (StorageError, FileNotFoundError):
                    if place in history.standing(self._source, self.id):
                        raise
                    self._plan_again()
            self._after()
        finally:
            held.release()

    def delete(self, step: Step) -> int:
        """Drop from the source the records that are right at the target, but the newest; how many."""
        places = history.standing(self._target, self.id)
        exact, merged = set(places), [place for place in places if place.merged_to is not None]
        before, sound = None, set[Place]()
        for record in history.records(self._source, self.id)[:-1]:
            own = history.place_of(record)
            place = own if own in exact else next((each for each in merged if _inside(record, each)), None)
            if place is None:
                break
            if place not in sound:
                there = record if place == own else history.load(self._target, self.id, place)
                self._all(self._verify, there.files)
                sound.add(place)
            before = record.next_offset
        if before is None:
            return 0
        held = lock(self._source, self.id)
        try:
            note = {"why": "synced", "to": str(self._target)}
            dropped = retain.drop(self._source, self.id, before, note=note, grace_s=self._options.grace_s, step=step)
        finally:
            held.release()
        return 0 if dropped is None else dropped.records

    # Planning.

    def _planned(self) -> Plan:
        made, there, at_target = Plan(), set(history.listed(self._target, self.id)), self._merged_at_target()
        expected: int | None = None
        for place in history.standing(self._source, self.id):
            commit, data = self._chosen(place)
            if expected is None:
                self._check_meets(commit, there)
            elif commit.start != expected:
                raise StorageError(
                    f"{self._source.storage.name(self.id.commits)}: [{expected}, {commit.start}) is in no record",
                    hint="restore the missing record",
                )
            expected = commit.next_offset
            if place in there:
                self._compare(place, data)
                made.already += 1
            elif any(_inside(commit, other) for other in at_target):
                made.already += 1
            else:
                self._check_fits(commit, there, at_target)
                made.places.append(place)
                made.files += len(commit.files)
                made.left_out += commit.meta.get(LEFT_OUT, {}).get("files", 0)
                made.bytes += sum(file.bytes for file in commit.files)
            if self._options.delete_after:  # all of it is read once more, at the target
                made.bytes += sum(file.bytes for file in commit.files)
        return made

    def _chosen(self, place: Place) -> tuple[Commit, bytes]:
        """The record for the target. Raises Superseded where it is gone from the source."""
        path = self.id.record(*place)
        name = self._source.storage.name(path)
        try:
            data = self._source.storage.read(path)
        except FileNotFoundError as error:
            raise Superseded(f"{name}: merged or dropped while it was to be copied", hint="start again") from error
        commit = decode(data, name)
        if commit.chain != self.id or history.place_of(commit) != place:
            raise StorageError(f"{name} is the record of another batch", hint="move it back")
        return select(self._source, commit, data, self._options.patterns)

    def _merged_at_target(self) -> list[Place]:
        return [place for place in history.standing(self._target, self.id) if place.merged_to is not None]

    def _compare(self, place: Place, data: bytes) -> None:
        path = self.id.record(*place)
        if self._target.storage.read(path) != data:
            raise StorageError(
                f"{self._target.storage.name(path)} is not the record {self._source.storage.name(path)}",
                hint="the target was written by another, or with another --pattern: sync to a new place",
            )

    def _check_meets(self, first: Commit, there: set[Place]) -> None:
        """Whether the source's first record goes on where the target's records before it end."""
        earlier = [place for place in history.standing(self._target, self.id) if place.start < first.start]
        if not earlier or history.place_of(first) in there:
            return
        end = history.load(self._target, self.id, earlier[-1]).next_offset
        if end < first.start:
            raise GapError(
                f"{self._target}: ends at offset {end}, and {self._source} begins at {first.start}",
                hint="what lies between was dropped from the source before it was synced: sync to a new place",
            )
        if end > first.start and earlier[-1].merged_to is None:
            raise self._other_story(first)

    def _check_fits(self, commit: Commit, there: set[Place], merged: Sequence[Place]) -> None:
        """A record that the target lacks must not overlap what it has, unless it merges just that."""
        start, end = commit.start, commit.next_offset
        inside = any(start <= place.start < end for place in there)
        across = any(place.start < start < (place.merged_to or 0) for place in merged) or any(
            start <= place.start < end < (place.merged_to or 0) for place in merged
        )
        if across or (inside and not commit.merged):
            raise self._other_story(commit)

    def _other_story(self, commit: Commit) -> StorageError:
        return StorageError(
            f"{self._target}: its records overlap [{commit.start}, {commit.next_offset}) of {self._source}",
            hint="the target was written or merged by another: sync to a new place",
        )

    # Copying.

    def _record(self, place: Place, step: Step) -> Commit:
        """Its files, then itself."""
        commit, data = self._chosen(place)
        staged = place.merged_to is not None and bool(covered(history.listed(self._target, self.id), place))
        draft = self.id.name(commit.start)
        self._all(lambda file: self._transfer.file(file, draft, file.active if staged else file.path), commit.files)
        try:
            self._target.storage.create(self.id.record(*place), data, step)
        except FileExistsError:
            self._compare(place, data)
        if commit.merged:
            self._remove_strays(commit)
        return commit

    def _plan_again(self) -> None:
        """A record was merged into another, or dropped, while it was copied: go on with what stands there now."""
        last = self._last
        self.plan()
        if last is not None:  # what has come since belongs to the next run
            self._places = [place for place in self._places if place.start <= last.start]
        self._last = last

    def _remove_strays(self, commit: Commit) -> None:
        """Files of batches that `commit` merges, copied by a run that was cut off before it made their record."""
        target, listed = self._target.storage, set(history.listed(self._target, self.id))
        name = re.compile(re.escape(self.id.name(0)[:-20]) + r"(\d{20})(?:-(\d{20}))?\.\w+")
        for folder in {posixpath.dirname(file.path) for file in commit.files}:
            for match in filter(None, map(name.fullmatch, target.names(folder))):
                place = Place(int(match[1]), None if match[2] is None else int(match[2]))
                if commit.start <= place.start < commit.next_offset and place not in listed:
                    target.remove([f"{folder}/{match[0]}"])

    def _recover(self, drafts: Sequence[Leftover]) -> None:
        """Finish what the target's last writer left half done, and remove drafts of runs that were cut off."""
        target = self._target.storage
        target.tidy(self.id.commits)
        last = history.newest(self._target, self.id)
        if last is not None and not last.merged:
            target.publish(last.files)
        for draft in drafts:
            if draft.name.startswith(self.id.name(0)[:-20]) and (DRAFT in draft.name or target.expires_s is not None):
                target.clear(draft)

    def _after(self) -> None:
        """Notes of what the source has dropped, where the target lacks it too; then what merged records replace."""
        standing = history.standing(self._target, self.id)
        if not standing:
            return
        folder = f"_retained/{self.id.folder}"
        there = set(self._target.storage.names(folder))
        for name in self._source.storage.names(folder):
            note = _NOTE.fullmatch(name)
            if note and int(note[1]) <= standing[0].start and name not in there:
                self._target.storage.create(f"{folder}/{name}", self._source.storage.read(f"{folder}/{name}"))
        if any(place.merged_to is not None for place in standing):
            held = lock(self._target, self.id)
            try:
                settle(self._target, self.id, grace_s=self._options.grace_s)
            finally:
                held.release()

    def _verify(self, file: CommittedFile) -> None:
        self._transfer.verify(self._target, file, locate(self._target, file))

    def _all(self, work: Callable[[CommittedFile], None], files: Sequence[CommittedFile]) -> None:
        """Many files at once; raises what the first one raised, when all are done."""
        running = [self._files.submit(work, file) for file in files]
        first: Exception | None = None
        for each in running:  # `futures.wait` would wait for ever for what a shutdown cancels
            try:
                each.result()
            except Exception as error:
                first = first or error
        if first is not None:
            raise first


def _inside(commit: Commit, place: Place) -> bool:
    """Whether a merged record has the batch of `commit`."""
    return place.merged_to is not None and place.start <= commit.start and commit.next_offset <= place.merged_to
