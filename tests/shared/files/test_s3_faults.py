"""Behind a store that fails in every way, files are whole, there once, and no error is taken for success."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fluxforge.errors import StorageError, StorageUnavailable
from fluxforge.files import Chain, ChainId, CommittedFile, Tree, commits, locate, parquet
from fluxforge.files.s3 import S3Options, S3Storage
from fluxforge.files.s3_connection import Connection
from fluxforge.files.segment import Segment
from s3_faults import FAULTS, KINDS, FaultyStore, each, impatient, once, seeded
from s3_server import KEY, SECRET, S3Server

ID = ChainId("log-1", "market.raw", 0)
SCHEMA = pa.schema([("offset", pa.int64()), ("noise", pa.binary())])
END, BATCH = 60, 20
PLANS = int(os.environ.get("S3_FAULT_PLANS", "4"))
PERSISTENT = 100
"""Faults that outlast every retry."""


@pytest.fixture(scope="module")
def proxy(s3_server: S3Server) -> Iterator[FaultyStore]:
    faulty = FaultyStore(s3_server.endpoint)
    yield faulty
    faulty.close()


@pytest.fixture
def faulty(proxy: FaultyStore) -> Iterator[FaultyStore]:
    """The proxy, without faults at first; its clients do not wait between attempts."""
    proxy.plan = lambda _: None
    proxy.given.clear()
    with impatient():
        yield proxy
    proxy.plan = lambda _: None


class Pair:
    """One tree through the proxy, and as it really is."""

    def __init__(self, server: S3Server, faulty: FaultyStore, sound: Connection) -> None:
        bucket = server.bucket()
        self.shaky = Tree(S3Storage(bucket, "a b/ü", server.options(faulty.endpoint)))
        true = S3Storage(bucket, "a b/ü", server.options())
        true.connection = sound  # one for all tests: to make a client takes longer than most of them
        self.true = Tree(true)

    def stored(self) -> list[int]:
        return sorted(
            offset
            for commit in commits(self.true, ID)
            for file in commit.files
            for offset in pq.read_table(locate(self.true, file), filesystem=self.true.storage.filesystem())["offset"]
            .to_numpy()
            .tolist()
        )

    def end(self) -> int:
        return max((commit.next_offset for commit in commits(self.true, ID)), default=0)


@pytest.fixture(scope="module")
def sound(s3_server: S3Server) -> Connection:
    return Connection(s3_server.options())


@pytest.fixture
def pair(s3_server: S3Server, faulty: FaultyStore, sound: Connection) -> Pair:
    return Pair(s3_server, faulty, sound)


def write(chain: Chain, start: int, end: int) -> None:
    for remainder in range(2):
        offsets = [offset for offset in range(start, end) if offset % 2 == remainder]
        table = pa.table({"offset": offsets, "noise": [b"-"] * len(offsets)}, schema=SCHEMA)
        chain.segment(f"half={remainder}", parquet(SCHEMA)).write(table)


def live(pair: Pair) -> None:
    """Every call of the storage once: a batch thrown away, one committed and opened again, a staged file."""
    with Chain.open(pair.shaky, ID, first=0) as chain, pytest.MonkeyPatch.context() as patch:
        patch.setattr("fluxforge.files.s3_draft.PART_BYTES", 65_536)
        noise = pa.table({"offset": [1], "noise": [os.urandom(100_000)]}, schema=SCHEMA)
        chain.segment("thrown", parquet(SCHEMA), group_bytes=1).write(noise)
        chain.discard()
        if chain.next_offset == 0:
            write(chain, 0, BATCH)
            chain.commit(BATCH)
    with Chain.open(pair.shaky, ID, first=0) as chain:
        assert chain.next_offset == BATCH
    storage = pair.shaky.storage
    staged = Segment(storage, "active/staged", "ready/staged.parquet", parquet(SCHEMA), staged=True)
    staged.write(pa.table({"offset": [7], "noise": [b""]}, schema=SCHEMA))
    staged.finish()
    file = staged.seal()
    assert storage.size("active/staged") == file.bytes
    storage.publish([file])
    storage.unstage([file])
    storage.probe()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_of_each_request(pair: Pair, faulty: FaultyStore, kind: str, fault: str) -> None:
    faulty.plan = once(kind, fault)
    try:
        live(pair)
    except (StorageError, FileExistsError, FileNotFoundError):
        # A condition that failed without having been asked for, and an answer whose head is whole but for its end.
        assert fault in ("412", "cut")
        live(pair)
    assert faulty.given == {(kind, fault): 1}
    assert pair.stored() == list(range(BATCH))
    assert pair.true.storage.size("ready/staged.parquet")
    assert pair.true.storage.size("active/staged") is None


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "abort"])
@pytest.mark.parametrize("fault", ["409", "503", "lost"])
def test_a_store_that_stays_away_is_an_error_and_loses_nothing(
    pair: Pair, faulty: FaultyStore, kind: str, fault: str
) -> None:
    faulty.plan = once(kind, fault, PERSISTENT)
    with pytest.raises(StorageUnavailable):
        live(pair)
    faulty.plan = lambda _: None
    live(pair)
    assert pair.stored() == list(range(BATCH))


def test_a_batch_is_given_up_though_the_store_does_not_answer(pair: Pair, faulty: FaultyStore) -> None:
    """An upload that cannot be aborted is no reason to stop: it is cleared when it is a day old."""
    faulty.plan = once("abort", "500", PERSISTENT)
    live(pair)
    assert pair.stored() == list(range(BATCH))
    assert len(pair.true.storage.leftovers(pair.true)) == 1


@pytest.mark.parametrize("seed", range(PLANS))
def test_every_row_once_under_seeded_faults(pair: Pair, faulty: FaultyStore, seed: int) -> None:
    faulty.plan = seeded(seed)
    attempts = 0
    while pair.end() < END:
        attempts += 1
        assert attempts < 200, "no attempt gets through"
        try:
            with Chain.open(pair.shaky, ID, first=0) as chain:
                while chain.next_offset < END:
                    end = chain.next_offset + BATCH
                    write(chain, chain.next_offset, end)
                    chain.commit(end)
                    assert pair.end() >= end, "a commit that failed was taken for one that succeeded"
        except StorageError:
            continue
    faulty.plan = lambda _: None
    Chain.open(pair.shaky, ID, first=0).close()
    assert pair.stored() == list(range(END))
    assert [(c.start, c.next_offset) for c in commits(pair.true, ID)] == [(0, 20), (20, 40), (40, 60)]


class TestAnswers:
    def test_a_record_of_another_writer_is_not_taken_for_ours_after_a_lost_answer(
        self, pair: Pair, faulty: FaultyStore
    ) -> None:
        pair.true.storage.create("_commits/r.json", b"theirs")
        for fault in ("lost", "409", "drop", "500"):
            faulty.plan = once("put", fault)
            with pytest.raises(FileExistsError):
                pair.shaky.storage.create("_commits/r.json", b"ours")
        assert pair.true.storage.read("_commits/r.json") == b"theirs"

    def test_an_upload_that_another_has_cleared_away_is_no_bare_error(self, pair: Pair) -> None:
        chain = Chain.open(pair.shaky, ID, first=0)
        segment = chain.segment("a", parquet(SCHEMA), group_bytes=1)
        noise = pa.table({"offset": [1], "noise": [os.urandom(9_000_000)]}, schema=SCHEMA)
        segment.write(noise)
        storage = pair.true.storage
        assert isinstance(storage, S3Storage)
        for leftover in storage.leftovers(pair.true):
            storage.abort(leftover.place[0].removeprefix("a b/ü/"), leftover.place[1])
        with pytest.raises(StorageUnavailable, match="it is not there"):
            segment.write(noise)
        chain.close()

    def test_a_foreign_object_under_a_staged_files_name_is_kept(self, pair: Pair) -> None:
        storage = pair.true.storage
        storage.create("ready/x", b"theirs, not ours")
        storage.create("active/x", b"ours")
        file = CommittedFile(path="ready/x", active="active/x", rows=1, bytes=4, sha256="")
        with pytest.raises(StorageError, match="is not the file its commit record describes"):
            storage.publish([file])
        assert storage.read("ready/x") == b"theirs, not ours"

    def test_completing_twice_at_once_is_one_file(self, pair: Pair, faulty: FaultyStore) -> None:
        """A reader completes what the writer is completing: one of them finds the upload gone."""
        draft = pair.shaky.storage.draft("active/x", "ready/x")
        draft.write(memoryview(b"1234"))
        file = CommittedFile(path="ready/x", active="active/x", rows=1, bytes=4, sha256="", upload=draft.seal())
        faulty.plan = once("complete", "409")
        pair.shaky.storage.publish([file])
        pair.shaky.storage.publish([file])
        assert pair.true.storage.read("ready/x") == b"1234"

    @pytest.mark.parametrize("retried", ["gone", "412"])
    def test_what_was_completed_and_not_answered_stands(self, pair: Pair, faulty: FaultyStore, retried: str) -> None:
        """The retry finds no upload, or an object: stores differ."""
        for staged, name in ((True, "active/x"), (False, "ready/x")):
            draft = pair.shaky.storage.draft("active/x", "ready/x", staged=staged)
            draft.write(memoryview(b"1234"))
            faulty.plan = each("complete", "lost", retried)
            upload = draft.seal()
            file = CommittedFile(path="ready/x", active="", rows=1, bytes=4, sha256="", upload=upload)
            if not staged:
                pair.shaky.storage.publish([file])
            assert pair.true.storage.read(name) == b"1234"

    def test_an_upload_that_is_gone_is_no_file(self, pair: Pair, faulty: FaultyStore) -> None:
        for staged in (True, False):
            draft = pair.shaky.storage.draft("active/x", "ready/x", staged=staged)
            draft.write(memoryview(b"1234"))
            faulty.plan = once("complete", "gone")
            with pytest.raises(StorageError, match="gone"):
                pair.shaky.storage.publish(
                    [CommittedFile(path="ready/x", active="", rows=1, bytes=4, sha256="", upload=draft.seal())]
                )

    def test_half_an_etag_is_not_committed(self, pair: Pair, faulty: FaultyStore) -> None:
        """The HTTP client takes a head that was cut off for a whole one."""
        draft = pair.shaky.storage.draft("active/x", "ready/x")
        draft.write(memoryview(b"1234"))
        faulty.plan = once("part", "torn")
        with pytest.raises(StorageUnavailable, match="cut off"):
            draft.seal()

    def test_a_store_that_contradicts_itself_is_asked_again_later(self, pair: Pair, faulty: FaultyStore) -> None:
        draft = pair.shaky.storage.draft("active/x", "ready/x")
        draft.write(memoryview(b"1234"))
        file = CommittedFile(path="ready/x", active="active/x", rows=1, bytes=4, sha256="", upload=draft.seal())
        faulty.plan = once("complete", "412")
        with pytest.raises(StorageUnavailable):
            pair.shaky.storage.publish([file])
        pair.shaky.storage.publish([file])
        assert pair.true.storage.read("ready/x") == b"1234"

    def test_what_is_said_to_be_there_and_is_not_is_made_later(self, pair: Pair, faulty: FaultyStore) -> None:
        faulty.plan = once("put", "412")
        with pytest.raises(StorageUnavailable, match="it is there, and that it is not"):
            pair.shaky.storage.create("a", b"1234")
        pair.shaky.storage.create("a", b"1234")
        assert pair.true.storage.read("a") == b"1234"

    def test_new_keys_are_found_when_the_old_have_expired(
        self, s3_server: S3Server, faulty: FaultyStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        keys = tmp_path / "credentials"
        form = "[default]\naws_access_key_id={}\naws_secret_access_key={}\n"
        keys.write_text(form.format("old", "old") + "aws_session_token=old\n")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(keys))
        storage = S3Storage(s3_server.bucket(), "", S3Options(endpoint_url=faulty.endpoint, region="us-east-1"))
        faulty.plan = once("put", "expired")
        with pytest.raises(StorageUnavailable, match="give new keys"):
            storage.create("a", b"1")
        keys.write_text(form.format(KEY, SECRET))
        storage.create("a", b"1")
        with storage.open("a") as opened:
            assert opened.read() == b"1"

    def test_parts_are_of_one_size(self, pair: Pair) -> None:
        """As some stores ask; and the last one is not empty."""
        storage = pair.true.storage
        assert isinstance(storage, S3Storage)
        for size in (0, 1, 8 << 20, (8 << 20) + 1, 20 << 20):
            draft = storage.draft(f"active/{size}", f"ready/{size}")
            data = os.urandom(size)
            for at in range(0, size, 3_000_000):
                draft.write(memoryview(data)[at : at + 3_000_000])
            upload = draft.seal()
            assert upload is not None
            listed = storage.client.list_parts(
                Bucket=storage.bucket, Key=storage.key(f"ready/{size}"), UploadId=upload.id
            )
            sizes = [part["Size"] for part in listed["Parts"]]
            assert sizes[:-1] == [8 << 20] * (len(sizes) - 1)
            assert sum(sizes) == size
            assert len(sizes) == 1 or sizes[-1] > 0
            storage.publish(
                [CommittedFile(path=f"ready/{size}", active="", rows=0, bytes=size, sha256="", upload=upload)]
            )
            assert storage.read(f"ready/{size}") == data

    def test_listings_go_beyond_one_page(self, pair: Pair) -> None:
        storage = pair.true.storage
        many = [f"x/{number:04d}.json" for number in range(1005)]
        for path in many:
            storage.create(path, b"")
        storage.create("x/below/ü &+%=?#'.json", b"odd")
        storage.create("xyz.json", b"beside")
        assert isinstance(storage, S3Storage)
        storage.client.put_object(Bucket=storage.bucket, Key=storage.key("x/below/") + "/", Body=b"")  # as consoles do
        assert storage.names("x") == sorted([*(path[2:] for path in many), "below"])
        assert list(storage.walk("x")) == sorted([*many, "x/below/ü &+%=?#'.json"])
        assert storage.read("x/below/ü &+%=?#'.json") == b"odd"
        with storage.open("x/below/ü &+%=?#'.json") as opened:
            assert opened.read() == b"odd"
        storage.remove([*many, "x/below/ü &+%=?#'.json", "x/was never there"])
        assert list(storage.walk("x")) == []
        assert list(storage.walk("")) == ["xyz.json"]

    def test_what_is_busy_key_by_key_is_removed_at_last(self, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
        storage = pair.true.storage
        assert isinstance(storage, S3Storage)
        for name in ("a", "b", "c"):
            storage.create(name, b"")
        answers: list[Callable[[list[str]], list[str]]] = [lambda keys: keys[:2], lambda keys: keys[:1]]
        asked: list[int] = []

        def refuse(params: dict[str, object], context: dict[str, object], **_: object) -> None:
            keys = [each["Key"] for each in params["Delete"]["Objects"]]  # type: ignore[index]
            context["busy"] = answers.pop(0)(keys) if answers else []
            kept = [{"Key": key} for key in keys if key not in context["busy"]]  # type: ignore[operator]
            params["Delete"]["Objects"] = kept  # type: ignore[index]
            asked.append(len(keys))

        def tell(parsed: dict[str, object], context: dict[str, object], **_: object) -> None:
            parsed["Errors"] = [{"Key": key, "Code": "SlowDown"} for key in context["busy"]]  # type: ignore[attr-defined]

        storage.client.meta.events.register("provide-client-params.s3.DeleteObjects", refuse)
        storage.client.meta.events.register("after-call.s3.DeleteObjects", tell)
        storage.remove(["a", "b", "c"])
        assert asked == [3, 2, 1]
        assert storage.names("") == []

    def test_a_conflict_that_stays_is_unavailable_and_not_bare(self, pair: Pair, faulty: FaultyStore) -> None:
        faulty.plan = once("put", "409", PERSISTENT)
        with pytest.raises(StorageUnavailable):
            pair.shaky.storage.create("r.json", b"1")
        chain = Chain.open(pair.shaky, ID, first=0)
        write(chain, 0, 2)
        with pytest.raises(StorageUnavailable):
            chain.commit(2)
