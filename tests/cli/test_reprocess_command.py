"""`fluxforge reprocess` as a person runs it: the live rows again, whatever is killed; other rows, other version."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

import live_and_bronze
from fluxforge.errors import ConfigError, StorageError
from fluxforge.files import chains
from fluxforge.files.dataset import committed_files
from fluxforge.lake import lake_tree, versions
from fluxforge.lake.diff import diff
from fluxforge.log import Log, open_log
from fluxforge.replay import clean
from fluxforge.settings import load
from fluxforge.storage import Root
from fluxforge.topics import Topics
from fluxforge.validate import validate
from fluxforge_cli.main import app

PROGRAM = str(Path(sys.executable).with_name("fluxforge"))
KILLS = int(os.environ.get("REPROCESS_KILLS", "2"))
SEED = int(os.environ.get("REPROCESS_SEED", "1"))
PATIENCE_S = 150.0
SECTIONS: dict[str, object] = {
    "etl": {"channels": {"orderbook": {"processor_options": {"horizons": [1, 5], "bar_durations": [1, 5, 30]}}}},
    "cross": {"horizons": [1, 5]},
    "lake": {"segment_max_age_s": 0.3},
}


def environ() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("FLUXFORGE_")}


def begin(folder: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [PROGRAM, "reprocess", *words, "--json"],
        cwd=folder, env=environ(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def ended(running: subprocess.Popen[str]) -> tuple[str, str]:
    """What it said; it does not outlive the test."""
    try:
        return running.communicate(timeout=PATIENCE_S)
    finally:
        running.kill()


def answer(folder: Path, *words: str) -> dict[str, Any]:
    """What the command ends with; nobody fails."""
    running = begin(folder, *words)
    out, said = ended(running)
    assert running.returncode == 0, said + logs(folder)
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found


def refused(folder: Path, *words: str) -> Exception:
    """What it raises before anything begins."""
    done: Result = CliRunner().invoke(app, ["reprocess", *words, "--config", str(folder / "config.yaml")])
    assert isinstance(done.exception, ConfigError | StorageError), done.output
    return done.exception


def logs(folder: Path) -> str:
    return "".join(f"\n{path}:\n{path.read_text()[-2000:]}" for path in folder.rglob("*.log") if path.stat().st_size)


def live(folder: Path, log: Log, prefix: str, root: Root | None = None, seconds: int = 90) -> None:
    """A live run in `data` of the folder, or in `root`, and its configuration in the folder."""
    config = live_and_bronze.configure(folder, log.url, prefix, **SECTIONS)
    live_and_bronze.run(log, load(config, environ={}), folder / "data" if root is None else root, seconds)


def same(a: Root, b: Root) -> bool:
    """Row for row, every bit; and there are rows of every table."""
    days = list(diff(a, b, tables=live_and_bronze.TABLES))
    assert {day.table for day in days} == set(live_and_bronze.TABLES) and sum(day.rows[0] for day in days) > 500
    return all(day.same for day in days)


def until(reached: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not reached():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def children(pid: int) -> list[int]:
    """The processes that `pid` has begun, and theirs."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == pid:
            found.append(int(stat.parent.name))
    return found + [below for child in found for below in children(child)]


def test_the_live_rows_again_then_the_run_is_done(log: Log, topics: Topics, tmp_path: Path) -> None:
    run = topics.prefix
    live(tmp_path, log, run)
    found = answer(tmp_path, "--run", run, "--workers", "2")
    place = f"{tmp_path}/data@{found['version']}"
    assert found["complete"] and same(f"{tmp_path}/data@live", place)
    assert found["rows"] == versions.rows_of(lake_tree(place))[0]
    assert not any(name.startswith(f"replay.{run}.") for name in log.topics()), "its topics are gone"
    assert validate(place, "lake").problems == [] == validate(tmp_path / "data", "lake").problems
    assert answer(tmp_path, "--run", run) == found, "there is nothing left to do"
    assert versions.current(tmp_path / "data") == "live", "nobody is switched unasked"
    versions.use(tmp_path / "data", found["version"])
    told = CliRunner().invoke(
        app, ["query", "SELECT count(*) AS n FROM hf", "--json", "--data-dir", f"{tmp_path}/data"]
    )
    assert json.loads(told.stdout) == [{"n": found["rows"]["hf"]}]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "log_url",
    [pytest.param("sqlite", marks=pytest.mark.long), pytest.param("kafka", marks=pytest.mark.kafka)],
    indirect=True,
)
def test_killed_at_random_moments(log: Log, topics: Topics, tmp_path: Path) -> None:
    """The command alone, a process of its, or all of them at once."""
    rng = random.Random(SEED)
    live(tmp_path, log, topics.prefix, seconds=300)
    words = ("--run", topics.prefix, "--workers", "2")
    whole = time.monotonic()
    answer(tmp_path, *words, "--output", str(tmp_path / "quiet"))
    whole = time.monotonic() - whole
    clean(log, topics.prefix)
    kinds = []
    for _ in range(KILLS):
        running = begin(tmp_path, *words)
        time.sleep(rng.uniform(0.3, whole))
        if running.poll() is None:
            kinds.append(rng.choice(["command", "one", "all"]))
            below = children(running.pid)
            doomed = {"command": [], "one": rng.sample(below, min(1, len(below))), "all": below}[kinds[-1]]
            for pid in doomed:
                kill(pid)
            if kinds[-1] == "one":
                time.sleep(rng.uniform(0.0, 2.0))
            running.kill()
        ended(running)
    found = answer(tmp_path, *words)
    assert len(kinds) >= KILLS // 3, "the faults met it at work"
    assert same(f"{tmp_path}/data@live", f"{tmp_path}/data@{found['version']}")
    assert same(f"{tmp_path}/quiet@{found['version']}", f"{tmp_path}/data@{found['version']}")


def kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A live run on the embedded log."""
    monkeypatch.chdir(tmp_path)
    log = open_log(f"sqlite:///{tmp_path}/log.db")
    live(tmp_path, log, "market")
    log.close()
    return tmp_path


def opened(folder: Path) -> Log:
    return open_log(f"sqlite:///{folder}/log.db")


def test_another_configuration_is_another_version(folder: Path) -> None:
    first = answer(folder, "--run", "june", "--keep-topics")
    changed = yaml.safe_load((folder / "config.yaml").read_text())
    changed["etl"]["channels"]["orderbook"]["processor_options"]["hf_emit_interval"] = 0.5
    (folder / "config.yaml").write_text(yaml.safe_dump(changed))
    error = refused(folder, "--run", "june")
    assert isinstance(error, ConfigError) and f"version {first['version']}, of another configuration" in str(error)
    second = answer(folder, "--run", "july")
    assert second["version"] != first["version"]
    days = list(diff(f"{folder}/data@{first['version']}", f"{folder}/data@{second['version']}"))
    unlike = {day.table for day in days if not day.same}
    assert unlike == {"hf", "cross"}, "bars, trades and tickers are not of it"
    assert all(day.alone[0] == 0 < day.alone[1] for day in days if day.table == "hf")
    log = opened(folder)
    left = {name.split(".")[1] for name in log.topics() if name.startswith("replay.")}
    log.close()
    assert left == {"june"}, "kept as asked"
    assert [one.manifest and one.manifest.run for one in versions.versions(folder / "data")] == [None, "june", "july"]


def test_a_name_stands_for_one_thing(folder: Path) -> None:
    found = answer(folder, "--run", "btc", "--symbol", "BTC/USDT")
    assert {file.file.meta["symbol"] for file in committed_files(lake_tree(f"{folder}/data@{found['version']}"))} == {
        "BTC/USDT", "BTC/USD"
    }  # fmt: skip
    for words, told in (
        (("--run", "btc", "--symbol", "ETH/USDT"), "was begun with"),
        (("--run", "btc"), "was begun with"),
        (("--run", "eth", "--symbol", "ETH/USDT"), "is of run btc"),
        (("--run", "wire", "--channel", "wire"), "gives no rows"),
        (("--run", "a.b"), "cannot be named"),
        ((), "no name"),
        (("--run", "x", "--output", f"data@{found['version']}"), "names a version"),
    ):
        error = refused(folder, *words)
        assert isinstance(error, ConfigError) and told in str(error), words
    log = opened(folder)
    assert [name for name in log.topics() if name.startswith("replay.")] == []
    log.close()
    versions.drop(folder / "data", found["version"])
    assert answer(folder, "--run", "btc")["rows"]["hf"] > found["rows"]["hf"], "dropped, the name is free"


def test_a_process_that_dies_is_started_again(folder: Path) -> None:
    running = begin(folder, "--run", "june")
    until(lambda: len(children(running.pid)) >= 4 or running.poll() is not None, "its processes did not start")
    time.sleep(1.0)
    for pid in children(running.pid):
        kill(pid)
    out, said = ended(running)
    assert running.returncode == 0, said + logs(folder)
    assert same(f"{folder}/data@live", f"{folder}/data@{json.loads(out)['version']}")


def test_interrupted_it_goes_on_and_another_may_not(folder: Path) -> None:
    running = begin(folder, "--run", "june")
    until(lambda: list(folder.glob("data/logs/*/bar-lake.log")) or running.poll() is not None, "it did not begin")
    running.send_signal(signal.SIGSTOP)
    assert isinstance(refused(folder, "--run", "june"), StorageError), "it has the version"
    running.send_signal(signal.SIGINT)
    running.send_signal(signal.SIGCONT)
    out, said = ended(running)
    assert (running.returncode, json.loads(out)["complete"]) == (130, False), said
    with pytest.raises(StorageError, match="not complete"):
        versions.use(folder / "data", json.loads(out)["version"])
    error = refused(folder, "--run", "june", "--output", "elsewhere")
    assert isinstance(error, ConfigError) and "was begun with" in str(error), "half of it lies in another lake"
    found = answer(folder, "--run", "june")
    assert same(f"{folder}/data@live", f"{folder}/data@{found['version']}")


def test_without_its_topics_it_does_not_write_twice(folder: Path) -> None:
    running = begin(folder, "--run", "june")
    tree = None

    def stored() -> bool:
        nonlocal tree
        made = versions.manifests(folder / "data")
        tree = lake_tree(folder / "data", made[0].version) if made else None
        return tree is not None and bool(chains(tree))

    until(lambda: stored() or running.poll() is not None, "no row came")
    for pid in [*children(running.pid), running.pid]:
        kill(pid)
    ended(running)
    if versions.complete(tree) is None:  # type: ignore[arg-type]
        log = opened(folder)
        clean(log, "june")
        log.close()
        error = refused(folder, "--run", "june")
        assert isinstance(error, StorageError) and "lake drop" in str(error)
        versions.drop(folder / "data", versions.manifests(folder / "data")[0].version)
    found = answer(folder, "--run", "june")
    assert same(f"{folder}/data@live", f"{folder}/data@{found['version']}")


def test_from_a_bucket_into_a_bucket(tmp_path: Path, new_root: Callable[[str], str]) -> None:
    root = new_root("bucket")
    log = open_log(f"sqlite:///{tmp_path}/log.db")
    live(tmp_path, log, "market", root)
    log.close()
    found = answer(tmp_path, "--run", "june", "--data-dir", root)
    assert found["lake"].startswith(root) and same(f"{root}@live", f"{root}@{found['version']}")
    versions.use(root, found["version"])
    assert same(root, f"{root}@live")
