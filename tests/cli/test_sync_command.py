"""`fluxforge sync`: Bronze and lake from one root to another, and what it tells."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from fluxforge import bronze
from fluxforge.clock import MS, NS
from fluxforge.errors import ConfigError, StorageError
from fluxforge.events import Trade
from fluxforge.files import Chain, ChainId, Gap, Tree, commits, retain
from fluxforge.lake import LakeWriter, lake_tree
from fluxforge.lake.layout import Road
from fluxforge.rows import BARS
from fluxforge_cli.main import app

ID = ChainId("log", "market.raw", 0)
BAR_ID = ChainId("log", "market.bars", 0)
DAY = 86_400 * NS


def trade(number: int, day: int) -> Trade:
    return Trade(
        exchange="sim", symbol="A/USDT", native="A", source="sim", collector="c", connection="x",
        ts=day * DAY + number * MS, capture_ts=day * DAY + number * MS, id=str(number), price=1.5, size=0.1, side=1,
    )  # fmt: skip


def fill(root: Path, days: int, road: Road = "live") -> None:
    """A batch of trades and a bar for each day from 1970 on, as far as they are not there."""
    with Chain.open(bronze.tree(root), ID, first=0) as chain:
        writer = bronze.BronzeWriter(chain)
        for day in range(chain.next_offset // 10, days):
            writer.append([bronze.record_of(trade(number, day), day * 10 + number) for number in range(10)])
            writer.commit(day * 10 + 10)
    lake = LakeWriter.open(lake_tree(root), BARS, BAR_ID, first=0, road=road)
    try:
        for day in range(lake.next_offset, days):
            row: dict[str, object] = dict.fromkeys(BARS.schema.names)
            row |= {"source": "sim", "exchange": "sim", "symbol": "A/USDT", "timestamp": day * DAY, "duration": 60}
            lake.add([row])
            lake.commit(day + 1, {})
    finally:
        lake.close()


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["sync", *map(str, arguments)])


def contents(tree: Tree) -> dict[str, bytes]:
    return {path: tree.storage.read(path) for path in tree.storage.walk("") if not path.startswith("_locks")}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root with data, and no configuration."""
    monkeypatch.chdir(tmp_path)
    fill(tmp_path / "here", 3)
    return tmp_path / "here"


class TestSync:
    def test_both_parts_go_and_a_second_run_copies_nothing(self, here: Path, tmp_path: Path) -> None:
        there = tmp_path / "there"
        told = run(there, "--data-dir", here)
        assert told.exit_code == 0, told.exception
        assert "bronze: 3 batches, 3 files" in told.output
        assert "lake: 3 batches, 3 files" in told.output
        for tree in (bronze.tree, lake_tree):
            assert contents(tree(there)) == contents(tree(here)) != {}
        counts = json.loads(run(there, "--data-dir", here, "--json").output)
        assert counts["bronze"] == {
            "chains": 1, "records": 0, "files": 0, "bytes": 0, "already": 3, "left_out": 0, "gap_offsets": 0,
            "deleted": 0,
        }  # fmt: skip
        assert counts["failed"] == []

    def test_to_a_bucket_and_back(self, here: Path, tmp_path: Path, new_root: Callable[[str], str]) -> None:
        bucket = new_root("bucket")
        assert run(bucket, "--data-dir", here).exit_code == 0
        assert run(tmp_path / "back", "--data-dir", bucket).exit_code == 0
        for tree in (bronze.tree, lake_tree):
            assert contents(tree(tmp_path / "back")) == contents(tree(here)) != {}

    def test_a_dry_run_writes_nothing(self, here: Path, tmp_path: Path) -> None:
        told = run(tmp_path / "there", "--data-dir", here, "--dry-run")
        assert "3 files" in told.output
        assert "would be copied" in told.output
        assert not list((tmp_path / "there").rglob("*.*"))

    def test_what_was_dropped_before_it_was_copied(self, here: Path, root: str) -> None:
        """An error with a way out; then the gap is on record, and the copy is sound."""
        assert run(root, "--data-dir", here).exit_code == 0
        fill(here, 6)
        for tree, chain, before in ((bronze.tree(here), ID, 50), (lake_tree(here), BAR_ID, 5)):
            retain.drop(tree, chain, before, note={"why": "test"}, grace_s=0)
        stopped = run(root, "--data-dir", here)
        assert isinstance(stopped.exception, StorageError)
        for text in ("ends at offset 30", "begins at 50", "ends at offset 3,", "begins at 5 ", "--on-gap record"):
            assert text in str(stopped.exception)
        told = run(root, "--data-dir", here, "--on-gap", "record")
        assert told.exit_code == 0, told.exception
        assert "gaps on record, 20 offsets in all" in told.output
        assert [(c.start, c.gap) for c in commits(lake_tree(root), BAR_ID)][3:] == [(3, Gap(3, 5)), (5, None)]
        assert [record.offset for record in bronze.read(bronze.tree(root), ID)] == [*range(30), *range(50, 60)]
        assert CliRunner().invoke(app, ["validate", "--data-dir", root]).exit_code == 0
        assert "bronze: 0 batches" in run(root, "--data-dir", here).output

    def test_one_part_and_a_pattern(self, here: Path, tmp_path: Path) -> None:
        there = tmp_path / "there"
        pattern = "*/exchange=sim/symbol=A-USDT/date=1970-01-02"
        told = run(there, "--data-dir", here, "--only", "lake", "--pattern", pattern, "--json")
        counts = json.loads(told.output)
        assert "bronze" not in counts
        assert (counts["lake"]["records"], counts["lake"]["files"], counts["lake"]["left_out"]) == (3, 1, 2)
        assert [len(commit.files) for commit in commits(lake_tree(there), BAR_ID)] == [0, 1, 0]

    def test_compaction_first(self, here: Path, tmp_path: Path) -> None:
        for day in (3, 3):
            with Chain.open(bronze.tree(here), ID, first=0) as chain:
                writer, at = bronze.BronzeWriter(chain), chain.next_offset
                writer.append([bronze.record_of(trade(number, day), at + number) for number in range(10)])
                writer.commit(at + 10)
        there = tmp_path / "there"
        assert run(there, "--data-dir", here, "--before", "compact").exit_code == 0
        found = list(commits(bronze.tree(there), ID))
        assert [(c.start, c.next_offset) for c in found][-1] == (30, 50)
        assert found[-1].merged == 2
        assert list(bronze.read(bronze.tree(there), ID)) == list(bronze.read(bronze.tree(here), ID))

    def test_compaction_first_as_it_is_configured(self, here: Path, tmp_path: Path) -> None:
        for _ in range(2):
            with Chain.open(bronze.tree(here), ID, first=0) as chain:
                writer, at = bronze.BronzeWriter(chain), chain.next_offset
                writer.append([bronze.record_of(trade(number, 3), at + number) for number in range(10)])
                writer.commit(at + 10)
        (tmp_path / "config.yaml").write_text("maintenance: {max_file_mb: 0.001}\n")
        assert run(tmp_path / "there", "--data-dir", here, "--before", "compact").exit_code == 0
        assert not any(commit.merged for commit in commits(bronze.tree(tmp_path / "there"), ID))

    def test_each_part_comes_from_where_it_is_configured(self, here: Path, tmp_path: Path) -> None:
        """Bronze from storage.input, the lake from storage.output; what is at the target needs no copy."""
        apart, there = tmp_path / "apart", tmp_path / "there"
        fill(apart, 2)
        (tmp_path / "config.yaml").write_text(f"storage: {{input: {{path: {here}}}, output: {{path: {apart}}}}}\n")
        assert run(there).exit_code == 0
        assert contents(bronze.tree(there)) == contents(bronze.tree(here)) != {}
        assert contents(lake_tree(there)) == contents(lake_tree(apart)) != {}
        told = json.loads(run("--only", "bronze", "--dry-run", "--json").output)
        assert (told["from"], told["to"]) == ({"bronze": str(here)}, str(apart))
        assert isinstance(run("--only", "lake").exception, ConfigError)

    def test_deleting_after_leaves_the_newest(self, here: Path, tmp_path: Path) -> None:
        told = run(tmp_path / "there", "--data-dir", here, "--delete-after")
        assert "2 batches dropped from the source" in told.output
        assert [commit.start for commit in commits(bronze.tree(here), ID)] == [20]
        assert len(list(bronze.read(bronze.tree(tmp_path / "there"), ID))) == 30


class TestErrors:
    def test_what_fails_is_told_and_the_rest_is_done(self, here: Path, tmp_path: Path) -> None:
        victim = next(commits(bronze.tree(here), ID)).files[0].path
        (here / "raw" / victim).write_bytes(b"not it")
        told = run(tmp_path / "there", "--data-dir", here, "--json")
        assert isinstance(told.exception, StorageError)
        assert victim in str(told.exception)
        counts = json.loads(told.output)
        assert victim in counts["failed"][0]
        assert counts["lake"]["records"] == 3

    def test_lakes_of_two_roads_are_not_mixed(self, here: Path, tmp_path: Path) -> None:
        fill(tmp_path / "there", 1, road="etl")
        told = run(tmp_path / "there", "--data-dir", here)
        assert isinstance(told.exception, StorageError)
        assert "already holds rows of a batch run" in str(told.exception)

    def test_one_place(self, here: Path) -> None:
        told = run(here, "--data-dir", here)
        assert isinstance(told.exception, ConfigError)

    def test_deleting_a_part(self, here: Path, tmp_path: Path) -> None:
        told = run(tmp_path / "there", "--data-dir", here, "--pattern", "sim", "--delete-after")
        assert isinstance(told.exception, ConfigError)

    def test_nothing_to_sync_is_told(self, here: Path, tmp_path: Path) -> None:
        assert "bronze: nothing is committed in" in run(tmp_path / "there", "--data-dir", tmp_path / "empty").output
