"""Batches are whole or absent, tile their offsets, and survive kill -9 at every step."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from types import ModuleType

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fluxforge.errors import DiskFull, GapError, StorageError, UnsupportedStorage, WriterConflict
from fluxforge.files import STEPS, Chain, ChainId, Gap, LocalStorage, Tree, chains, commits, locate, parquet
from fluxforge.storage import storage
from s3_server import S3Server

CHILD = Path(__file__).with_name("chain_child.py")
ID = ChainId("log-1", "market.raw", 0)
SCHEMA = pa.schema([("offset", pa.int64())])
END = 60


def write(chain: Chain, start: int, end: int, folder: str = "a") -> None:
    chain.segment(folder, parquet(SCHEMA)).write(pa.table({"offset": list(range(start, end))}, schema=SCHEMA))


def stored(tree: Tree, chain: ChainId = ID) -> list[int]:
    """Every offset in the committed files, sorted."""
    return sorted(
        offset
        for commit in commits(tree, chain)
        for file in commit.files
        for offset in pq.read_table(locate(tree, file), filesystem=tree.storage.filesystem())
        .column("offset")
        .to_pylist()
    )


def leftovers(root: Path) -> list[Path]:
    return [path for path in (root / "active").rglob("*") if path.is_file()]


class Store:
    """A tree that another process can open too, and what readers that only list files see of it."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.tree = Tree(storage(root, ""))

    def globbed(self) -> list[int]:
        paths = [path for path in self.tree.storage.walk("ready") if path.endswith(".parquet")]
        tables = [pq.read_table(path, filesystem=self.tree.storage.filesystem()) for path in sorted(paths)]
        return sorted(pa.concat_tables(tables).column("offset").to_pylist())


@pytest.fixture
def store(root: str) -> Store:
    return Store(root)


@pytest.fixture
def tree(store: Store) -> Tree:
    return store.tree


@pytest.fixture
def folder(tmp_path: Path) -> Tree:
    """For what only disks do."""
    return Tree.local(tmp_path)


class TestKill:
    @pytest.mark.parametrize(
        ("step", "times"),
        [(step, 2) for step in ("rows.written", *STEPS)]
        + [("files.finished", 1), ("file.linked", 6), ("active.removed", 4), ("record.linked", 1)],
    )
    def test_every_row_once_after_kill_9(self, store: Store, step: str, times: int) -> None:
        died = subprocess.run([sys.executable, str(CHILD), store.root, step, str(times)], check=False)
        assert died.returncode == -9
        tree, chain = store.tree, ChainId("made-up", "market.raw", 0)
        before = stored(tree, chain)
        assert before == list(range(len(before))), "a reader saw part of a batch"
        chain_child.run(store.root, "", 0)
        assert stored(tree, chain) == list(range(END))
        assert [(c.start, c.next_offset) for c in commits(tree, chain)] == [(0, 20), (20, 40), (40, 60)]
        assert not list(tree.storage.walk("active"))
        assert store.globbed() == list(range(END))


class TestTiling:
    @settings(deadline=None, max_examples=40)
    @given(steps=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 4), st.booleans()), max_size=8))
    def test_records_meet_whatever_the_batches(self, steps: list[tuple[int, int, bool]]) -> None:
        """Batches of any size, holes after them, and reopening in between."""
        storage = MemoryFolder()
        try:
            tree, expected, at = Tree.local(storage.path), [], 0
            chain = Chain.open(tree, ID, first=0)
            for rows, hole, reopen in steps:
                if rows:
                    write(chain, at, at + rows)
                    expected += range(at, at + rows)
                at += rows + hole
                chain.commit(at)
                if reopen:
                    chain.close()
                    chain = Chain.open(tree, ID, first=0, end=at)
                assert chain.next_offset == at
            chain.close()
            records = list(commits(tree, ID))
            assert [r.start for r in records[1:]] == [r.next_offset for r in records[:-1]]
            assert stored(tree) == expected
            assert (chains(tree) == [ID]) == bool(records)
        finally:
            storage.remove()

    def test_a_reader_can_begin_in_the_middle(self, tree: Tree) -> None:
        with Chain.open(tree, ID, first=0) as chain:
            for start in (0, 10, 20):
                write(chain, start, start + 10)
                chain.commit(start + 10)
        assert [c.start for c in commits(tree, ID, start=9)] == [0, 10, 20]
        assert [c.start for c in commits(tree, ID, start=10)] == [10, 20]
        assert [c.start for c in commits(tree, ID, start=25)] == [20]
        assert list(commits(tree, ID, start=30)) == []

    def test_a_missing_record_is_seen(self, tree: Tree) -> None:
        with Chain.open(tree, ID, first=0) as chain:
            for start in (0, 10, 20):
                write(chain, start, start + 10)
                chain.commit(start + 10)
        tree.storage.remove([ID.record(10)])
        with pytest.raises(StorageError, match=r"\[10, 20\) is in no record"):
            list(commits(tree, ID))

    def test_the_record_describes_the_file(self, tree: Tree) -> None:
        with Chain.open(tree, ID, first=0) as chain:
            segment = chain.segment("t", parquet(SCHEMA), time_column="offset", meta={"key": "x"})
            segment.write(pa.table({"offset": [3, 9, 5]}, schema=SCHEMA))
            made = chain.commit(10, schema="s/1", config_hash="abc")
        (commit,) = commits(tree, ID)
        assert commit == made
        (file,) = commit.files
        assert (file.rows, file.first_ts, file.last_ts, file.meta) == (3, 3, 9, {"key": "x"})
        assert (commit.first_ts, commit.last_ts, commit.schema, commit.config_hash) == (3, 9, "s/1", "abc")
        data = tree.storage.read(locate(tree, file))
        assert (len(data), hashlib.sha256(data).hexdigest()) == (file.bytes, file.sha256)


class TestWriters:
    def test_a_second_process_waits_then_hears_of_the_first(self, folder: Tree) -> None:
        with Chain.open(folder, ID, first=0), pytest.raises(WriterConflict, match="another process holds"):
            Chain.open(folder, ID, first=0, lock_timeout=0.1)
        Chain.open(folder, ID, first=0, lock_timeout=0.1).close()

    def test_the_slower_of_two_writers_on_two_machines_loses_its_batch_only(self, tmp_path: Path) -> None:
        """Their locks do not see each other, as over a network filesystem."""
        one, two = (Tree(Lockless(tmp_path)) for _ in range(2))
        first, second = Chain.open(one, ID, first=0), Chain.open(two, ID, first=0)
        write(first, 0, 10)
        write(second, 0, 12)
        first.commit(10)
        with pytest.raises(WriterConflict, match="another writer has committed from offset 0"):
            second.commit(12)
        second.close()
        with Chain.open(two, ID, first=0) as third:
            assert third.next_offset == 10
            write(third, 10, 12)
            third.commit(12)
        assert stored(one) == list(range(12))
        assert not leftovers(tmp_path)

    def test_a_writer_swept_away_by_another_does_not_publish_its_files(self, tmp_path: Path) -> None:
        """The second one's recovery removes the active files of the first, which still runs."""
        one, two = (Tree(Lockless(tmp_path)) for _ in range(2))
        first = Chain.open(one, ID, first=0)
        first.segment("a", parquet(SCHEMA), group_bytes=1).write(pa.table({"offset": [0, 1]}, schema=SCHEMA))
        second = Chain.open(two, ID, first=0)
        write(second, 0, 2)
        second.commit(2)
        with pytest.raises(StorageError):
            first.commit(2)
        assert stored(one) == [0, 1]

    def test_a_foreign_file_in_the_way_is_named_and_kept(self, tree: Tree) -> None:
        chain = Chain.open(tree, ID, first=0)
        write(chain, 0, 10)
        taken = f"ready/a/{ID.name(0)}.parquet"
        tree.storage.create(taken, b"mine")
        with pytest.raises(StorageError, match="is not the file its commit record describes"):
            chain.commit(10)
        chain.close()
        assert tree.storage.read(taken) == b"mine"
        tree.storage.remove([taken])
        with Chain.open(tree, ID, first=0) as again:
            assert again.next_offset == 10
        assert stored(tree) == list(range(10))

    def test_two_machines_over_one_bucket(self, s3_server: S3Server) -> None:
        """There are no locks: the first record of a start counts, the other batch is read again."""
        tree = Tree(s3_server.storage())
        first, second = Chain.open(tree, ID, first=0), Chain.open(tree, ID, first=0)
        write(first, 0, 10)
        write(second, 0, 12)
        first.commit(10)
        with pytest.raises(WriterConflict, match="another writer has committed from offset 0"):
            second.commit(12)
        with Chain.open(tree, ID, first=0) as third:
            write(third, third.next_offset, 12)
            third.commit(12)
        assert stored(tree) == list(range(12))
        assert not tree.storage.leftovers(tree)


class TestLogs:
    def test_a_recreated_topic_begins_a_chain_of_its_own(self, tree: Tree) -> None:
        for log_id, count in (("log-1", 10), ("log-2", 5)):
            with Chain.open(tree, ID._replace(log_id=log_id), first=0) as chain:
                assert chain.next_offset == 0
                write(chain, 0, count)
                chain.commit(count)
        assert chains(tree) == [ID, ID._replace(log_id="log-2")]
        assert stored(tree) == list(range(10))
        assert stored(tree, ID._replace(log_id="log-2")) == list(range(5))

    def test_a_log_that_was_cut_back_stops_the_writer(self, tree: Tree) -> None:
        with Chain.open(tree, ID, first=0) as chain:
            write(chain, 0, 10)
            chain.commit(10)
        with pytest.raises(StorageError, match="committed up to offset 10, but the log ends at 4"):
            Chain.open(tree, ID, first=0, end=4)

    def test_names_that_cannot_stand_in_a_path_are_refused(self, tree: Tree) -> None:
        for bad in ({"log_id": "a/b"}, {"log_id": "a.b"}, {"topic": ".."}, {"topic": "a/b"}, {"partition": -1}):
            with pytest.raises(StorageError, match="cannot name files"):
                Chain.open(tree, ID._replace(**bad), first=0)

    def test_a_damaged_record_is_named(self, tree: Tree) -> None:
        with Chain.open(tree, ID, first=0) as chain:
            write(chain, 0, 10)
            chain.commit(10)
        tree.storage.remove([ID.record(0)])
        tree.storage.create(ID.record(0), b"{")
        with pytest.raises(StorageError, match=r"0{20}\.json is no commit record"):
            Chain.open(tree, ID, first=0)


class TestGaps:
    def test_the_log_no_longer_reaches_back(self, tree: Tree) -> None:
        with Chain.open(tree, ID, first=0) as chain:
            write(chain, 0, 10)
            chain.commit(10)
        for _ in range(2):
            with pytest.raises(GapError, match=r"\[10, 25\) have left the log"):
                Chain.open(tree, ID, first=25)
        with Chain.open(tree, ID, first=25, on_gap="record") as chain:
            assert (chain.next_offset, chain.gap) == (25, Gap(10, 25))
            write(chain, 25, 30)
            chain.commit(30)
        assert [(c.start, c.next_offset, c.gap) for c in commits(tree, ID)] == [
            (0, 10, None),
            (10, 25, Gap(10, 25)),
            (25, 30, None),
        ]

    def test_what_the_log_cannot_give_again_is_kept_in_quarantine(self, folder: Tree, tmp_path: Path) -> None:
        lost = tmp_path / "active" / "a" / f"{ID.name(0)}.parquet.deadbeef"
        lost.parent.mkdir(parents=True)
        lost.write_bytes(b"rows nobody has elsewhere")
        with pytest.raises(GapError, match=r"\[0, 7\)"):
            Chain.open(folder, ID, first=7)
        assert lost.exists()
        with Chain.open(folder, ID, first=7, on_gap="record") as chain:
            assert chain.next_offset == 7
        assert not lost.exists()
        kept = tmp_path / "_quarantine" / ID.folder / lost.name
        assert kept.read_bytes() == b"rows nobody has elsewhere"

    def test_what_the_log_gives_again_is_removed(self, folder: Tree, tmp_path: Path) -> None:
        for name in (f"{ID.name(0)}.parquet.x", f"{ID._replace(partition=1).name(0)}.parquet.x"):
            path = tmp_path / "active" / "a" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
        Chain.open(folder, ID, first=0).close()
        assert [path.name for path in leftovers(tmp_path)] == [f"{ID._replace(partition=1).name(0)}.parquet.x"]


class TestDisk:
    def test_a_full_disk_loses_the_open_batch_only(self, tmp_path: Path) -> None:
        """The file size limit of the process stands for the full disk, at every size up to enough."""
        tree, chain, limit, full = Tree.local(tmp_path), ChainId("made-up", "market.raw", 0), 0, True
        while full:
            with file_size_limit(limit):
                try:
                    chain_child.run(str(tmp_path), "", 0)
                    full = False
                except DiskFull as error:
                    assert "no room to write" in str(error)
            rows = stored(tree, chain)
            assert rows == list(range(len(rows)))
            limit += 97
        assert rows == list(range(END))
        assert limit > 2 * 97
        assert not leftovers(tmp_path)

    def test_a_device_error_is_not_taken_for_success(self, tmp_path: Path) -> None:
        for calls in range(12):
            root = tmp_path / str(calls)
            chain = Chain.open(Tree(Failing(root, calls)), ID, first=0)
            failed = False
            try:
                write(chain, 0, 10)
                chain.commit(10)
            except DiskFull:
                failed = True
            chain.close()
            tree = Tree.local(root)
            with Chain.open(tree, ID, first=0) as again:
                if again.next_offset == 0:
                    assert failed
                    write(again, 0, 10)
                    again.commit(10)
            assert stored(tree) == list(range(10))
            assert not leftovers(root)
            if not failed:
                return
        raise AssertionError("every run failed: the storage never ran out of failures")

    def test_a_filesystem_without_links_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(UnsupportedStorage, match="hard links fail"):
            Linkless(tmp_path).probe()
        with pytest.raises(UnsupportedStorage, match="overwrote"):
            Overwriting(tmp_path).probe()
        LocalStorage(tmp_path).probe()
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
    def test_a_read_only_folder_is_named(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o500)
        with pytest.raises(StorageError, match="Permission denied"):
            Tree.local(tmp_path / "raw").storage.probe()

    def test_a_file_where_a_folder_must_be_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "raw").write_bytes(b"")
        with pytest.raises(StorageError, match="raw"):
            Chain.open(Tree.local(tmp_path / "raw"), ID, first=0)


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes: writing on fails as on a full disk, after a part was written."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def load_child() -> ModuleType:
    """The child's program, for runs that are not killed."""
    spec = importlib.util.spec_from_file_location("chain_child", CHILD)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


chain_child = load_child()


class Lockless(LocalStorage):
    """Locks that do not reach the other machine."""

    def lock(self, path: str, timeout: float) -> NoLock:  # type: ignore[override]
        return NoLock()


class NoLock:
    def release(self) -> None: ...


class Failing(LocalStorage):
    """The disk fills after so many writes and links."""

    def __init__(self, root: Path, calls: int) -> None:
        super().__init__(root)
        self.left = calls

    def _spend(self) -> None:
        if self.left == 0:
            raise DiskFull("no room to write")
        self.left -= 1

    def open_new(self, path: str):  # type: ignore[no-untyped-def]
        self._spend()
        return super().open_new(path)

    def put(self, path: str, data: bytes) -> None:
        self._spend()
        super().put(path, data)

    def sync(self, file) -> None:  # type: ignore[no-untyped-def]
        self._spend()
        super().sync(file)

    def sync_folder(self, folder: str) -> None:
        self._spend()
        super().sync_folder(folder)

    def link(self, source: str, target: str) -> None:
        self._spend()
        super().link(source, target)


class Linkless(LocalStorage):
    def link(self, source: str, target: str) -> None:
        raise StorageError(f"{target}: Operation not permitted")


class Overwriting(LocalStorage):
    def link(self, source: str, target: str) -> None:
        (self.root / target).write_bytes((self.root / source).read_bytes())


class MemoryFolder:
    """A folder in memory where there is one: hundreds of examples need no disk."""

    def __init__(self) -> None:
        shm = Path("/dev/shm")
        self.path = Path(mkdtemp(dir=shm if os.access(shm, os.W_OK) else None))

    def remove(self) -> None:
        rmtree(self.path)
