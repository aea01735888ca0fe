"""Compaction changes no row that a strict reader sees: before, during and after, whatever cuts it off."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import made_lake as made
from fluxforge.clock import NS
from fluxforge.errors import StorageError, Superseded, WriterConflict
from fluxforge.files import Chain, Tree, chains, commits, locate, parquet
from fluxforge.files import merge as merging
from fluxforge.files import settle as settling
from fluxforge.files.commit import encode
from fluxforge.files.compact import Result, compact
from fluxforge.files.history import listed, records
from fluxforge.files.rowhash import RowHash, row_hash
from fluxforge.files.runs import Options, batches, runs
from fluxforge.lake.compaction import LAYOUT

CHILD = Path(made.__file__)
ID = made.CHAINS[0]
PER_DAY = made.BATCHES * made.ROWS
ALL = range(made.DAYS * PER_DAY)


class Store:
    """A lake that another process can open too."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.tree = made.tree(root)

    def compact(self, **options: object) -> Result:
        now = options.pop("now", made.NOW)
        return compact(self.tree, LAYOUT, Options(**{"grace_s": 0.0, **options}), now=now)  # type: ignore[arg-type]

    def killed(self, action: str, step: str, times: int) -> None:
        command = [sys.executable, str(CHILD), self.root, action, step, str(times)]
        died = subprocess.run(command, check=False)
        assert died.returncode == -9

    def ready(self) -> list[str]:
        """What readers that only list files see."""
        return [path for path in self.tree.storage.walk("sim") if path.endswith(".parquet")]

    def actives(self) -> list[str]:
        return list(self.tree.storage.walk("_active"))


@pytest.fixture
def store(root: str) -> Store:
    made.write(root)
    return Store(root)


@pytest.fixture
def folder(tmp_path: Path) -> Store:
    made.write(str(tmp_path))
    return Store(str(tmp_path))


def table_of(tree: Tree, path: str) -> pa.Table:
    with tree.storage.open(path) as opened:
        return pq.ParquetFile(opened).read()


def strict(tree: Tree, chain: object = ID) -> list[tuple[str, int, int, str | None]]:
    """Folder and values of every row that a strict reader sees, sorted."""
    found = []
    for record in commits(tree, chain):  # type: ignore[arg-type]
        for file in record.files:
            rows = table_of(tree, locate(tree, file)).to_pylist()
            name = file.path.rsplit("/", 1)[0]
            found += [(name, row["timestamp"].value, row["offset"], row["word"]) for row in rows]
    return sorted(found, key=lambda row: row[2])


def tiles(tree: Tree) -> bool:
    stored = [records(tree, chain) for chain in chains(tree)]
    return all(a.next_offset == b.start for chain in stored for a, b in pairwise(chain))


def hashes(tree: Tree) -> dict[str, RowHash]:
    """By folder."""
    found: dict[str, RowHash] = {}
    for chain in chains(tree):
        for record in records(tree, chain):
            for file in record.files:
                name = file.path.rsplit("/", 1)[0]
                found[name] = found.get(name, RowHash()) + row_hash(table_of(tree, locate(tree, file)))
    return found


class TestLaws:
    def test_the_same_rows_in_few_files_sorted_by_time(self, store: Store) -> None:
        tree, before, hashed = store.tree, strict(store.tree), hashes(store.tree)
        assert [row[2] for row in before] == list(ALL)
        done = store.compact()
        days = made.IN_ALL
        assert (done.records_before, done.records_after) == (days * made.BATCHES, days)
        assert (done.files_before, done.files_after) == (days * made.BATCHES * 3, days * 3)
        assert (done.rows, done.hash, done.pending, done.failed) == (
            made.IN_ALL * PER_DAY,
            sum(hashed.values(), RowHash()),
            0,
            [],
        )
        assert strict(tree) == before
        assert hashes(tree) == hashed
        assert tiles(tree)
        assert sum(len(listed(tree, chain)) for chain in chains(tree)) == days
        assert len(store.ready()) == days * 3
        assert not store.actives()
        for path in store.ready():
            times = table_of(tree, path)["timestamp"].to_pylist()
            assert times == sorted(times)
        assert store.compact() == Result()

    def test_the_record_tells_what_it_was_made_of(self, folder: Store) -> None:
        before = records(folder.tree, ID)
        folder.compact(date="2024-10-05")
        first = made.BATCHES
        (record,) = [each for each in records(folder.tree, ID) if each.merged]
        assert (record.start, record.next_offset, record.merged) == (PER_DAY, 2 * PER_DAY, made.BATCHES)
        assert (record.schema, record.config_hash) == ("2", "c")
        assert (record.meta["road"], record.meta["table"], record.meta["made_at"]) == ("live", "hf", made.NOW)
        assert [each.next_offset for each in batches(record)] == [
            each.next_offset for each in before[first : 2 * first]
        ]
        for file in record.files:
            table = table_of(folder.tree, file.path)
            assert file.meta["rows_hash"] == str(row_hash(table))
            assert (file.rows, file.meta["source"]) == (table.num_rows, "sim")
            assert file.first_ts == table["timestamp"].cast(pa.int64())[0].as_py()

    def test_an_open_day_waits(self, folder: Store) -> None:
        assert folder.compact(before="2024-10-06").records_after == 3
        assert [record.merged for record in records(folder.tree, ID)] == [made.BATCHES] * 2 + [0] * made.BATCHES

    def test_a_dry_run_counts_and_changes_nothing(self, folder: Store) -> None:
        names = sorted(folder.tree.storage.walk(""))
        dry = folder.compact(dry_run=True)
        assert sorted(folder.tree.storage.walk("")) == names
        done = folder.compact()
        assert (dry.records_before, dry.files_before, dry.files_after, dry.bytes_before, dry.rows) == (
            done.records_before,
            done.files_before,
            done.files_after,
            done.bytes_before,
            done.rows,
        )

    def test_only_days_that_hold_a_wanted_file(self, folder: Store) -> None:
        done = folder.compact(wanted=lambda file: "symbol=S1/date=2024-10-05" in file.path)
        assert done.records_after == 1
        assert not folder.compact(wanted=lambda file: "symbol=S9" in file.path).records_after

    def test_files_stay_below_the_largest_size(self, folder: Store) -> None:
        before = strict(folder.tree)
        size = max(file.bytes for record in records(folder.tree, ID) for file in record.files)
        done = folder.compact(max_bytes=2 * size)
        assert done.records_after == made.IN_ALL * made.BATCHES // 2
        assert strict(folder.tree) == before
        assert tiles(folder.tree)

    def test_what_comes_late_is_merged_with_what_was(self, folder: Store) -> None:
        with Chain.open(folder.tree, ID, first=0) as chain:
            made.batch(chain, 3 * PER_DAY + 10)
        folder.compact()
        with Chain.open(folder.tree, ID, first=0) as chain:
            assert chain.next_offset == 3 * PER_DAY + 10
            made.batch(chain, 3 * PER_DAY + 30)
        before, hashed = strict(folder.tree), hashes(folder.tree)
        assert folder.compact().records_before == 2
        assert strict(folder.tree) == before
        assert hashes(folder.tree) == hashed
        assert [record.merged for record in records(folder.tree, ID)] == [4, 4, 4, 2]
        assert not folder.actives()


class TestKill:
    @pytest.mark.parametrize("root", ["folder", pytest.param("bucket", marks=pytest.mark.long)], indirect=True)
    @pytest.mark.parametrize("step", [*merging.STEPS, *settling.STEPS])
    def test_every_row_once_after_kill_9(self, store: Store, step: str) -> None:
        before, hashed = strict(store.tree), hashes(store.tree)
        store.killed("compact", step, 2 if step == "files.synced" or step.startswith("record.") else 5)
        assert strict(store.tree) == before
        assert hashes(store.tree) == hashed
        with Chain.open(store.tree, ID, first=0, end=len(ALL)) as chain:
            assert chain.next_offset == len(ALL)
        assert strict(store.tree) == before
        made.act(store.root, "compact", lambda _: None)
        later = made.NOW + 2 * made.DAY  # what a cut off merge has left in a bucket is then cleared
        made.act(store.root, "compact", lambda _: None, now=later)
        assert strict(store.tree) == before
        assert hashes(store.tree) == hashed
        assert tiles(store.tree)
        assert not store.actives()
        assert len(store.ready()) == made.IN_ALL * 3
        assert not list(store.tree.storage.walk("_compact"))
        assert sum(len(listed(store.tree, chain)) for chain in chains(store.tree)) == made.IN_ALL


class TestReaders:
    def test_one_that_looked_before_and_one_during_read_on(self, store: Store) -> None:
        tree, grace = store.tree, 600 * NS
        before = strict(tree)
        old = [locate(tree, file) for record in records(tree, ID) for file in record.files]
        store.compact(grace_s=600.0)
        during = [locate(tree, file) for record in records(tree, ID) for file in record.files]
        assert strict(tree) == before
        assert sum(table_of(tree, path).num_rows for path in old) == len(before)
        assert sorted(store.ready()) == sorted({*old, *store.ready()})
        assert store.compact(grace_s=600.0, now=made.NOW + grace - 1).pending == made.IN_ALL
        assert sum(table_of(tree, path).num_rows for path in old) == len(before)
        store.compact(grace_s=600.0, now=made.NOW + grace)
        assert all(tree.storage.size(path) is None for path in old)
        assert sum(table_of(tree, path).num_rows for path in during) == len(before)
        assert strict(tree) == before
        assert store.compact(grace_s=600.0, now=made.NOW + 2 * grace).pending == 0
        assert not store.actives()
        assert strict(tree) == before

    def test_one_in_the_middle_of_the_records_is_told(self, folder: Store) -> None:
        reading = commits(folder.tree, ID)
        assert next(reading).start == 0
        folder.compact()
        with pytest.raises(Superseded, match="merged while they were read"):
            list(reading)
        assert [record.start for record in commits(folder.tree, ID, start=made.ROWS)] == [0, PER_DAY, 2 * PER_DAY]

    def test_one_between_two_days_goes_on(self, folder: Store) -> None:
        reading = commits(folder.tree, ID)
        assert [next(reading).start for _ in range(made.BATCHES)][-1] == PER_DAY - made.ROWS
        folder.compact()
        assert [(record.start, record.next_offset) for record in reading] == [
            (PER_DAY, 2 * PER_DAY),
            (2 * PER_DAY, 3 * PER_DAY),
        ]


class TestWriters:
    def test_one_appends_meanwhile(self, store: Store) -> None:
        tree = store.tree
        with Chain.open(tree, ID, first=0) as chain:

            def append(step: str) -> None:
                if step in {"files.synced", "record.linked", "old.removed"} and chain.next_offset < len(ALL) + PER_DAY:
                    made.batch(chain, chain.next_offset + 1)

            made.act(store.root, "compact", append)
            appended = chain.next_offset
        assert appended > len(ALL) + 3
        assert [row[2] for row in strict(tree)] == list(range(appended))
        assert tiles(tree)
        store.compact()
        assert [row[2] for row in strict(tree)] == list(range(appended))

    def test_one_that_opens_in_the_grace_leaves_the_new_files_alone(self, folder: Store) -> None:
        folder.compact(grace_s=600.0)
        names = folder.ready(), folder.actives()
        with Chain.open(folder.tree, ID, first=0, end=len(ALL)) as chain:
            assert chain.next_offset == len(ALL)
        assert (folder.ready(), folder.actives()) == names

    def test_a_day_whose_newest_record_was_never_settled(self, folder: Store) -> None:
        """Its writer was killed between record and links, and nobody has opened the chain since."""
        with Chain.open(folder.tree, ID, first=0) as chain:
            made.batch(chain, len(ALL) + 5)
        with pytest.raises(KeyboardInterrupt), Chain.open(folder.tree, ID, first=0, step=interrupted) as chain:
            made.batch(chain, len(ALL) + 10)
        folder.compact()
        assert [row[2] for row in strict(folder.tree)] == list(range(len(ALL) + 10))
        assert not folder.actives()
        with Chain.open(folder.tree, ID, first=0) as chain:
            assert chain.next_offset == len(ALL) + 10

    @pytest.mark.parametrize("stored", [0, 1, made.BATCHES], ids=["first batch", "inside a day", "first of a day"])
    def test_one_that_slept_through_it_all_loses_its_batch(self, new_root: Callable[[str], str], stored: int) -> None:
        """In a bucket there are no locks, and its start's record is gone: only the merged one tells."""
        root = new_root("bucket")
        tree = made.tree(root)
        ends = range(made.ROWS, len(ALL) + 1, made.ROWS)
        sleeper = Chain.open(tree, ID, first=0)
        for end in ends[:stored]:
            made.batch(sleeper, end)
        with Chain.open(tree, ID, first=0) as other:
            for end in ends[stored:]:
                made.batch(other, end)
        before, start = strict(tree), sleeper.next_offset
        made.act(root, "compact", lambda _: None)
        for end in (start + 10, start + made.ROWS, len(ALL) + 5):
            with pytest.raises(WriterConflict, match=f"another writer has committed from offset {start}"):
                made.batch(sleeper, end)
            assert strict(tree) == before
            assert len(listed(tree, ID)) == made.DAYS

    def test_one_that_slept_while_its_own_day_alone_was_merged(self, new_root: Callable[[str], str]) -> None:
        """The record before its batch is still there."""
        store = Store(new_root("bucket"))
        sleeper = Chain.open(store.tree, ID, first=0)
        ends = range(made.ROWS, 2 * PER_DAY + 1, made.ROWS)
        for end in ends[: made.BATCHES]:
            made.batch(sleeper, end)
        with Chain.open(store.tree, ID, first=0) as other:
            for end in ends[made.BATCHES :]:
                made.batch(other, end)
        before = strict(store.tree)
        store.compact(date="2024-10-05")
        with pytest.raises(WriterConflict, match=f"another writer has committed from offset {PER_DAY}"):
            made.batch(sleeper, PER_DAY + 10)
        assert strict(store.tree) == before

    def test_one_at_work_goes_on_over_a_merge_of_all_it_made(self, store: Store) -> None:
        with Chain.open(store.tree, ID, first=0) as chain:
            made.batch(chain, len(ALL) + 5)
            store.compact(now=made.NOW + made.DAY)
            made.batch(chain, len(ALL) + 10)
        assert [row[2] for row in strict(store.tree)] == list(range(len(ALL) + 10))

    def test_a_commit_does_not_list_the_chain(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        """There may be as many records as batches in years."""
        asked: list[str] = []
        with Chain.open(store.tree, ID, first=0) as chain:
            storage = type(store.tree.storage)
            names = storage.names
            monkeypatch.setattr(
                storage, "names", lambda self, folder, prefix="": asked.append(prefix) or names(self, folder, prefix)
            )
            made.batch(chain, len(ALL) + 5)
            made.batch(chain, len(ALL) + 10)
        assert asked
        assert all(asked)

    def test_a_late_record_inside_a_merged_range_goes_with_its_files(self, folder: Store) -> None:
        """Its writer died before it could look."""
        before = strict(folder.tree)
        first = records(folder.tree, ID)[0]
        folder.compact()
        path = first.files[0].path
        folder.tree.storage.create(path, b"late")
        folder.tree.storage.create(ID.record(0), encode(first))
        assert strict(folder.tree) == before
        folder.compact()
        assert strict(folder.tree) == before
        assert folder.tree.storage.size(path) is None
        assert len(listed(folder.tree, ID)) == made.DAYS
        assert not list(folder.tree.storage.walk("_compact"))


class TestCompactors:
    def test_a_second_one_waits_for_the_lock_or_passes_on(self, folder: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("fluxforge.files.settle.LOCK_TIMEOUT_S", 0.1)
        held = settling.lock(folder.tree, ID, 0.1)
        done = folder.compact()
        held.release()
        (failed,) = done.failed
        assert "another process holds" in failed
        assert done.records_after == 1

    def test_without_locks_the_first_record_counts(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        """The second one merges the same days while the first is about to make its record."""
        monkeypatch.setattr(settling, "lock", lambda *_: NoLock())
        monkeypatch.setattr("fluxforge.files.compact.lock", lambda *_: NoLock())
        before, hashed, seen = strict(store.tree), hashes(store.tree), []

        def step(name: str) -> None:
            if name == "files.synced" and not seen:
                seen.append(name)
                assert not store.compact(max_bytes=3000).failed

        done = compact(store.tree, LAYOUT, Options(grace_s=0.0), now=made.NOW, step=step)
        assert seen
        assert any("was merged by another process" in each for each in done.failed)
        assert strict(store.tree) == before
        assert hashes(store.tree) == hashed
        assert tiles(store.tree)

    def test_one_that_was_overtaken_after_its_last_look_takes_its_record_back(
        self, folder: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("fluxforge.files.compact.lock", lambda *_: NoLock())
        before = strict(folder.tree)
        size = max(file.bytes for file in records(folder.tree, ID)[0].files)
        seen = []

        def step(name: str) -> None:
            if name == "record.written" and not seen:
                seen.append(name)
                assert not folder.compact(max_bytes=2 * size).failed

        done = compact(folder.tree, LAYOUT, Options(grace_s=0.0, max_bytes=3 * size), now=made.NOW, step=step)
        assert seen
        assert done.failed
        assert strict(folder.tree) == before
        assert tiles(folder.tree)


class TestDamage:
    def test_a_file_that_cannot_be_read_stays_and_is_named(self, folder: Store, tmp_path: Path) -> None:
        file = records(folder.tree, ID)[0].files[1]
        path = tmp_path / "processed" / file.path
        path.write_bytes(path.read_bytes()[:-20])
        done = folder.compact()
        (failed,) = done.failed
        assert f"[0, {PER_DAY})" in failed
        assert [record.merged for record in records(folder.tree, ID)] == [0] * made.BATCHES + [made.BATCHES] * 2
        assert path.exists()
        assert not folder.actives()

    def test_what_is_read_back_otherwise_is_never_committed(
        self, folder: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = LAYOUT.tables

        def damaged(tree: Tree, file: object) -> object:
            for table in real(tree, file):  # type: ignore[arg-type]
                wrong = pa.array([f"{word}!" for word in table["word"].to_pylist()])
                new = "-" in file.path.rsplit("/", 1)[1].split(".")[-2]  # type: ignore[attr-defined]
                yield table.set_column(2, "word", wrong) if new else table

        monkeypatch.setattr(LAYOUT, "tables", damaged, raising=False)
        done = folder.compact()
        assert len(done.failed) == made.IN_ALL
        assert all("other rows than were written" in each for each in done.failed)
        assert not any(record.merged for record in records(folder.tree, ID))
        assert not folder.actives()

    def test_a_hole_in_the_records_stops_the_removal(self, folder: Store) -> None:
        folder.compact(grace_s=600.0, date="2024-10-04")
        folder.tree.storage.remove([ID.record(PER_DAY)])
        with pytest.raises(StorageError, match="is in no record"):
            settling.settle(folder.tree, ID, grace_s=0, now=made.NOW + 10**12)
        assert len(listed(folder.tree, ID)) == made.DAYS * made.BATCHES

    def test_other_columns_under_one_schema_are_left_alone(self, folder: Store) -> None:
        other = made.CHAINS[1]._replace(partition=7)
        name = "sim/orderbook/hf/exchange=sim/symbol=S0/date=2024-10-04"
        with Chain.open(folder.tree, other, first=0) as chain:
            for end, schema in ((1, made.SCHEMA), (2, made.SCHEMA.append(pa.field("more", pa.int64())))):
                values = {"timestamp": [made.FIRST], "offset": [end], "word": ["x"], "more": [1]}
                table = pa.table({key: values[key] for key in schema.names}, schema=schema)
                chain.segment(name, parquet(schema)).write(table)
                chain.commit(end)
        (failed,) = folder.compact().failed
        assert "[0, 2)" in failed
        assert [record.merged for record in records(folder.tree, other)] == [0, 0]


class TestPlan:
    def test_a_gap_is_never_merged(self, folder: Store) -> None:
        """Its record looks like those around it, which hold rows of one day."""
        other = ID._replace(partition=7)
        table = pa.table({"timestamp": [made.FIRST], "offset": [0], "word": ["x"]}, schema=made.SCHEMA)
        for first, end in ((0, 20), (30, 50)):
            with Chain.open(folder.tree, other, first=first, on_gap="record") as chain:
                for next_offset in (end - 10, end):
                    folder_name = "sim/orderbook/hf/exchange=sim/symbol=S0/date=2024-10-04"
                    chain.segment(folder_name, parquet(made.SCHEMA)).write(table)
                    chain.commit(next_offset)
        folder.compact()
        assert [(each.start, each.merged, each.gap is not None) for each in records(folder.tree, other)] == [
            (0, 2, False),
            (20, 0, True),
            (30, 2, False),
        ]

    def test_batches_without_rows_go_with_the_day_that_follows(self, folder: Store) -> None:
        with Chain.open(folder.tree, ID, first=0) as chain:
            chain.commit(len(ALL) + 1, schema="2", config_hash="c", meta={"road": "live", "table": "hf"})
            made.batch(chain, len(ALL) + 10)
        found = runs(folder.tree, ID, LAYOUT, Options())
        assert [(run.start, run.next_offset) for run in found] == [
            (0, PER_DAY),
            (PER_DAY, 2 * PER_DAY),
            (2 * PER_DAY, 3 * PER_DAY),
        ]
        with Chain.open(folder.tree, ID, first=0) as chain:
            made.batch(chain, len(ALL) + 20)
        assert [(run.start, run.next_offset) for run in runs(folder.tree, ID, LAYOUT, Options())][3:] == [
            (len(ALL), len(ALL) + 20)
        ]


class NoLock:
    def release(self) -> None: ...


def interrupted(step: str) -> None:
    if step == "record.synced":
        raise KeyboardInterrupt
