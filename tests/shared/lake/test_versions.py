"""Versions of a lake: told apart, switched between while others read, looked after, copied and dropped."""

from __future__ import annotations

import asyncio
import json
import shlex
import threading
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from fluxforge import lake, rows
from fluxforge.client import frame, stream
from fluxforge.errors import ConfigError, StorageError, WriterConflict
from fluxforge.files import ChainId
from fluxforge.kernels.config import BarConfig, FeatureConfig
from fluxforge.lake import LakeWriter, lake_tree, scan_polars, versions
from fluxforge.lake.diff import diff
from fluxforge.lake.layout import LIVE
from fluxforge.lake.versions import Complete, Manifest
from fluxforge.settings import Settings
from fluxforge.storage import Root, location
from fluxforge.validate import validate
from fluxforge_cli import views
from fluxforge_cli.main import app
from stored_data import DAY, FIRST, row

NewRoot = Callable[[str], str]
A, B = "aaaaaaaaaaaa", "bbbbbbbbbbbb"
SYMBOL = {"exchange": "binance", "symbol": "BTC/USDT", "source": "ccxt"}


def make(root: Root, version: str, close: float, *, begun: int = 1, days: int = 2, complete: bool = True) -> None:
    """A lake of bars and tickers that all tell `close`."""
    tree = lake_tree(root, version)
    if version != LIVE:
        versions.begin(tree, manifest(version, begun))
    for table, columns in (
        (rows.BARS, {"duration": 60, "close": close, "bar_type": "time"}), (rows.TICKER, {"bid": close})
    ):  # fmt: skip
        chain = ChainId(f"log-{version}", f"market.{table.name}", 0)
        with LakeWriter.open(tree, table, chain, first=0, config_hash=version) as writer:
            for at in range(days * 4):
                time = FIRST + at * DAY // 4
                writer.add([row(table, time, at, "BTC/USDT", capture_ts=time, **columns)])
                if at % 2:
                    writer.commit(at + 1)
    if version != LIVE and complete:
        versions.finish(tree, Complete(at=begun + 1, rows={"bars": days * 4}))


def manifest(version: str, begun: int = 1) -> Manifest:
    return Manifest(
        version=version, run=f"run-{version[:1]}", bronze="data", selection={}, features="f", bars="b", kernel=2,
        options={}, begun=begun,
    )  # fmt: skip


def closes(root: Root, version: str | None = None) -> set[float]:
    return set(lake.scan(root, "bars", version=version).to_table(columns=["close"])["close"].to_pylist())


def run(root: str, *words: str) -> Result:
    return CliRunner().invoke(app, [*words, "--data-dir", root])


def make_three(root: str) -> str:
    """The live lake, a version that is complete, and one that is not, older than it."""
    make(root, LIVE, 0.0)
    make(root, A, 1.0, begun=5)
    make(root, B, 2.0, begun=3, complete=False)
    return root


@pytest.fixture
def three(new_root: NewRoot) -> str:
    return make_three(new_root("folder"))


@pytest.fixture
def three_anywhere(root: str) -> str:
    return make_three(root)


def test_readers_take_the_live_lake_until_told_otherwise(three_anywhere: str) -> None:
    three = three_anywhere
    assert versions.current(three) == LIVE and closes(three) == {0.0}
    assert versions.use(three, A) == LIVE
    assert closes(three) == {1.0} and closes(three, LIVE) == {0.0} and closes(f"{three}@live") == {0.0}
    assert scan_polars(three, "bars").collect()["close"].unique().to_list() == [1.0]
    assert scan_polars(three, "bars", version=B).collect()["close"].unique().to_list() == [2.0]
    assert closes(f"{three}@{B}") == {2.0}, "named, one that is not complete can be read"
    assert versions.use(three, A) == A, "again is no change"
    assert versions.use(three, LIVE) == A and closes(three) == {0.0}


def test_the_client_takes_it_too(three: str) -> None:
    versions.use(three, A)
    settings = Settings()

    async def told(source: str = "lake", **more: Any) -> set[float]:
        found = stream("bars", source=source, data=three, settings=settings, **more)
        return {bar["close"] async for bar in found}

    assert asyncio.run(told()) == {1.0} and asyncio.run(told(version=B)) == {2.0}
    assert set(frame("bars", source="lake", data=three, settings=settings, version="live")["close"]) == {0.0}
    for source in ("live", "topic"):
        with pytest.raises(ConfigError, match="version"):
            asyncio.run(told(source, version=B))


def test_a_version_that_is_not_there_or_not_complete(three: str) -> None:
    for ask in (lambda: closes(three, "0" * 12), lambda: versions.use(three, "0" * 12), lambda: versions.use(three, B)):
        with pytest.raises(StorageError, match=r"does not exist|not complete"):
            ask()
    assert versions.current(three) == LIVE
    versions.finish(lake_tree(three, B), Complete(at=9, rows={}))
    versions.use(three, B)
    assert closes(three) == {2.0}


def test_a_switch_meanwhile_is_a_conflict(three_anywhere: str, monkeypatch: pytest.MonkeyPatch) -> None:
    three = three_anywhere
    storage = type(lake_tree(three).storage)
    create = storage.create

    others = [A]

    def late(self: Any, path: str, *rest: Any) -> None:
        if others:
            versions.use(three, others.pop())
        create(self, path, *rest)

    versions.finish(lake_tree(three, B), Complete(at=9, rows={}))
    monkeypatch.setattr(storage, "create", late)
    with pytest.raises(WriterConflict, match=A):
        versions.use(three, B)
    assert versions.current(three) == A


@pytest.mark.parametrize("root", ["folder", pytest.param("bucket", marks=pytest.mark.long)], indirect=True)
def test_while_it_is_switched_a_reader_sees_one_version_whole(root: str) -> None:
    make(root, A, 1.0)
    make(root, B, 2.0)
    versions.use(root, A)
    stop = threading.Event()

    def switch() -> None:
        while not stop.is_set():
            for version in (B, A):
                versions.use(root, version)

    switching = threading.Thread(target=switch)
    switching.start()
    seen: list[float] = []
    try:
        while len(seen) < 300 and (len(seen) < 10 or len(set(seen)) < 2):
            found = lake.scan(root, "bars").to_table(columns=["close"])["close"].to_pylist()
            assert len(found) == 8 and len(set(found)) == 1
            seen.append(found[0])
    finally:
        stop.set()
        switching.join()
    assert set(seen) == {1.0, 2.0}, "it was switched while they read"


def test_a_reader_asks_once(three: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Switched after each look at which version is current: whoever looked twice would see two."""
    current, looks = versions.current, []

    def flipping(root: Root) -> str:
        found = current(root)
        storage = lake_tree(root, LIVE).storage
        number = 1 + len(storage.names("_current"))
        other = json.dumps({"version": A if found == LIVE else LIVE, "at": 0})
        storage.create(f"_current/{number:08d}.json", other.encode())
        looks.append(found)
        return found

    monkeypatch.setattr(versions, "current", flipping)
    settings = Settings()
    assert closes(three) == {0.0}
    assert scan_polars(three, "bars").collect()["close"].unique().to_list() == [1.0]
    assert set(frame("bars", source="lake", data=three, settings=settings)["close"]) == {0.0}
    assert all(day.same for day in diff(three, f"{three}@{A}"))
    assert looks == [LIVE, A, LIVE, A]


def test_a_statement_over_two_tables_reads_one_version(three: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scan, asked = lake.scan, []

    def switching(*words: Any, **more: Any) -> Any:
        found = scan(*words, **more)
        asked.append(versions.use(three, A if not asked else LIVE))
        return found

    monkeypatch.setattr(views.lake, "scan", switching)
    done = run(three, "query", "SELECT DISTINCT close, bid FROM bars JOIN ticker USING (timestamp)", "--format", "csv")
    assert done.stdout.split() == ["close,bid", "0.0,0.0"], done.exception
    assert asked == [LIVE, A]


def test_listed(three: str) -> None:
    live, older, newer = versions.versions(three)
    assert (live.name, older.name, newer.name) == (LIVE, B, A)
    assert live.manifest is None and live.current and older.complete is None
    assert newer.manifest == manifest(A, 5) and newer.complete == Complete(at=6, rows={"bars": 8})
    assert newer.rows == {"bars": 8, "ticker": 8}
    assert (newer.first_ts, newer.last_ts) == (FIRST, FIRST + 7 * DAY // 4)
    told = json.loads(run(three, "lake", "versions", "--json").stdout)
    assert [one["name"] for one in told] == [LIVE, B, A] and told[2]["manifest"]["run"] == "run-a"
    text = run(three, "lake", "versions").stdout
    assert "not complete" in text and "8 bars, 8 ticker" in text and "2022-01-08" in text


def test_switched_and_dropped_by_command(three_anywhere: str) -> None:
    three = three_anywhere
    done = run(three, "lake", "use", A)
    assert done.exit_code == 0 and f"take {A}; before, live" in done.stdout
    assert json.loads(run(three, "lake", "use", LIVE, "--json").stdout) == {"version": LIVE, "before": A}
    run(three, "lake", "use", A)
    for version, told in ((A, "readers take"), (LIVE, "live lake")):
        refused = run(three, "lake", "drop", version)
        assert isinstance(refused.exception, ConfigError) and told in str(refused.exception)
    assert "removed" in run(three, "lake", "drop", B).stdout
    assert [one.name for one in versions.versions(three)] == [LIVE, A]
    assert list(lake_tree(three, B).storage.walk("")) in ([], ["_locks/x"]) and closes(three) == {1.0}
    assert isinstance(run(three, "lake", "drop", B).exception, StorageError)


def test_a_drop_that_was_cut_off_is_no_version_to_use(three: str, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = type(lake_tree(three, A).storage)
    remove, turns = storage.remove, iter([None, KeyboardInterrupt()])

    def cut_off(self: Any, paths: Any) -> None:
        if (fault := next(turns, None)) is not None:
            raise fault
        remove(self, paths)

    monkeypatch.setattr(storage, "remove", cut_off)
    with pytest.raises(KeyboardInterrupt):
        versions.drop(three, A)
    with pytest.raises(StorageError, match="not complete"):
        versions.use(three, A)
    versions.drop(three, A)
    assert [one.name for one in versions.versions(three)] == [LIVE, B]


def test_looked_after_each_by_itself(three: str) -> None:
    """ls and describe tell what readers see; what changes files takes the live lake unless a version is named."""
    versions.use(three, A)
    for place, close in ((three, 1.0), (f"{three}@live", 0.0), (f"{three}@{B}", 2.0)):
        described = json.loads(run(place, "describe", "bars", "--json").stdout)
        assert [one["max"] for one in described["columns"] if one["name"] == "close"] == [close]
        assert sum(one["rows"] for one in json.loads(run(place, "ls", "--only", "lake", "--json").stdout)) == 16
    for place, hashed in ((three, LIVE), (f"{three}@{A}", A)):
        report = validate(place, "lake")
        assert (report.problems, report.rows, report.chains) == ([], 16, 2), "versions are no strays of the live lake"
        done = json.loads(run(place, "compact", "--only", "lake", "--grace", "0", "--json").stdout)
        assert done["lake"]["files_before"] == 8
        kept = json.loads(run(place, "retain", "--only", "lake", "--lake-days", "1", "--json").stdout)
        assert kept["lake"]["records"] > 0
        assert {record["config_hash"] for record in records(place)} == {hashed}
    for words in (["validate"], ["compact", "--only", "lake"], ["ls", "--only", "lake"], ["query", "FROM bars"]):
        refused = run(f"{three}@{'0' * 12}", *words)
        assert isinstance(refused.exception, StorageError), words
        assert "does not exist" in str(refused.exception)


def records(place: str) -> list[Any]:
    tree = lake_tree(place)
    paths = [path for path in tree.storage.walk("_commits") if path.endswith(".json")]
    return [json.loads(tree.storage.read(path)) for path in paths]


def test_copied_as_the_version_it_is(three_anywhere: str, new_root: NewRoot) -> None:
    three = three_anywhere
    there = new_root("folder")
    assert run(f"{three}@{A}", "sync", there, "--only", "lake", "--dry-run").exit_code == 0
    assert versions.manifests(there) == []
    for _ in range(2):
        assert run(f"{three}@{A}", "sync", there, "--only", "lake").exit_code == 0
    assert closes(there, A) == {1.0} and [one.name for one in versions.versions(there)] == [LIVE, A]
    versions.use(there, A)
    with pytest.raises(StorageError, match="no committed"):
        lake.scan(there, "bars", version=LIVE)
    for place, target in ((f"{three}@{A}", f"{there}@{B}"), (f"{three}@{A}", three)):
        refused = run(place, "sync", target, "--only", "lake")
        assert isinstance(refused.exception, ConfigError)
    assert run(three, "sync", f"{there}@live", "--only", "lake").exit_code == 0 and closes(there, LIVE) == {0.0}
    other = new_root("folder")
    make(other, A, 9.0, begun=77)
    refused = run(f"{three}@{A}", "sync", other, "--only", "lake")
    assert isinstance(refused.exception, StorageError) and "made by run" in str(refused.exception)


def test_compared(three: str) -> None:
    (bars,) = [
        day for day in diff(f"{three}@live", f"{three}@{A}", tables=["bars"]) if day.path.endswith("01-08/duration=60")
    ]
    assert (bars.differ, [column.name for column in bars.columns]) == (4, ["close"])
    done = CliRunner().invoke(app, shlex.split(f"diff-lake {three}@live {three}@{A} --table bars"))
    assert done.exit_code == 1 and "2 of 2 folders differ" in done.stdout
    assert CliRunner().invoke(app, ["diff-lake", three, f"{three}@live"]).exit_code == 0


def test_the_name_is_of_what_is_computed() -> None:
    features, bars = FeatureConfig(), BarConfig()
    names = {
        versions.version_of(features, bars),
        versions.version_of(FeatureConfig(max_levels=5), bars),
        versions.version_of(features, BarConfig(grace=1.0)),
    }
    assert len(names) == 3 and all(location(f"data@{name}").version == name for name in names)


@pytest.mark.parametrize(
    ("text", "place", "version"),
    [
        ("data@live", "data", "live"),
        (f"s3://bucket/a/b@{A}", "s3://bucket/a/b", A),
        ("mail@example", "mail@example", None),
        ("data@2024", "data@2024", None),
        (f"a@b@{A}", "a@b", A),
    ],
)
def test_a_place_with_a_version(text: str, place: str, version: str | None) -> None:
    found = location(text)
    assert found.version == version and str(found.model_copy(update={"version": None})) == place
    assert str(found) == text
    assert location(f"{place}").elsewhere(f"@{A}") == location(place).model_copy(update={"version": A})
