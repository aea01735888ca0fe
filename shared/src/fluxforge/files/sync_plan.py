"""What a sync of one chain has to copy, after comparing all that stands at both ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from fluxforge.errors import GapError, StorageError, Superseded
from fluxforge.files import history
from fluxforge.files.commit import ChainId, Commit, Gap, decode
from fluxforge.files.history import Place
from fluxforge.files.selection import LEFT_OUT, select
from fluxforge.files.settle import GRACE_S
from fluxforge.files.storage import Tree


@dataclass(frozen=True)
class Options:
    """What to sync, and how.

    workers       files at once
    patterns      only files whose folder matches one, see `fluxforge.files.selection`; empty: all
    delete_after  drop from the source what was read again at the target and is right; the newest record stays
    on_gap        where the source has dropped what was not copied: raise GapError, or commit a record of the gap
    grace_s       see `fluxforge.files.settle`
    dry_run       only count
    """

    workers: int = 8
    patterns: tuple[str, ...] = ()
    delete_after: bool = False
    on_gap: Literal["stop", "record"] = "stop"
    grace_s: float = GRACE_S
    dry_run: bool = False


@dataclass
class Plan:
    """The records that the target lacks, in order, and how much that is; `already`: those it has.

    gap          what the source has dropped of the offsets from the target's end on: to be recorded first
    gap_offsets  how many offsets are on record as lost, in all of these
    """

    places: list[Place] = field(default_factory=list)
    gap: Gap | None = None
    gap_offsets: int = 0
    files: int = 0
    bytes: int = 0
    left_out: int = 0
    already: int = 0


class Planner:
    """Compares one chain of two trees, and changes neither."""

    def __init__(self, source: Tree, target: Tree, id_: ChainId, options: Options) -> None:
        self.id = id_
        self._source, self._target, self._options = source, target, options

    def plan(self) -> Plan:
        """Raises StorageError where both tell different stories; GapError where the source no longer reaches back to
        the target's end, and that is not to be recorded.
        """
        while True:
            try:
                return self._planned()
            except Superseded:
                continue

    def chosen(self, place: Place) -> tuple[Commit, bytes]:
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

    def compare(self, place: Place, data: bytes) -> None:
        path = self.id.record(*place)
        if self._target.storage.read(path) != data:
            raise StorageError(
                f"{self._target.storage.name(path)} is not the record {self._source.storage.name(path)}",
                hint="the target was written by another, or with another --pattern: sync to a new place",
            )

    def _planned(self) -> Plan:
        made, there, at_target = Plan(), set(history.listed(self._target, self.id)), self._merged_at_target()
        expected: int | None = None
        for place in history.standing(self._source, self.id):
            commit, data = self.chosen(place)
            if expected is None:
                made.gap = self._gap_before(commit, there)
                made.gap_offsets += _offsets(made.gap)
            elif commit.start != expected:
                raise StorageError(
                    f"{self._source.storage.name(self.id.commits)}: [{expected}, {commit.start}) is in no record",
                    hint="restore the missing record",
                )
            expected = commit.next_offset
            if place in there:
                self.compare(place, data)
                made.already += 1
            elif any(within(commit, other) for other in at_target):
                made.already += 1
            else:
                self._check_fits(commit, there, at_target)
                made.places.append(place)
                made.gap_offsets += _offsets(commit.gap)
                made.files += len(commit.files)
                made.left_out += commit.meta.get(LEFT_OUT, {}).get("files", 0)
                made.bytes += sum(file.bytes for file in commit.files)
            if self._options.delete_after:  # all of it is read once more, at the target
                made.bytes += sum(file.bytes for file in commit.files)
        return made

    def _merged_at_target(self) -> list[Place]:
        return [place for place in history.standing(self._target, self.id) if place.merged_to is not None]

    def _gap_before(self, first: Commit, there: set[Place]) -> Gap | None:
        """What lies between the end of the target's records and the source's first one."""
        earlier = [place for place in history.standing(self._target, self.id) if place.start < first.start]
        if not earlier or history.place_of(first) in there:
            return None
        end = history.load(self._target, self.id, earlier[-1]).next_offset
        if end < first.start and self._options.on_gap == "stop":
            raise GapError(
                f"{self._target}: ends at offset {end}, and {self._source} begins at {first.start}",
                hint="the source dropped what lies between before it was copied: sync to a new place, or have the gap "
                "recorded (--on-gap record) and go on",
            )
        if end > first.start and earlier[-1].merged_to is None:
            raise self._other_story(first)
        return Gap(end, first.start) if end < first.start else None

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


def _offsets(gap: Gap | None) -> int:
    return 0 if gap is None else gap.next - gap.first


def within(commit: Commit, place: Place) -> bool:
    """Whether a merged record has the batch of `commit`."""
    return place.merged_to is not None and place.start <= commit.start and commit.next_offset <= place.merged_to
