"""Days of chains on a Dask cluster of two processes: the rows of one process, whatever dies on the way."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from distributed import Client, LocalCluster
from typer.testing import CliRunner

from fluxforge import etl
from fluxforge.cross.config import CrossConfig
from fluxforge.errors import ConfigError, SegmentError, StorageError
from fluxforge.etl import Window, checkpoints
from fluxforge.lake import lake_tree, scan
from fluxforge.validate import validate
from fluxforge_cli.main import app
from shared.etl.test_etl import TestDays, bring, history, lake, run, same

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", host="127.0.0.1", silence_logs=False
    ) as made:
        yield made


@pytest.fixture
def days(tmp_path: Path) -> Path:
    """Three days of two markets in a chain each, and one that both share."""
    data = tmp_path / "data"
    for name, symbols in (("one", ("A/B",)), ("two", ("C/D",)), ("three", ("E/F", "G/H")), ("four", ("G/H",))):
        starts = [TestDays.MIDNIGHT + 86_400 * n - 60 for n in range(3)]
        lines = [line for n, start in enumerate(starts) for line in history(n + len(name), start, 120, symbols)]
        bring(data, name, lines)
    run(data, tmp_path / "alone")
    return data


def test_rows_are_those_of_one_process(days: Path, tmp_path: Path, cluster: LocalCluster) -> None:
    output, told = tmp_path / "shared", list[tuple[int, int]]()
    made = run(days, output, scheduler=cluster.scheduler_address, progress=lambda *done: told.append(done))
    same(lake(output), lake(tmp_path / "alone"))
    assert made.rows == run(days, tmp_path / "again").rows
    assert told[-1][0] == made.events
    assert len(told) >= 9, "three groups of three days and what is behind them"
    heads = checkpoints.load(lake_tree(output))
    assert {head.at_midnight for head in heads} == {True, False}
    assert run(days, output, scheduler=cluster.scheduler_address).rows == {}
    assert not validate(output, "lake").problems


def test_rows_across_markets_are_those_of_one_process(days: Path, tmp_path: Path, cluster: LocalCluster) -> None:
    output, alone = tmp_path / "shared", tmp_path / "again"
    made = run(days, output, cross=CrossConfig(), scheduler=cluster.scheduler_address)
    assert made.rows == run(days, alone, cross=CrossConfig()).rows
    ours, theirs = (
        scan(root, "cross").to_table().sort_by([("timestamp", "ascending"), ("symbol", "ascending")])
        for root in (output, alone)
    )
    assert ours.equals(theirs) and ours.num_rows == made.rows["cross"] > 300


def test_days_go_on_from_days(days: Path, tmp_path: Path, cluster: LocalCluster) -> None:
    output = tmp_path / "shared"
    for day in TestDays.DAYS:
        assert run(days, output, window=Window.of_days(day, day), scheduler=cluster.scheduler_address).rows["hf"] > 0
    run(days, output, scheduler=cluster.scheduler_address)
    same(lake(output), lake(tmp_path / "alone"))


def test_workers_that_die_are_replaced(days: Path, tmp_path: Path, cluster: LocalCluster) -> None:
    """Both are killed while they work; the tasks are done again, and nothing is there twice."""
    output, killed = tmp_path / "shared", list[int]()
    with Client(cluster.scheduler_address, set_as_default=False) as client:
        pids: dict[str, int] = client.run(os.getpid)

    def kill() -> None:
        for pid in pids.values():
            have = len(list((output / "processed" / "_commits").rglob("*.json")))
            while len(list((output / "processed" / "_commits").rglob("*.json"))) <= have:
                time.sleep(0.01)
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    run(days, output, scheduler=cluster.scheduler_address)
    killer.join(60)
    assert len(killed) == 2
    same(lake(output), lake(tmp_path / "alone"))
    assert not validate(output, "lake").problems
    assert not run(days, output, verify=True).rows


def test_segments_that_cannot_be_read(days: Path, tmp_path: Path, cluster: LocalCluster) -> None:
    segment = min((days / "raw" / "ready").rglob("orderbook/*.parquet"))
    content = segment.read_bytes()
    segment.write_bytes(content[:-30])
    with pytest.raises(SegmentError, match=segment.name):
        run(days, tmp_path / "stop", scheduler=cluster.scheduler_address)
    named: list[SegmentError] = []
    run(days, tmp_path / "go-on", scheduler=cluster.scheduler_address, on_error=named.append)
    assert any(segment.name in str(error) for error in named)
    run(days, tmp_path / "go-on-alone", on_error=lambda _: None)
    same(lake(tmp_path / "go-on"), lake(tmp_path / "go-on-alone"))


def test_what_does_not_work_is_told(days: Path, tmp_path: Path, cluster: LocalCluster) -> None:
    with pytest.raises(StorageError, match="of configuration"):
        etl.run(days, tmp_path / "alone", scheduler=cluster.scheduler_address, verify=True)
    with pytest.raises(ConfigError, match=r"no Dask scheduler answers at tcp://127.0.0.1:1:"):
        run(days, tmp_path / "none", scheduler="tcp://127.0.0.1:1")
    for wrong, said in (
        (["--engine", "dask"], "belong together"),
        (["--scheduler", "tcp://127.0.0.1:1"], "belong together"),
        (["--engine", "dask", "--scheduler", "tcp://127.0.0.1:1", "--workers", "2"], "processes of this machine"),
    ):
        with pytest.raises(ConfigError, match=said):
            CliRunner().invoke(app, ["etl", "--data-dir", str(days), *wrong], catch_exceptions=False)
