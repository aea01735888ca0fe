"""A watcher: every closed segment comes into the lake, whatever happens between two looks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fluxforge import etl
from fluxforge.errors import ConfigError, StorageError, WriterConflict
from fluxforge.etl import Pass, Result
from fluxforge.lake import lake_tree
from fluxforge.log import Record
from fluxforge.service import Stop
from fluxforge_cli.main import app
from shared.etl.test_etl import lake, recorded, run, same
from shared.etl.test_etl_checkpoints import add

RECORDS = recorded(3, 60)
STEP = 50


def store(data: Path, records: Sequence[Record]) -> None:
    """More of the partition, in batches of STEP."""
    for at in range(0, len(records), STEP):
        add(data, records[at : at + STEP])


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    data = tmp_path / "whole"
    store(data, RECORDS)
    run(data)
    return data


def watched(data: Path, at_poll: Callable[[int], bool]) -> list[Pass]:
    """What a watcher did; `at_poll` is called while it waits, with the number of waits, and tells whether to stop."""
    passes: list[Pass] = []

    class Waits(Stop):
        count = 0

        def wait(self, timeout: float | None = None) -> bool:
            assert timeout == 0.5
            self.count += 1
            if at_poll(self.count):
                self.set()
            return self.is_set()

    etl.watch(data, lambda progress: run(data, progress=progress), Waits(), poll_s=0.5, on_pass=passes.append)
    return passes


def test_it_begins_before_bronze_and_brings_each_batch(tmp_path: Path, whole: Path) -> None:
    data = tmp_path / "data"

    def grow(poll: int) -> bool:
        at = (poll - 1) * 3 * STEP
        if RECORDS[at : at + 3 * STEP]:
            store(data, RECORDS[at : at + 3 * STEP])
        return at > len(RECORDS) + 6 * STEP

    passes = watched(data, grow)
    same(lake(data), lake(whole))
    batches = -(-len(RECORDS) // STEP)
    assert sum(one.batches for one in passes) == batches
    assert len(passes) == -(-batches // 3), "nothing is run where nothing is new"
    assert sum(one.result.events for one in passes) == len(RECORDS), "each event is read once"


def test_a_store_that_fails_is_tried_again(tmp_path: Path, whole: Path) -> None:
    data = tmp_path / "data"
    store(data, RECORDS[:100])
    troubles: list[StorageError] = []
    fail = [WriterConflict("another run"), None, StorageError("the store is away"), None]

    def go(progress: Callable[[int, int], None]) -> Result:
        if (error := fail.pop(0)) is not None:
            raise error
        return run(data, progress=progress)

    class Waits(Stop):
        def wait(self, timeout: float | None = None) -> bool:
            if len(fail) == 2:
                store(data, RECORDS[100:])
            if not fail:
                self.set()
            return self.is_set()

    etl.watch(data, go, Waits(), poll_s=0.0, on_trouble=troubles.append)
    assert [str(error) for error in troubles] == ["another run", "the store is away"]
    same(lake(data), lake(whole))


def test_an_error_of_the_first_run_ends_it(whole: Path) -> None:
    with pytest.raises(StorageError, match="of configuration"):
        etl.watch(whole, lambda progress: etl.run(whole, verify=True, progress=progress), Stop(), poll_s=0.0)


def test_a_stop_leaves_off_in_the_middle(tmp_path: Path, whole: Path) -> None:
    data = tmp_path / "data"
    store(data, RECORDS)
    stop = Stop()

    def go(progress: Callable[[int, int], None]) -> Result:
        def told(done: int, total: int) -> None:
            stop.set()
            progress(done, total)

        return run(data, progress=told)

    etl.watch(data, go, stop, poll_s=0.0)
    assert not list(lake_tree(data).storage.names("_checkpoints"))
    run(data)
    same(lake(data), lake(whole))


def test_the_command_ends_by_sigterm(tmp_path: Path) -> None:
    data = tmp_path / "data"
    store(data, RECORDS[:100])
    arguments = ["etl", "--data-dir", str(data), "--watch", "--poll-interval", "0.1", "--json"]
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name("fluxforge")), *arguments],
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"COLUMNS": "200"},
    )
    assert process.stdout is not None
    first = json.loads(process.stdout.readline())
    store(data, RECORDS[100:])
    told = [first]
    while sum(one["events"] for one in told) < len(RECORDS):
        told.append(json.loads(process.stdout.readline()))
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert first["batches"] == 2
    assert process.stdout.read() == ""
    process.stdout.close()


def test_what_it_does_not_go_with() -> None:
    for more in (["--mode", "date", "--date", "2026-01-01"], ["--verify"]):
        with pytest.raises(ConfigError, match="goes on with all that Bronze has"):
            CliRunner().invoke(app, ["etl", "--watch", *more], catch_exceptions=False)
