"""A synced tree is the source's, batch by batch, whatever happens on the way."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fluxforge.errors import StorageError
from fluxforge.files import Chain, ChainId, Commit, Tree, commits, locate, parquet
from fluxforge.files.commit import Gap, encode
from fluxforge.files.retain import drop
from fluxforge.files.s3 import S3Storage
from fluxforge.files.segment import Segment
from fluxforge.files.storage import Lock
from fluxforge.files.sync import Options, Result, sync
from fluxforge.storage import storage
from s3_faults import FaultyStore, impatient, seeded
from s3_server import S3Server

CHILD = Path(__file__).with_name("sync_child.py")
ID = ChainId("log-1", "market.raw", 0)
OTHER = ChainId("log-1", "market.raw", 1)
SCHEMA = pa.schema([("offset", pa.int64())])
FOLDERS = 3
STEPS = (
    *("file.read", "file.sealed", "file.linked", "folders.synced", "active.removed", "file.copied"),
    *("record.written", "record.linked", "record.synced"),
)


def fill(tree: Tree, end: int, *, batch: int = 10, chain: ChainId = ID) -> None:
    """Batches of `batch` offsets, in three folders each, up to `end`."""
    with Chain.open(tree, chain, first=0) as writer:
        while writer.next_offset < end:
            start, until = writer.next_offset, writer.next_offset + batch
            for folder in range(FOLDERS):
                rows = pa.table({"offset": range(start + folder, until, FOLDERS)}, schema=SCHEMA)
                writer.segment(f"f{folder}/x", parquet(SCHEMA)).write(rows)
            writer.commit(until)


def merge(tree: Tree, start: int, end: int, *, remove: bool = True, chain: ChainId = ID) -> Commit:
    """What a compaction of [start, end) leaves: at once, or with the old batches still beside it."""
    old = [commit for commit in commits(tree, chain) if start <= commit.start < end]
    files = []
    for folder in range(FOLDERS):
        name = f"{chain.name(start)}-{end:020d}.parquet"
        rows = [offset for offset in stored(tree, chain) if start <= offset < end and (offset % 10) % FOLDERS == folder]
        made = Segment(
            tree.storage, f"active/{name}.m-{folder}", f"ready/f{folder}/x/{name}", parquet(SCHEMA), staged=True
        )
        made.write(pa.table({"offset": rows}, schema=SCHEMA))
        made.finish()
        files.append(made.seal())
    record = Commit(
        log_id=chain.log_id, topic=chain.topic, partition=chain.partition, start=start, next_offset=end, writer="c",
        files=files, merged=len(old),
    )  # fmt: skip
    tree.storage.create(chain.record(start, end), encode(record))
    if remove:
        tree.storage.publish(files)
        tree.storage.unstage(files)
        tree.storage.remove([file.path for commit in old for file in commit.files])
        tree.storage.remove([chain.record(commit.start) for commit in old if not commit.merged])
    return record


def stored(tree: Tree, chain: ChainId = ID) -> list[int]:
    """Every offset of the committed files, sorted."""
    found = []
    for commit in commits(tree, chain):
        for file in commit.files:
            with tree.storage.open(locate(tree, file)) as opened:
                found += pq.read_table(opened)["offset"].to_pylist()
    return sorted(found)


def contents(tree: Tree) -> dict[str, str]:
    """Every file but the stores' own notes, and what is in it."""
    paths = [path for path in tree.storage.walk("") if not path.startswith(("_locks/", "_compact/"))]
    return {path: hashlib.sha256(tree.storage.read(path)).hexdigest() for path in paths}


class Ways:
    """A source and a target that another process can open too."""

    def __init__(self, source: str, target: str) -> None:
        self.roots = (source, target)
        self.source, self.target = (
            Tree(storage(source, "")),
            Tree(storage(target, "")),
        )

    def sync(self, **options: object) -> Result:
        result = sync(self.source, self.target, Options(workers=3, grace_s=0, **options))  # type: ignore[arg-type]
        assert not result.failed, result.failed
        return result


@pytest.fixture
def ways(new_root: Callable[[str], str]) -> Ways:
    """From folder to folder."""
    return Ways(new_root("folder"), new_root("folder"))


@pytest.fixture(
    params=[
        "folder folder", "folder bucket", "bucket folder", pytest.param("bucket bucket", marks=pytest.mark.long),
    ]
)  # fmt: skip
def every_way(request: pytest.FixtureRequest, new_root: Callable[[str], str]) -> Ways:
    return Ways(*map(new_root, request.param.split()))


class TestCopy:
    def test_the_target_is_the_source(self, every_way: Ways) -> None:
        fill(every_way.source, 30)
        fill(every_way.source, 20, chain=OTHER)
        first = every_way.sync()
        assert (first.chains, first.records, first.files, first.already) == (2, 5, 15, 0)
        assert contents(every_way.target) == contents(every_way.source)
        assert stored(every_way.target) == list(range(30))
        fill(every_way.source, 40)
        second = every_way.sync()
        assert (second.records, second.already) == (1, 5)
        assert contents(every_way.target) == contents(every_way.source)

    def test_between_stores_that_do_not_reach_each_other(self, s3_server: S3Server) -> None:
        """Two endpoints: everything comes through here."""
        proxy = FaultyStore(s3_server.endpoint)
        try:
            source, target = Tree(s3_server.storage("a b/ü")), Tree(s3_server.storage("p", proxy.endpoint))
            fill(source, 20)
            assert not sync(source, target).failed
            assert contents(target) == contents(source)
            assert proxy.seen["copy"] == 0
            assert proxy.seen["part"] == 6
        finally:
            proxy.close()

    def test_within_one_store_the_store_copies(self, s3_server: S3Server) -> None:
        proxy = FaultyStore(s3_server.endpoint)
        try:
            source, target = (Tree(s3_server.storage(name, proxy.endpoint)) for name in ("a b/ü", "p"))
            fill(source, 20)
            proxy.seen.clear()
            assert not sync(source, target).failed
            assert contents(target) == contents(source)
            assert (proxy.seen["copy"], proxy.seen["part"]) == (6, 0)
        finally:
            proxy.close()

    def test_a_target_can_be_written_on(self, every_way: Ways) -> None:
        """A copy is a tree like any other: its writer goes on where the records end."""
        fill(every_way.source, 20)
        every_way.sync()
        fill(every_way.target, 40)
        assert stored(every_way.target) == list(range(40))

    def test_a_dry_run_counts_and_writes_nothing(self, ways: Ways) -> None:
        fill(ways.source, 30)
        counted = ways.sync(dry_run=True)
        assert not list(ways.target.storage.walk(""))
        done = ways.sync()
        assert (counted.records, counted.files, counted.bytes) == (done.records, done.files, done.bytes)
        assert ways.sync(dry_run=True).records == 0

    def test_progress_ends_at_the_total(self, ways: Ways) -> None:
        fill(ways.source, 30)
        told: list[tuple[int, int]] = []
        sync(ways.source, ways.target, progress=lambda done, of: told.append((done, of)))
        size = sum(file.bytes for commit in commits(ways.source, ID) for file in commit.files)
        assert told[-1] == (size, size)
        assert [done for done, _ in told] == sorted(done for done, _ in told)

    def test_one_place_is_no_copy(self, new_root: Callable[[str], str], tmp_path: Path) -> None:
        """By whatever name: what is deleted after would be gone."""
        (tmp_path / "link").symlink_to(tmp_path)
        home = new_root("folder")
        bucket = Tree(storage(new_root("bucket"), ""))
        for one, two in (
            (Tree(storage(home, "")), Tree(storage(str(tmp_path / "link" / Path(home).name), ""))),
            (bucket, bucket),
        ):
            fill(one, 20)
            before = contents(one)
            with pytest.raises(StorageError, match="source and target"):
                sync(one, two, Options(delete_after=True, grace_s=0))
            assert contents(one) == before


class TestCutOff:
    @pytest.mark.parametrize("step", STEPS)
    def test_killed_at_every_step(self, ways: Ways, step: str) -> None:
        killed(ways, step, 5 if step.startswith(("file", "folders", "active")) else 2)

    @pytest.mark.parametrize("step", ["file.read", "file.sealed", "file.linked", "file.copied", "record.linked"])
    @pytest.mark.parametrize("kinds", ["folder bucket", "bucket folder"])
    def test_killed_between_disk_and_bucket(self, new_root: Callable[[str], str], kinds: str, step: str) -> None:
        killed(Ways(*map(new_root, kinds.split())), step, 5 if step.startswith("file") else 2)

    @pytest.mark.parametrize("step", ["file.sealed", "file.copied", "record.linked"])
    @pytest.mark.long
    def test_killed_between_buckets(self, new_root: Callable[[str], str], step: str) -> None:
        killed(Ways(new_root("bucket"), new_root("bucket")), step, 5 if step.startswith("file") else 2)

    def test_a_compaction_between_the_kill_and_the_next_run(self, ways: Ways) -> None:
        """Files of a batch whose record never came are not left beside the merged ones."""
        fill(ways.source, 30)
        assert child(ways, "file.copied", 8) == -9
        merge(ways.source, 0, 30)
        ways.sync()
        ways.sync()
        assert contents(ways.target) == contents(ways.source)

    @pytest.mark.timeout(30)
    def test_an_interrupt_ends_it_at_once(self, ways: Ways) -> None:
        """Though files wait for their turn, whose copies are then never begun."""

        class Interrupted(Exception):
            pass

        def interrupt(done: int, of: int) -> None:
            raise Interrupted

        fill(ways.source, 100)
        fill(ways.source, 100, chain=OTHER)
        with pytest.raises(Interrupted):
            sync(ways.source, ways.target, Options(workers=2), progress=interrupt)
        ways.sync()
        assert contents(ways.target) == contents(ways.source)

    def test_two_at_once(self, every_way: Ways) -> None:
        fill(every_way.source, 60)
        argv = [sys.executable, str(CHILD), *every_way.roots, "", "0"]
        both = [subprocess.Popen(argv) for _ in range(2)]
        assert [each.wait() for each in both] == [0, 0]
        assert contents(every_way.target) == contents(every_way.source)

    @pytest.mark.parametrize("seed", range(int(os.environ.get("S3_FAULT_PLANS", "2"))))
    def test_under_seeded_faults_of_the_target(self, s3_server: S3Server, tmp_path: Path, seed: int) -> None:
        proxy = FaultyStore(s3_server.endpoint)
        bucket = s3_server.bucket()
        source, true = Tree.local(tmp_path), Tree(S3Storage(bucket, "", s3_server.options()))
        shaky = Tree(S3Storage(bucket, "", s3_server.options(proxy.endpoint)))
        fill(source, 30)
        try:
            with impatient():
                proxy.plan = seeded(seed)
                for _ in range(30):
                    try:
                        result = sync(source, shaky)
                    except StorageError:
                        continue
                    else:
                        if not result.failed:
                            break
                    finally:
                        found = stored(true)
                        assert found == list(range(len(found))), "a reader saw part of a batch"
                proxy.plan = lambda _: None  # chance may have let no run through; the store is well again
                assert not sync(source, shaky).failed
            assert contents(true) == contents(source)
        finally:
            proxy.close()


class TestVerify:
    def test_a_damaged_file_is_named_and_not_copied(self, every_way: Ways) -> None:
        fill(every_way.source, 40)
        records = list(commits(every_way.source, ID))
        victim = records[2].files[1]
        whole = every_way.source.storage.read(victim.path)
        for bad in (whole[:-1] + bytes([whole[-1] ^ 1]), whole[:-1], whole + b"x"):
            replace(every_way.source, victim.path, bad)
            result = sync(every_way.source, every_way.target)
            (failed,) = result.failed
            assert every_way.source.storage.name(victim.path) in failed
            assert "damaged" in failed
            assert stored(every_way.target) == list(range(20))
            assert every_way.target.storage.size(victim.path) is None
        replace(every_way.source, victim.path, whole)
        every_way.sync()
        assert contents(every_way.target) == contents(every_way.source)

    def test_a_file_that_is_gone_is_named_and_other_chains_go_on(self, ways: Ways) -> None:
        fill(ways.source, 20)
        fill(ways.source, 20, chain=OTHER)
        victim = next(commits(ways.source, ID)).files[0]
        ways.source.storage.remove([victim.path])
        (failed,) = sync(ways.source, ways.target).failed
        assert ways.source.storage.name(victim.path) in failed
        assert stored(ways.target) == []
        assert stored(ways.target, OTHER) == list(range(20))

    def test_another_record_under_the_name_is_an_error_naming_both(self, every_way: Ways) -> None:
        fill(every_way.source, 20)
        fill(every_way.target, 10)  # the same offsets, by another writer
        before = contents(every_way.target)
        (failed,) = sync(every_way.source, every_way.target).failed
        for tree in (every_way.source, every_way.target):
            assert tree.storage.name(ID.record(0)) in failed
        assert contents(every_way.target) == before

    def test_records_that_overlap_are_an_error(self, new_root: Callable[[str], str]) -> None:
        for batch, end in ((15, 45), (5, 5)):
            ways = Ways(new_root("folder"), new_root("folder"))
            fill(ways.source, 40)
            ways.source.storage.remove([ID.record(0), ID.record(10)])
            fill(ways.target, end, batch=batch)
            (failed,) = sync(ways.source, ways.target).failed
            assert "records overlap" in failed if end > 20 else "ends at offset 5" in failed

    def test_a_foreign_file_in_the_way_is_named_and_kept(self, every_way: Ways) -> None:
        fill(every_way.source, 10)
        file = next(commits(every_way.source, ID)).files[0]
        every_way.target.storage.create(file.path, b"x" * file.bytes)
        (failed,) = sync(every_way.source, every_way.target).failed
        assert every_way.target.storage.name(file.path) in failed
        assert every_way.target.storage.read(file.path) == b"x" * file.bytes
        assert stored(every_way.target) == []


class TestMeanwhile:
    def test_a_writer_goes_on_at_the_source(self, every_way: Ways) -> None:
        fill(every_way.source, 20)
        once = iter([40])

        def step(name: str) -> None:
            if name == "record.linked":
                for end in once:
                    fill(every_way.source, end)

        result = sync(every_way.source, every_way.target, step=step)
        assert not result.failed
        assert stored(every_way.target) == list(range(20))
        every_way.sync()
        assert contents(every_way.target) == contents(every_way.source)

    def test_a_writer_has_made_its_record_and_not_yet_the_links(self, every_way: Ways) -> None:
        """Its files are read at their active names; an upload is completed."""

        class Cut(Exception):
            pass

        def cut(name: str) -> None:
            if name == "record.linked":
                raise Cut

        with pytest.raises(Cut), Chain.open(every_way.source, ID, first=0, step=cut) as chain:
            chain.segment("f0/x", parquet(SCHEMA)).write(pa.table({"offset": range(10)}, schema=SCHEMA))
            chain.commit(10)
        every_way.sync()
        assert stored(every_way.target) == list(range(10))

    def test_a_writer_at_the_target_keeps_us_out(self, ways: Ways, monkeypatch: pytest.MonkeyPatch) -> None:
        fill(ways.source, 20)
        monkeypatch.setattr("fluxforge.files.sync_chain.LOCK_TIMEOUT_S", 0.1)
        with Chain.open(ways.target, ID, first=0):
            (failed,) = sync(ways.source, ways.target).failed
            assert "another process holds" in failed
        ways.sync()

    def test_the_active_name_goes_between_the_look_and_the_reading(
        self, every_way: Ways, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fill(every_way.source, 10)
        source = every_way.source.storage
        file = next(commits(every_way.source, ID)).files[0]
        whole, looks = source.read(file.path), iter([True])
        source.remove([file.path])
        source.create(file.active, whole)
        real = source.size

        def size(path: str) -> int | None:
            found = real(path)
            if path == file.active and next(looks, False):
                source.remove([file.active])
                source.create(file.path, whole)
            return found

        monkeypatch.setattr(source, "size", size)
        every_way.sync()
        assert stored(every_way.target) == list(range(10))

    def test_the_targets_writer_was_cut_off_a_day_ago(
        self, new_root: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its record stands and its uploads are not complete: they are, before old uploads are cleared."""
        ways = Ways(new_root("folder"), new_root("bucket"))
        fill(ways.source, 20)
        first, files = next(commits(ways.source, ID)), []
        for file in first.files:
            draft = ways.target.storage.draft(file.active, file.path)
            draft.write(memoryview(ways.source.storage.read(file.path)))
            files.append(msgspec.structs.replace(file, upload=draft.seal()))
        record = encode(msgspec.structs.replace(first, files=files))
        ways.target.storage.create(ID.record(0), record)
        replace(ways.source, ID.record(0), record)
        monkeypatch.setattr("fluxforge.files.s3.CLEAR_AFTER_S", 0.0)
        ways.sync()
        assert contents(ways.target) == contents(ways.source)

    @pytest.mark.parametrize("at", [1, 2, 4, 7])
    def test_a_compaction_at_the_source(self, ways: Ways, at: int) -> None:
        fill(ways.source, 40)
        left = at

        def step(name: str) -> None:
            nonlocal left
            if name == "file.copied":
                left -= 1
                if left == 0:
                    merge(ways.source, 0, 30)
                    fill(ways.source, 50)

        result = sync(ways.source, ways.target, Options(workers=1, grace_s=0), step=step)
        assert not result.failed, result.failed
        assert stored(ways.target) == list(range(40)), "what has come since is for the next run"
        ways.sync()
        ways.sync()
        assert contents(ways.target) == contents(ways.source)


class TestMerged:
    @pytest.mark.parametrize("remove", [True, False])
    def test_to_a_target_without_the_old_ones(self, every_way: Ways, remove: bool) -> None:
        fill(every_way.source, 40)
        record = merge(every_way.source, 0, 30, remove=remove)
        every_way.sync()
        assert stored(every_way.target) == list(range(40))
        assert [c.start for c in commits(every_way.target, ID)] == [0, 30]
        assert all(every_way.target.storage.size(file.path) == file.bytes for file in record.files)

    def test_over_the_old_ones(self, every_way: Ways) -> None:
        """Readers who list files never see both; the old ones go when their readers had time."""
        fill(every_way.source, 40)
        every_way.sync()
        old = [file.path for commit in commits(every_way.target, ID) for file in commit.files if commit.start < 30]
        merge(every_way.source, 0, 30)
        result = sync(every_way.source, every_way.target, Options(grace_s=3600))
        assert not result.failed
        assert stored(every_way.target) == list(range(40))
        assert set(old) <= set(every_way.target.storage.walk("ready")), "readers that listed before still read them"
        assert listed(every_way.target) == list(range(40)), "a reader of the folders saw rows twice"
        for _ in range(2):
            every_way.sync()
            assert stored(every_way.target) == listed(every_way.target) == list(range(40))
        assert contents(every_way.target) == contents(every_way.source)

    def test_a_target_that_was_merged_itself_has_the_batches(self, ways: Ways) -> None:
        fill(ways.source, 40)
        ways.sync()
        merge(ways.target, 0, 30)
        before = contents(ways.target)
        assert ways.sync().already == 4
        assert contents(ways.target) == before
        merge(ways.source, 0, 40)
        ways.sync()
        ways.sync()
        assert contents(ways.target) == contents(ways.source)

    def test_merges_that_cross_are_an_error(self, ways: Ways) -> None:
        fill(ways.source, 40)
        ways.sync()
        merge(ways.target, 0, 20)
        merge(ways.source, 10, 40)
        before = contents(ways.target)
        (failed,) = sync(ways.source, ways.target).failed
        assert "records overlap" in failed
        assert contents(ways.target) == before


class TestPattern:
    def test_what_is_left_out_is_told_and_no_loss(self, every_way: Ways) -> None:
        fill(every_way.source, 30)
        result = every_way.sync(patterns=("f0", "*1/x"))
        assert (result.records, result.files, result.left_out) == (3, 6, 3)
        found = list(commits(every_way.target, ID))
        whole = list(commits(every_way.source, ID))
        assert [(c.start, c.next_offset) for c in found] == [(0, 10), (10, 20), (20, 30)]
        for mine, theirs in zip(found, whole, strict=True):
            told = mine.meta["left_out"]
            assert mine.rows + told["rows"] == theirs.rows
            assert (told["files"], told["patterns"]) == (1, ["*1/x", "f0"])
            assert {file.path.split("/")[1] for file in mine.files} == {"f0", "f1"}
        assert stored(every_way.target) == [o for o in range(30) if (o % 10) % 3 < 2]
        assert every_way.sync(patterns=("f0", "*1/x")).already == 3

    def test_another_selection_needs_another_place(self, ways: Ways) -> None:
        fill(ways.source, 30)
        ways.sync(patterns=("f0",))
        for patterns in ((), ("f1",)):
            (failed,) = sync(ways.source, ways.target, Options(patterns=patterns)).failed
            assert "with another --pattern" in failed

    def test_a_part_of_a_part_tells_both(self, ways: Ways, new_root: Callable[[str], str]) -> None:
        fill(ways.source, 10)
        ways.sync(patterns=("f0", "f1"))
        third = Tree(storage(new_root("folder"), ""))
        assert not sync(ways.target, third, Options(patterns=("f1", "f2"))).failed
        (commit,) = commits(third, ID)
        assert commit.meta["left_out"]["files"] == 2
        assert commit.rows + commit.meta["left_out"]["rows"] == 10


class TestDelete:
    def test_what_is_right_at_the_target_goes_but_the_newest(self, every_way: Ways) -> None:
        fill(every_way.source, 40)
        result = every_way.sync(delete_after=True)
        assert (result.records, result.deleted) == (4, 3)
        assert [c.start for c in commits(every_way.source, ID)] == [30]
        assert stored(every_way.target) == list(range(40))
        assert len([path for path in every_way.source.storage.walk("ready") if path.endswith(".parquet")]) == 3
        fill(every_way.source, 60)
        assert every_way.sync(delete_after=True).deleted == 2
        assert stored(every_way.target) == list(range(60))
        assert not list(every_way.target.storage.walk("_retained")), "the target still has what the note says is gone"

    def test_nothing_goes_that_is_not_right_there(self, every_way: Ways) -> None:
        fill(every_way.source, 40)
        every_way.sync()
        victim = next(commits(every_way.target, ID)).files[0]
        whole = every_way.target.storage.read(victim.path)
        for bad in (whole[:-1] + bytes([whole[-1] ^ 1]), None):
            replace(every_way.target, victim.path, bad)
            (failed,) = sync(every_way.source, every_way.target, Options(delete_after=True, grace_s=0)).failed
            assert every_way.target.storage.name(victim.path) in failed
            assert stored(every_way.source) == list(range(40))

    def test_a_merged_target_stands_for_what_it_merged(self, ways: Ways) -> None:
        fill(ways.source, 40)
        ways.sync()
        merge(ways.target, 0, 20)
        assert ways.sync(delete_after=True).deleted == 3
        assert stored(ways.target) == list(range(40))

    def test_not_with_patterns(self, ways: Ways) -> None:
        with pytest.raises(ValueError, match="no copy"):
            sync(ways.source, ways.target, Options(patterns=("f0",), delete_after=True))


class TestRetained:
    def test_notes_go_along_where_the_target_lacks_it_too(self, every_way: Ways) -> None:
        fill(every_way.source, 40)
        drop(every_way.source, ID, 20, note={"why": "test"}, grace_s=0)
        every_way.sync()
        assert stored(every_way.target) == list(range(20, 40))
        assert contents(every_way.target) == contents(every_way.source)
        assert list(every_way.target.storage.walk("_retained"))


class TestGap:
    def test_one_on_record_at_the_source_is_copied(self, every_way: Ways) -> None:
        fill(every_way.source, 20)
        with Chain.open(every_way.source, ID, first=40, on_gap="record"):
            pass
        fill(every_way.source, 60)
        counted = every_way.sync(dry_run=True)
        done = every_way.sync()
        assert (done.records, done.gap_offsets) == (counted.records, counted.gap_offsets) == (5, 20)
        assert contents(every_way.target) == contents(every_way.source)
        assert [c.gap for c in commits(every_way.target, ID)] == [None, None, Gap(20, 40), None, None]

    def test_what_was_dropped_before_it_was_copied_stops_it(self, every_way: Ways) -> None:
        hole(every_way)
        before = contents(every_way.target)
        for dry_run in (True, False):
            (failed,) = sync(every_way.source, every_way.target, Options(dry_run=dry_run)).failed
            assert "ends at offset 20" in failed
            assert "begins at 40" in failed
            assert "--on-gap record" in failed
        assert contents(every_way.target) == before

    def test_or_goes_on_record(self, every_way: Ways) -> None:
        hole(every_way)
        fill(every_way.source, 10, chain=OTHER)
        counted = every_way.sync(on_gap="record", dry_run=True)
        done = every_way.sync(on_gap="record")
        assert (done.records, done.files, done.gap_offsets) == (4, 9, 20)
        assert (counted.records, counted.files, counted.gap_offsets) == (4, 9, 20)
        found = list(commits(every_way.target, ID))
        assert [(c.start, c.next_offset, c.gap) for c in found[2:]] == [
            (20, 40, Gap(20, 40)), (40, 50, None), (50, 60, None),
        ]  # fmt: skip
        whole = [*range(20), *range(40, 60)]
        assert stored(every_way.target) == whole
        assert not list(every_way.target.storage.walk("_retained")), "the target still has what came before the gap"
        assert every_way.sync().records == 0, "a gap on record is none any more"
        fill(every_way.source, 80)
        merge(every_way.source, 40, 60)
        again = every_way.sync(on_gap="record", delete_after=True)
        assert (again.records, again.gap_offsets, again.deleted) == (3, 0, 2)
        assert stored(every_way.target) == [*whole, *range(60, 80)]

    def test_cut_off_after_its_record(self, every_way: Ways) -> None:
        """The next run needs no leave: the target's end is the source's beginning."""

        class Cut(Exception):
            pass

        def cut(name: str) -> None:
            if name == "record.linked":
                raise Cut

        hole(every_way)
        with pytest.raises(Cut):
            sync(every_way.source, every_way.target, Options(on_gap="record"), step=cut)
        assert [c.gap for c in commits(every_way.target, ID)] == [None, None, Gap(20, 40)]
        every_way.sync()
        assert stored(every_way.target) == [*range(20), *range(40, 60)]

    @pytest.mark.parametrize("on_gap", ["stop", "record"])
    def test_the_source_drops_what_is_being_copied(self, ways: Ways, on_gap: str) -> None:
        fill(ways.source, 20)
        ways.sync()
        fill(ways.source, 60)
        once = iter([40])

        def step(name: str) -> None:
            if name == "file.read":
                for before in once:
                    drop(ways.source, ID, before, note={"why": "test"}, grace_s=0)

        given = Options(workers=1, grace_s=0, on_gap=on_gap)  # type: ignore[arg-type]
        failed = sync(ways.source, ways.target, given, step=step).failed
        if on_gap == "stop":
            assert "begins at 40" in failed[0]
            assert stored(ways.target) == list(range(20))
        else:
            assert not failed
            assert stored(ways.target) == [*range(20), *range(40, 60)]

    def test_another_records_it_first(
        self, root: str, new_root: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """After the plan was made, and before the lock was held: both write the same."""
        ways = Ways(new_root("folder"), root)
        hole(ways)
        real, other = ways.target.storage.lock, iter([lambda: ways.sync(on_gap="record")])

        def lock(path: str, timeout: float) -> Lock:
            for theirs in other:
                assert theirs().gap_offsets == 20
            return real(path, timeout)

        monkeypatch.setattr(ways.target.storage, "lock", lock)
        ways.sync(on_gap="record")
        assert stored(ways.target) == [*range(20), *range(40, 60)]


def hole(ways: Ways) -> None:
    """The target has [0, 20), and the source begins at 40."""
    fill(ways.source, 20)
    ways.sync()
    fill(ways.source, 60)
    drop(ways.source, ID, 40, note={"why": "test"}, grace_s=0)


def listed(tree: Tree) -> list[int]:
    """Every offset that a reader of the folders finds."""
    found: list[int] = []
    for path in tree.storage.walk("ready"):
        with tree.storage.open(path) as opened:
            found += pq.read_table(opened)["offset"].to_pylist()
    return sorted(found)


def replace(tree: Tree, path: str, data: bytes | None) -> None:
    tree.storage.remove([path])
    if data is not None:
        tree.storage.create(path, data)


def child(ways: Ways, step: str, times: int) -> int:
    argv = [sys.executable, str(CHILD), *ways.roots, step, str(times)]
    return subprocess.run(argv, check=False).returncode


def killed(ways: Ways, step: str, times: int) -> None:
    fill(ways.source, 30)
    assert child(ways, step, times) == -9
    found = stored(ways.target)
    assert found == list(range(len(found))), "a reader saw part of a batch"
    assert found != list(range(30))
    assert child(ways, "", 0) == 0
    assert contents(ways.target) == contents(ways.source)
