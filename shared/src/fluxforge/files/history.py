"""What is committed: chains, their records in order, and where a committed file lies."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from fluxforge.errors import StorageError, Superseded
from fluxforge.files.commit import ChainId, Commit, CommittedFile, decode
from fluxforge.files.storage import Tree, gone

_RECORD = re.compile(r"(\d{20})(?:-(\d{20}))?\.json")


class Place(NamedTuple):
    """A record's offsets, as far as its name tells them."""

    start: int
    merged_to: int | None
    """Where a compaction's record ends; None: one batch."""


def chains(tree: Tree) -> list[ChainId]:
    """Every chain that has a folder of commit records."""
    storage = tree.storage
    return [
        ChainId(log_id, topic, int(partition))
        for log_id in storage.names("_commits")
        for topic in storage.names(f"_commits/{log_id}")
        for partition in storage.names(f"_commits/{log_id}/{topic}")
        if partition.isdecimal()
    ]


def commits(tree: Tree, chain: ChainId, *, start: int | None = None) -> Iterator[Commit]:
    """The chain's records in order, from the one that holds offset `start`.

    Raises StorageError where a record is damaged or two do not meet: records tile the offsets, gaps included. Raises
    Superseded where those still to come were merged with some already given, or dropped, since they were listed: go on
    from the last one's `next_offset`, and leave out what the first record has of earlier offsets.
    """
    places = _from(standing(tree, chain), start)
    expected: int | None = None
    while places:
        commit = _read(tree, chain, places[0])
        if commit is None:  # merged or dropped since it was listed
            found = standing(tree, chain)
            places = _from(found, start) if expected is None else [each for each in found if each.start >= expected]
            if expected is not None and (not places or places[0].start != expected):
                raise Superseded(f"{chain.commits}: records were merged while they were read", hint="read them again")
            continue
        if expected is not None and commit.start != expected:
            raise StorageError(
                f"{chain.commits}: [{expected}, {commit.start}) is in no record", hint="restore the missing record"
            )
        expected = commit.next_offset
        places = places[1:]
        if start is None or commit.next_offset > start:
            yield commit


def records(tree: Tree, chain: ChainId) -> list[Commit]:
    """All of the chain's records as they stood at one moment."""
    while True:
        try:
            return list(commits(tree, chain))
        except Superseded:
            continue


def stands(tree: Tree, commit: Commit) -> bool:
    """Whether the record still counts: it is there, and no compaction's record covers it."""
    return place_of(commit) in standing(tree, commit.chain)


def newest(tree: Tree, chain: ChainId) -> Commit | None:
    """The chain's last record."""
    places = standing(tree, chain)
    return load(tree, chain, places[-1]) if places else None


def locate(tree: Tree, file: CommittedFile) -> str:
    """The path a committed file can be read at: its final name, or the active one while its link is being made.

    A writer that was cut off may have left an upload to complete: then that is done. Raises StorageError where the
    file is gone.
    """
    for path in (file.path, file.active, file.path):
        if tree.storage.size(path) is not None:
            return path
    if file.upload is None:
        raise gone(tree.storage, file)
    tree.storage.publish([file])
    return file.path


def begins_after(tree: Tree, chain: ChainId, before: Place, start: int) -> bool:
    """Whether record `before` is there and no more than one begins at `start`: without listing the chain."""
    alone = len(tree.storage.names(chain.commits, f"{start:020d}")) <= 1
    return alone and tree.storage.size(chain.record(*before)) is not None


def standing(tree: Tree, chain: ChainId) -> list[Place]:
    """The records that count, by rising start: those that no compaction's record covers."""
    return uncovered(listed(tree, chain))


def uncovered(places: Iterable[Place]) -> list[Place]:
    """The standing ones among `listed` places."""
    counting: list[Place] = []
    covered = -1
    for place in places:
        if place.start >= covered:
            counting.append(place)
            covered = covered if place.merged_to is None else place.merged_to
    return counting


def place_of(commit: Commit) -> Place:
    return Place(commit.start, commit.next_offset if commit.merged else None)


def listed(tree: Tree, chain: ChainId) -> list[Place]:
    """Every record there is, covered or not; a wider one comes before those it covers."""
    matches = filter(None, map(_RECORD.fullmatch, tree.storage.names(chain.commits)))
    found = [Place(int(match[1]), None if match[2] is None else int(match[2])) for match in matches]
    return sorted(found, key=lambda place: (place.start, -(place.merged_to or 0)))


def load(tree: Tree, chain: ChainId, place: Place) -> Commit:
    """The record at `place`. Raises FileNotFoundError, and StorageError for one that is damaged or of another batch."""
    path = chain.record(*place)
    commit = decode(tree.storage.read(path), tree.storage.name(path))
    if commit.chain != chain or commit.start != place.start or place.merged_to not in (None, commit.next_offset):
        raise StorageError(f"{tree.storage.name(path)} is the record of another batch", hint="move it back")
    return commit


def _from(places: list[Place], start: int | None) -> list[Place]:
    """Those from the one that holds `start`."""
    if start is None:
        return places
    return places[max((at for at, place in enumerate(places) if place.start <= start), default=0) :]


def _read(tree: Tree, chain: ChainId, place: Place) -> Commit | None:
    try:
        return load(tree, chain, place)
    except FileNotFoundError:
        return None
