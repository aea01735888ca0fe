"""Retention drops whole batches from the front, on record, and never the newest."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

import made_lake as made
from fluxforge.errors import StorageError, WriterConflict
from fluxforge.files import Chain, Tree, chains, commits
from fluxforge.files import retain as retaining
from fluxforge.files.compact import compact
from fluxforge.files.history import listed, records
from fluxforge.files.retain import Result, newest_note, retain
from fluxforge.files.runs import Options
from fluxforge.lake.compaction import LAYOUT

ID = made.CHAINS[0]
PER_DAY = made.BATCHES * made.ROWS
END = made.DAYS * PER_DAY
DAYS = 8.0
"""Kept before NOW, which is ten days after the first: two days go."""


class Store:
    """A lake that another process can open too."""

    def __init__(self, root: str) -> None:
        self.root, self.tree = root, made.tree(root)

    def retain(self, days: float | None = DAYS, *, apply: bool = True, **options: Any) -> Result:
        given = {"grace_s": 0.0, "now": made.NOW, **options}
        return retain(self.tree, LAYOUT, lambda _: days, apply=apply, **given)

    def files(self) -> list[str]:
        return [path for path in self.tree.storage.walk("") if path.endswith(".parquet")]


@pytest.fixture
def store(root: str) -> Store:
    made.write(root)
    return Store(root)


@pytest.fixture
def folder(tmp_path: Path) -> Store:
    made.write(str(tmp_path))
    return Store(str(tmp_path))


def spans(tree: Tree) -> list[tuple[int, int]]:
    return [(record.start, record.next_offset) for record in records(tree, ID)]


def test_old_days_go_from_the_front_and_the_note_says_so(store: Store) -> None:
    done = store.retain()
    assert not done.failed
    assert spans(store.tree)[0] == (2 * PER_DAY, 2 * PER_DAY + made.ROWS)
    assert spans(store.tree)[-1][1] == END
    assert not [path for path in store.files() if "2024-10-04" in path and ".0.made-up" in path]
    note = newest_note(store.tree, ID)
    assert note is not None
    assert (note.start, note.next_offset, note.made_at) == (0, 2 * PER_DAY, made.NOW)
    assert (note.records, note.rows, note.note) == (
        2 * made.BATCHES,
        2 * PER_DAY,
        {"days": DAYS, "until": "2024-10-05"},
    )
    assert done.until == {
        chain.folder: day for chain, day in zip(made.CHAINS, ("2024-10-05", "2024-10-04"), strict=True)
    }
    assert (done.rows, done.files) == (2 * PER_DAY + PER_DAY - made.ROWS, (2 * made.BATCHES + made.BATCHES - 1) * 3)
    assert store.retain() == Result()
    with Chain.open(store.tree, ID, first=0, end=END) as chain:
        assert chain.next_offset == END


def test_the_newest_record_always_stays(folder: Store) -> None:
    folder.retain(0.5, now=made.NOW + 1000 * made.DAY)
    for chain in chains(folder.tree):
        (record,) = records(folder.tree, chain)
        assert all(folder.tree.storage.size(file.path) == file.bytes for file in record.files)
    assert spans(folder.tree) == [(END - made.ROWS, END)]


def test_a_dry_run_says_the_same_and_changes_nothing(folder: Store) -> None:
    names = sorted(folder.tree.storage.walk(""))
    dry = folder.retain(apply=False)
    assert sorted(folder.tree.storage.walk("")) == names
    assert dry == folder.retain()


def test_without_days_everything_stays(folder: Store) -> None:
    assert folder.retain(None) == Result()


def test_days_are_by_record(folder: Store) -> None:
    """Tables are kept for days of their own."""
    done = retain(folder.tree, LAYOUT, lambda record: {"hf": None}[record.meta["table"]], apply=True, now=made.NOW)
    assert done == Result()


def test_the_oldest_day_that_is_kept_is_whole(folder: Store) -> None:
    """Eight whole days before the day of `now`, whatever its hour."""
    folder.retain(now=made.NOW + made.DAY - 1)
    assert spans(folder.tree)[0][0] == 2 * PER_DAY


def test_readers_that_listed_before_have_their_grace(folder: Store) -> None:
    old = [file.path for record in records(folder.tree, ID)[: 2 * made.BATCHES] for file in record.files]
    minute = 60 * 10**9
    assert folder.retain(grace_s=600.0).pending == len(made.CHAINS)
    assert spans(folder.tree)[0][0] == 2 * PER_DAY
    assert all(folder.tree.storage.size(path) is not None for path in old)
    waiting = folder.retain(7.0, grace_s=600.0, now=made.NOW + 9 * minute)
    assert (waiting.records, waiting.pending) == (0, len(made.CHAINS))
    assert all(folder.tree.storage.size(path) is not None for path in old)
    folder.retain(grace_s=600.0, now=made.NOW + 10 * minute)
    assert all(folder.tree.storage.size(path) is None for path in old)


def test_merged_days_go_with_all_that_they_cover(store: Store) -> None:
    """Their old files still wait for the grace of the compaction; none may stand up again."""
    compact(store.tree, LAYOUT, Options(grace_s=600.0), now=made.NOW)
    seen: list[int] = []

    def first(_: str) -> None:
        seen.append(next(commits(store.tree, ID)).start)

    done = store.retain(step=first)
    assert not done.failed
    assert seen == sorted(seen)
    assert set(seen) <= {0, PER_DAY, 2 * PER_DAY}
    assert spans(store.tree) == [(2 * PER_DAY, END)]
    assert min(place.start for place in listed(store.tree, ID)) == 2 * PER_DAY
    kept = [path for path in store.files() if ".0.made-up" in path]
    assert not [path for path in kept if "date=2024-10-04" in path or "date=2024-10-05" in path]
    compact(store.tree, LAYOUT, Options(grace_s=0.0), now=made.NOW + made.DAY)
    assert not list(store.tree.storage.walk("_active"))
    assert not list(store.tree.storage.walk("_compact"))


@pytest.mark.parametrize("step", retaining.STEPS)
def test_a_kill_anywhere_is_made_good(store: Store, step: str) -> None:
    command = [sys.executable, made.__file__, store.root, "retain", step, "1"]
    died = subprocess.run(command, check=False)
    assert died.returncode == -9
    tree = store.tree
    for chain in chains(tree):
        for record in records(tree, chain):  # tiles, and every file of it is there
            assert all(tree.storage.size(file.path) == file.bytes for file in record.files)
    assert not store.retain().failed
    assert spans(tree)[0][0] == 2 * PER_DAY
    held = {file.path for chain in chains(tree) for record in records(tree, chain) for file in record.files}
    assert set(store.files()) == held


def test_a_writer_that_slept_through_it_loses_its_batch(new_root: Callable[[str], str]) -> None:
    """In a bucket there are no locks; its record would stand alone before the chain's new beginning."""
    store = Store(new_root("bucket"))
    with Chain.open(store.tree, ID, first=0) as sleeper:
        made.write(store.root)
        store.retain()
        before = spans(store.tree)
        with pytest.raises(WriterConflict, match="another writer has committed from offset 0"):
            made.batch(sleeper, 10)
    assert spans(store.tree) == before


def test_nothing_is_dropped_unless_it_is_on_record(folder: Store, tmp_path: Path) -> None:
    (tmp_path / "processed" / "_retained").write_bytes(b"in the way")
    before = [[*folder.tree.storage.walk("sim")], [*folder.tree.storage.walk("_commits")]]
    assert len(folder.retain().failed) == len(made.CHAINS)
    assert [[*folder.tree.storage.walk("sim")], [*folder.tree.storage.walk("_commits")]] == before


def test_a_damaged_note_is_named(folder: Store) -> None:
    folder.retain()
    path = f"_retained/{ID.folder}/{2 * PER_DAY:020d}.json"
    folder.tree.storage.remove([path])
    folder.tree.storage.create(path, b"{")
    with pytest.raises(StorageError, match=r"0240\.json is no note"):
        newest_note(folder.tree, ID)


def test_a_note_beyond_the_newest_record_removes_nothing(folder: Store) -> None:
    """Such a note belongs to another copy of the data."""
    note = retaining.Dropped(
        start=0, next_offset=END, made_at=0, records=1, rows=1, bytes=1, files=folder.files(), note={}
    )
    folder.tree.storage.create(f"_retained/{ID.folder}/{END:020d}.json", msgspec.json.encode(note))
    names = sorted(folder.tree.storage.walk("sim"))
    (failed, *_) = folder.retain().failed
    assert "nothing does" in failed
    assert [path for path in sorted(folder.tree.storage.walk("sim")) if ".0.made-up" in path] == [
        path for path in names if ".0.made-up" in path
    ]
