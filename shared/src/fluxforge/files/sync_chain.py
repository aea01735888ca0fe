"""One chain on its way from a tree into another."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor

from fluxforge.errors import StorageError
from fluxforge.files import history, retain
from fluxforge.files.commit import ChainId, Commit, CommittedFile, Gap, encode
from fluxforge.files.history import Place, locate
from fluxforge.files.settle import covered, lock, settle
from fluxforge.files.storage import Leftover, Step, Tree
from fluxforge.files.sync_plan import Options, Plan, Planner, within
from fluxforge.files.transfer import DRAFT, Transfer

LOCK_TIMEOUT_S = 10.0
_NOTE = re.compile(r"(\d{20})\.json")


class ChainSync:
    """`plan`, then `copy`, then `delete`. Errors: StorageError; what was copied before one stays."""

    def __init__(
        self, source: Tree, target: Tree, id_: ChainId, options: Options, transfer: Transfer, files: Executor
    ) -> None:
        self.id = id_
        self._source, self._target, self._options = source, target, options
        self._planner = Planner(source, target, id_, options)
        self._transfer, self._files = transfer, files
        self._places: list[Place] = []
        self._gap: Gap | None = None
        self._last: Place | None = None

    def plan(self) -> Plan:
        """What `copy` will do; see `Planner.plan`."""
        made = self._planner.plan()
        self._places, self._gap = made.places, made.gap
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
                if self._gap is not None:
                    yield self._record_gap(self._gap, step)
                    self._gap = None
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
            place = own if own in exact else next((each for each in merged if within(record, each)), None)
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

    def _record(self, place: Place, step: Step) -> Commit:
        """Its files, then itself."""
        commit, data = self._planner.chosen(place)
        staged = place.merged_to is not None and bool(covered(history.listed(self._target, self.id), place))
        draft = self.id.name(commit.start)
        self._all(lambda file: self._transfer.file(file, draft, file.active if staged else file.path), commit.files)
        try:
            self._target.storage.create(self.id.record(*place), data, step)
        except FileExistsError:
            self._planner.compare(place, data)
        if commit.merged:
            self._remove_strays(commit)
        return commit

    def _record_gap(self, gap: Gap, step: Step) -> Commit:
        """As a writer does whose log has dropped what it had not read; the same bytes from whoever does it."""
        log_id, topic, partition = self.id
        record = Commit(
            log_id=log_id, topic=topic, partition=partition, start=gap.first, next_offset=gap.next, writer="sync",
            gap=gap,
        )  # fmt: skip
        data = encode(record)
        try:
            self._target.storage.create(self.id.record(gap.first), data, step)
        except FileExistsError:  # another sync was here first
            self._planner.compare(history.place_of(record), data)
        return record

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
