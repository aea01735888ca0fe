"""What follows a compaction's record: its files get their final names, those it replaces go.

The record alone makes strict readers switch, so there is no hurry. Each phase waits for a grace, in which readers that
looked before finish, and is done again from what is there after a cut at any point:

1. the record stands over others            `…merged.json` notes when that was first seen
2. new files published, old ones removed    `…published.json` notes when; then the covered records are removed
3. the new files' active names removed, and the notes

A plain record that a writer which woke up late puts into a merged range is covered at once, and goes the same way.
"""

from __future__ import annotations

import posixpath
import re
import time
from collections import defaultdict
from collections.abc import Collection
from contextlib import suppress
from typing import NamedTuple

import msgspec

from fluxforge.clock import NS
from fluxforge.errors import StorageError
from fluxforge.files import history
from fluxforge.files.commit import ChainId, Commit
from fluxforge.files.history import Place
from fluxforge.files.storage import Lock, Step, Tree, no_step

GRACE_S = 600.0
"""How long a reader may take from its listing to its last look at a file's name."""
LOCK_TIMEOUT_S = 10.0
STEPS = ("note.made", "file.linked", "folders.synced", "old.removed", "record.removed", "active.removed")
_NOTE = re.compile(r"(\d{20})-(\d{20})\.(merged|published)\.json")


class _Note(msgspec.Struct, frozen=True):
    """When a phase was reached, ns."""

    at: int


class _Key(NamedTuple):
    start: int
    next: int
    phase: str

    def path(self, chain: ChainId) -> str:
        return f"{notes_folder(chain)}/{self.start:020d}-{self.next:020d}.{self.phase}.json"


def notes_folder(chain: ChainId) -> str:
    """Where the phases are noted: the store's own affair, not to be copied elsewhere."""
    return f"_compact/{chain.folder}"


def lock(tree: Tree, chain: ChainId, timeout: float = LOCK_TIMEOUT_S) -> Lock:
    """One compaction or retention of a chain at a time. Raises WriterConflict."""
    return tree.storage.lock(f"_locks/{chain.folder}.compact.lock", timeout)


def settle(
    tree: Tree, chain: ChainId, *, grace_s: float = GRACE_S, now: int | None = None, step: Step = no_step
) -> int:
    """Bring every merged record of the chain as far as the grace allows; how many are not yet done.

    Call it under `lock`. `now`: ns. Raises StorageError where records do not tile; nothing is then removed.
    """
    now = time.time_ns() if now is None else now
    places, notes = history.listed(tree, chain), _notes(tree, chain)
    standing = history.uncovered(places)
    pending = 0
    for at, place in enumerate(standing):
        if place.merged_to is None:
            continue
        inside = covered(places, place)
        mine = [key for key in notes if place.start <= key.start and key.next <= place.merged_to]
        if not inside and not mine:
            continue
        after = standing[at + 1] if at + 1 < len(standing) else None
        if after is not None and after.start != place.merged_to:
            raise StorageError(
                f"{chain.commits}: [{place.merged_to}, {after.start}) is in no record",
                hint="restore the missing record",
            )
        pending += not _Settling(tree, chain, place, inside, mine, round(grace_s * NS), now, step).run()
    return pending


def covered(places: Collection[Place], place: Place) -> list[Place]:
    """The records that a merged one replaces: all others that begin inside it."""
    assert place.merged_to is not None
    return [each for each in places if each != place and place.start <= each.start < place.merged_to]


def _notes(tree: Tree, chain: ChainId) -> list[_Key]:
    matches = filter(None, map(_NOTE.fullmatch, tree.storage.names(notes_folder(chain))))
    return [_Key(int(match[1]), int(match[2]), match[3]) for match in matches]


class _Settling:
    """One merged record on its way."""

    def __init__(
        self,
        tree: Tree,
        chain: ChainId,
        place: Place,
        inside: list[Place],
        notes: list[_Key],
        grace: int,
        now: int,
        step: Step,
    ) -> None:
        assert place.merged_to is not None
        self._tree, self._storage, self._chain, self._place = tree, tree.storage, chain, place
        self._inside, self._notes, self._grace, self._now, self._step = inside, notes, grace, now, step
        self._merged = _Key(place.start, place.merged_to, "merged")
        self._published = self._merged._replace(phase="published")

    def run(self) -> bool:
        """As far as it goes; true at the end."""
        if self._inside or self._published not in self._notes:
            if not self._over(self._merged):
                return False
            self._replace()
        if not self._over(self._published):
            return False
        self._storage.unstage(self._record().files, self._step)
        self._storage.remove([key.path(self._chain) for key in {*self._notes, self._merged, self._published}])
        return True

    def _over(self, key: _Key) -> bool:
        """Whether the grace since that phase is over; from now on, where none was noted."""
        if key not in self._notes:
            self._note(key)
            since = self._now
        else:
            since = msgspec.json.decode(self._storage.read(key.path(self._chain)), type=_Note).at
        return self._now - since >= self._grace

    def _note(self, key: _Key) -> None:
        path = key.path(self._chain)
        self._storage.tidy(posixpath.dirname(path))
        with suppress(FileExistsError):  # another process is at it too: its time counts as well
            self._storage.create(path, msgspec.json.encode(_Note(self._now)))
        self._notes.append(key)
        self._step("note.made")

    def _replace(self) -> None:
        """Folder by folder, so that readers who only list files see each but for a moment."""
        record = self._record()
        old = [history.load(self._tree, self._chain, place) for place in self._inside]
        kept = {name for file in record.files for name in (file.path, file.active)}
        gone: dict[str, list[str]] = defaultdict(list)
        for each in old:
            for file in each.files:
                gone[posixpath.dirname(file.path)] += [name for name in (file.active, file.path) if name not in kept]
        for folder in sorted({*gone, *(posixpath.dirname(file.path) for file in record.files)}):
            self._storage.publish([file for file in record.files if posixpath.dirname(file.path) == folder], self._step)
            self._storage.remove(gone[folder])
            self._step("old.removed")
        if self._published in self._notes:  # strays came after it
            self._storage.remove([self._published.path(self._chain)])
            self._notes.remove(self._published)
        self._over(self._published)
        for place in self._inside:
            self._storage.remove([self._chain.record(*place)])
            self._step("record.removed")

    def _record(self) -> Commit:
        return history.load(self._tree, self._chain, self._place)
