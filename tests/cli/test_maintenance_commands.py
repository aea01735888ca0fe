"""`fluxforge compact`, `retain` and `maintain` on a made-up lake and its Bronze."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pytest
from typer.testing import CliRunner, Result

import made_lake as made
from fluxforge import bronze, lake, maintain
from fluxforge.clock import DAY, MS
from fluxforge.errors import ConfigError, StorageError
from fluxforge.events import Heartbeat
from fluxforge.files import Chain, ChainId
from fluxforge.files.history import records
from fluxforge.rows import BARS
from fluxforge.service import Stop
from fluxforge.settings import Settings, load
from fluxforge_cli.main import app

ID = made.CHAINS[0]
PER_DAY = made.BATCHES * made.ROWS
RAW = ChainId("log-1", "market.raw", 0)
PROGRAM = str(Path(sys.executable).with_name("fluxforge"))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments])


def answer(*arguments: object) -> dict[str, Any]:
    done = run(*arguments, "--json")
    assert done.exit_code == 0, done.exception
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def write_bronze(root: Path, end: int = 12) -> None:
    """Three days of heartbeats, four batches each, as far as they are not there."""
    with Chain.open(bronze.tree(root), RAW, first=0) as chain:
        writer = bronze.BronzeWriter(chain)
        for n in range(chain.next_offset, end):
            at = made.FIRST + n // 4 * DAY + n * MS
            who = {"exchange": "x", "symbol": "A/B", "native": "AB", "source": "x", "collector": "c", "connection": "x"}
            writer.append([bronze.record_of(Heartbeat(**who, ts=at, capture_ts=at), n)])  # type: ignore[arg-type]
            writer.commit(n + 1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Bronze and lake in one folder."""
    made.write(str(tmp_path))
    write_bronze(tmp_path)
    return tmp_path


def rows(root: Path) -> list[dict[str, Any]]:
    found: ds.Dataset = lake.scan(root, "hf")
    return sorted(found.to_table().to_pylist(), key=lambda row: (row["offset"], row["symbol"]))


class TestCompact:
    def test_bronze_and_lake(self, folder: Path) -> None:
        before, events = rows(folder), list(bronze.read(bronze.tree(folder), RAW))
        dry = answer("compact", "--data-dir", folder, "--dry-run")
        assert (dry["dry_run"], dry["bronze"]["files_before"], dry["bronze"]["files_after"]) == (True, 12, 3)
        assert len(records(bronze.tree(folder), RAW)) == 12
        done = answer("compact", "--data-dir", folder, "--grace", 0)
        for name, count in (("bronze", 12), ("lake", made.IN_ALL * PER_DAY)):
            assert done[name]["rows"] == dry[name]["rows"] == count
            assert done[name]["hash"].startswith(f"{count}-")
        assert rows(folder) == before
        assert list(bronze.read(bronze.tree(folder), RAW)) == events
        assert "bronze: nothing to merge" in run("compact", "--data-dir", folder).stdout

    def test_a_given_partition(self, folder: Path) -> None:
        asked = ("--exchange", "sim", "--symbol", "S1", "--table", "hf", "--date", "2024-10-05")
        done = answer("compact", "--data-dir", folder, *asked)
        assert set(done) == {"dry_run", "lake"}
        assert done["lake"]["rows"] == PER_DAY
        assert done["lake"]["pending"] == 1
        for other in (("--symbol", "S9"), ("--table", "bars"), ("--exchange", "y"), ("--date", "2024-10-09")):
            assert answer("compact", "--data-dir", folder, "--only", "lake", *other)["lake"]["records_before"] == 0
        assert answer("compact", "--data-dir", folder, "--only", "bronze", "--table", "control")["bronze"]["rows"] == 12

    def test_what_fails_is_named_and_the_rest_is_done(self, folder: Path) -> None:
        file = records(made.tree(str(folder)), ID)[0].files[0]
        (folder / "processed" / file.path).write_bytes(b"no parquet")
        done = run("compact", "--data-dir", folder)
        assert isinstance(done.exception, StorageError)
        assert "[0, 120)" in str(done.exception)
        assert "36 files are now 9" in done.stdout

    def test_a_day_that_is_none(self, folder: Path) -> None:
        assert isinstance(run("compact", "--data-dir", folder, "--date", "yesterday").exception, ConfigError)

    def test_a_table_that_is_none(self, folder: Path) -> None:
        assert "no table or channel 'bears'" in str(run("compact", "--data-dir", folder, "--table", "bears").exception)


class TestRetain:
    def test_says_what_it_would_drop_and_drops_it_when_told(self, folder: Path) -> None:
        days = (time.time_ns() - made.FIRST) // DAY - 1  # of three days stored the first one goes
        asked = ("retain", "--data-dir", folder, "--bronze-days", days, "--lake-days", 9999)
        names = sorted(str(path) for path in folder.rglob("*.parquet"))
        told = run(*asked).stdout
        assert "bronze: would drop 4 files of 4 batches, 4 rows" in told
        assert "lake: nothing is too old" in told
        assert sorted(str(path) for path in folder.rglob("*.parquet")) == names
        done = answer(*asked, "--apply", "--grace", 0)
        assert (done["dry_run"], done["bronze"]["records"], done["lake"]["records"]) == (False, 4, 0)
        assert [record.offset for record in bronze.read(bronze.tree(folder), RAW)] == list(range(4, 12))

    def test_tables_have_days_of_their_own(self, folder: Path) -> None:
        keep = answer("retain", "--data-dir", folder, "--only", "lake", "--lake-days", 1, "--table-days", "hf=99999")
        assert keep["lake"]["records"] == 0
        drop = answer("retain", "--data-dir", folder, "--only", "lake", "--table-days", "hf=1", "--lake-days", 99999)
        assert drop["lake"]["records"] == (made.DAYS + 1) * made.BATCHES - 2
        assert answer("retain", "--data-dir", folder, "--lake-days", 1, "--only", "bronze")["bronze"]["records"] == 0

    @pytest.mark.parametrize("wrong", [("--bronze-days", "0"), ("--table-days", "hf"), ("--table-days", "books=3")])
    def test_days_that_are_none(self, folder: Path, wrong: tuple[str, str]) -> None:
        assert isinstance(run("retain", "--data-dir", folder, *wrong).exception, ConfigError)


def configured(folder: Path, **maintenance: Any) -> Path:
    path = folder / "config.yaml"
    place = {"path": str(folder)}
    path.write_text(
        json.dumps(
            {"storage": {"input": place, "output": place}, "maintenance": maintenance, "metrics": {"port": None}}
        )
    )
    return path


def settings(folder: Path, **maintenance: Any) -> Settings:
    return load(configured(folder, **maintenance), environ={})


class TestMaintain:
    def test_copies_compacts_and_drops(self, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
        copy = tmp_path_factory.mktemp("copy")
        before, now = rows(folder), made.NOW
        given = settings(folder, sync_to=str(copy), grace_s=0, lake_days=8)
        outcomes = maintain.once(given, Stop(), now=now)
        assert [(each.step, each.outcome) for each in outcomes] == [
            (f"{step} {layer}", "done") for layer in ("bronze", "lake") for step in ("sync", "compact", "retain")
        ]
        assert rows(copy) == before
        assert list(bronze.read(bronze.tree(copy), RAW)) == list(bronze.read(bronze.tree(folder), RAW))
        assert [record.start for record in records(made.tree(str(folder)), ID)] == [2 * PER_DAY]
        assert len(records(bronze.tree(folder), RAW)) == 3

    @pytest.mark.parametrize("place", ["file", "/proc/none"])  # a refusal of ours, and one of the system's
    def test_a_failed_step_does_not_stop_the_others_but_nothing_is_dropped_without_its_copy(
        self, folder: Path, place: str
    ) -> None:
        (folder / "file").write_bytes(b"")
        given = settings(folder, sync_to=str(folder / place), grace_s=0, bronze_days=1, lake_days=1)
        outcomes = {each.step: each.outcome for each in maintain.once(given, Stop(), now=made.NOW)}
        assert outcomes == {
            f"{step} {layer}": outcome
            for layer in ("bronze", "lake")
            for step, outcome in (("sync", "failed"), ("compact", "done"), ("retain", "waiting"))
        }
        assert [record.merged for record in records(bronze.tree(folder), RAW)] == [4, 4, 4]

    def test_one_damaged_file_keeps_its_layer_from_being_dropped(
        self, folder: Path, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        victim = records(bronze.tree(folder), RAW)[4].files[0].path
        (folder / "raw" / victim).write_bytes(b"not it")
        copy = tmp_path_factory.mktemp("copy")
        given = settings(folder, sync_to=str(copy), compact=False, grace_s=0, bronze_days=1, lake_days=1)
        outcomes = {each.step: each for each in maintain.once(given, Stop(), now=made.NOW)}
        assert victim in outcomes["sync bronze"].text
        assert [outcomes[f"retain {layer}"].outcome for layer in ("bronze", "lake")] == ["waiting", "done"]
        assert [record.start for record in records(bronze.tree(copy), RAW)] == [0, 1, 2, 3]
        assert len(records(bronze.tree(folder), RAW)) == 12
        assert len(records(made.tree(str(folder)), ID)) == 1

    def test_what_is_committed_after_the_copy_is_not_dropped(
        self, folder: Path, tmp_path_factory: pytest.TempPathFactory, caplog: pytest.LogCaptureFixture
    ) -> None:
        """As old days that are imported in the middle of a round."""

        class Committed(logging.Handler):
            """Two batches, as soon as the copy is made."""

            def emit(self, record: logging.LogRecord) -> None:
                if record.getMessage().startswith("sync bronze"):
                    write_bronze(folder, 14)

        handler, log, copy = Committed(), logging.getLogger("fluxforge.maintain"), tmp_path_factory.mktemp("copy")
        given = settings(folder, sync_to=str(copy), compact=False, grace_s=0, bronze_days=1)
        caplog.set_level(logging.INFO, log.name)
        log.addHandler(handler)
        try:
            maintain.once(given, Stop(), now=made.NOW)
        finally:
            log.removeHandler(handler)
        assert [record.start for record in records(bronze.tree(folder), RAW)] == [12, 13]
        maintain.once(given, Stop(), now=made.NOW)
        assert [record.start for record in records(bronze.tree(folder), RAW)] == [13]
        assert [record.start for record in records(bronze.tree(copy), RAW)] == list(range(14))

    def test_a_lake_is_not_copied_into_one_of_the_other_road(
        self, folder: Path, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        copy = tmp_path_factory.mktemp("copy")
        with lake.LakeWriter.open(lake.lake_tree(copy), BARS, ChainId("b", "bars", 0), first=0, road="etl") as writer:
            writer.commit(1, {})
        outcomes = {each.step: each for each in maintain.once(settings(folder, sync_to=str(copy)), Stop())}
        assert outcomes["sync bronze"].outcome == "done"
        assert "already holds rows of a batch run" in outcomes["sync lake"].text
        assert outcomes["retain lake"].outcome == "waiting"

    def test_a_stop_ends_it_in_the_middle_and_nothing_is_half_done(self, folder: Path) -> None:
        class Soon(Stop):
            """Set after so many looks."""

            def __init__(self, left: int) -> None:
                super().__init__()
                self.left = left

            def is_set(self) -> bool:
                self.left -= 1
                return self.left < 0

        before = rows(folder)
        for left in range(12):
            maintain.once(settings(folder, grace_s=0), Soon(left), now=made.NOW)
            assert rows(folder) == before
        maintain.once(settings(folder, grace_s=0), Stop(), now=made.NOW)
        assert rows(folder) == before
        assert not list((folder / "processed").glob("_active/*"))

    def test_once_by_its_command(self, folder: Path) -> None:
        done = subprocess.run(
            [PROGRAM, "maintain", "--once", "--json", "--config", configured(folder)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert [(each["step"], each["outcome"]) for each in json.loads(done.stdout)] == [
            (f"{step} {layer}", "done") for layer in ("bronze", "lake") for step in ("compact", "retain")
        ]

    @pytest.mark.parametrize(
        "begin", [(PROGRAM, "maintain", "--every", "1h"), (sys.executable, "-m", "fluxforge.maintain")]
    )
    def test_runs_until_sigterm(self, folder: Path, begin: tuple[str, ...]) -> None:
        command = [*begin, "--config", str(configured(folder))]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            for line in process.stderr:
                if "retain lake" in line:
                    break
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        assert [record.merged for record in records(bronze.tree(folder), RAW)] == [4, 4, 4]

    @pytest.mark.parametrize("wrong", ["", "1", "0h", "-1h", "1w"])
    def test_a_time_that_is_none(self, folder: Path, wrong: str) -> None:
        done = run("maintain", "--once", "--config", configured(folder), f"--every={wrong}")
        assert isinstance(done.exception, ConfigError)
