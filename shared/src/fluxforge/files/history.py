"""What is committed: chains, their records in order, and where a committed file lies."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path

from fluxforge.errors import StorageError
from fluxforge.files.commit import ChainId, Commit, CommittedFile, decode
from fluxforge.files.storage import Tree


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

    Raises StorageError where a record is damaged or two do not meet: records tile the offsets, gaps included.
    """
    starts = record_starts(tree, chain)
    if start is not None:
        starts = starts[max(0, bisect_right(starts, start) - 1) :]
    expected: int | None = None
    for at in starts:
        commit = load(tree, chain, at)
        if expected is not None and commit.start != expected:
            raise StorageError(
                f"{chain.commits}: [{expected}, {commit.start}) is in no record", hint="restore the missing record"
            )
        expected = commit.next_offset
        if start is None or commit.next_offset > start:
            yield commit


def newest(tree: Tree, chain: ChainId) -> Commit | None:
    """The chain's last record."""
    starts = record_starts(tree, chain)
    return load(tree, chain, starts[-1]) if starts else None


def locate(tree: Tree, file: CommittedFile) -> Path:
    """Where to read a committed file: its final name, or the active one while its link is being made.

    Raises StorageError where it is gone.
    """
    for path in (file.path, file.active, file.path):
        if tree.storage.size(path) is not None:
            return tree.storage.local(path)
    raise StorageError(
        f"{tree.storage.local(file.path)} is committed, but gone", hint="restore it, or take it out with its record"
    )


def load(tree: Tree, chain: ChainId, start: int) -> Commit:
    """The record at `start`."""
    path = chain.record(start)
    commit = decode(tree.storage.read(path), str(tree.storage.local(path)))
    if commit.chain != chain or commit.start != start:
        raise StorageError(f"{tree.storage.local(path)} is the record of another batch", hint="move it back")
    return commit


def record_starts(tree: Tree, chain: ChainId) -> list[int]:
    """Start offsets of the chain's records, rising."""
    names = (name.removesuffix(".json") for name in tree.storage.names(chain.commits) if name.endswith(".json"))
    return sorted(int(name) for name in names if name.isdecimal())
