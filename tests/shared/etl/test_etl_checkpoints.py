"""Checkpoints: a run that goes on from one gives the bits of a run from the beginning, or does not use it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from fluxforge import bronze, etl
from fluxforge.bronze import BronzeWriter
from fluxforge.bronze.compaction import LAYOUT
from fluxforge.errors import StorageError
from fluxforge.etl import Window, checkpoints, task
from fluxforge.etl.tables import Maker
from fluxforge.files import Chain, ChainId
from fluxforge.files.compact import compact
from fluxforge.files.runs import Options
from fluxforge.lake import lake_tree
from fluxforge.lake.compaction import LAYOUT as LAKE
from fluxforge.log import Record
from fluxforge.validate import validate
from fluxforge_cli.importer.ccxt_ndjson import parse
from shared.etl.test_etl import BARS, FEATURES, TestDays, bring, history, lake, recorded, run, same, store


def folder(data: Path) -> Path:
    return data / "processed" / checkpoints.FOLDER


def heads(data: Path) -> list[checkpoints.Checkpoint]:
    return checkpoints.load(lake_tree(data))


def add(data: Path, records: Sequence[Record], partition: int = 2) -> None:
    """More of a raw partition."""
    with closing(Chain.open(bronze.tree(data), ChainId("cluster", "market.raw", partition), first=0)) as chain:
        writer = BronzeWriter(chain)
        writer.append(records)
        writer.commit(records[-1].offset + 1)


class TestGrowing:
    """A partition that grows between runs."""

    RECORDS = recorded(3, 60)
    CUTS = (0, 20, 21, 90, 140, len(RECORDS))

    @pytest.fixture
    def whole(self, tmp_path: Path) -> Path:
        data = tmp_path / "whole"
        store(data, self.RECORDS, "parquet")
        run(data)
        return data

    def test_a_run_reads_what_is_new(self, tmp_path: Path, whole: Path) -> None:
        data = tmp_path / "grown"
        for start, end in zip(self.CUTS, self.CUTS[1:], strict=False):
            add(data, self.RECORDS[start:end])
            assert run(data).events == end - start
        same(lake(data), lake(whole))
        assert len(heads(data)) == checkpoints.KEEP
        assert len(list(folder(data).iterdir())) == 2 * checkpoints.KEEP
        assert not validate(data, "lake").problems

    def test_all_of_it_is_verified_where_that_is_asked_for(self, tmp_path: Path, whole: Path) -> None:
        data = tmp_path / "grown"
        for start, end in zip(self.CUTS, self.CUTS[1:], strict=False):
            add(data, self.RECORDS[start:end])
            run(data)
        assert run(data, verify=True) == etl.Result(len(self.RECORDS), chains=1, **self.counts(whole))
        record = sorted((data / "processed" / "_commits").rglob("*.hf/2/*.json"))[1]
        stored = json.loads(record.read_bytes())
        stored["meta"]["row_hash"] = "0" * 64
        record.write_text(json.dumps(stored))
        with pytest.raises(StorageError, match="come out otherwise than they are stored"):
            run(data, verify=True)
        assert run(data) == etl.Result()

    def counts(self, whole: Path) -> dict[str, Any]:
        again = run(whole, verify=True)
        return {"rejected": again.rejected, "late": again.late}

    @pytest.mark.parametrize("harm", ["head", "states", "no states", "other states", "half a run"])
    def test_one_that_is_damaged_is_not_used(self, tmp_path: Path, whole: Path, harm: str) -> None:
        data = tmp_path / "grown"
        add(data, self.RECORDS[:90])
        run(data)
        (head,) = heads(data)
        add(data, self.RECORDS[90:])
        states = folder(data) / head.states
        if harm == "head":
            (folder(data) / head.name).write_bytes(b"{")
        elif harm == "states":
            states.write_bytes(states.read_bytes()[:-9])
        elif harm == "no states":
            states.unlink()
        elif harm == "other states":
            packed = msgspec.msgpack.encode(dict.fromkeys(head.keys, (b"", b"")))
            states.write_bytes(packed)
        else:
            (folder(data) / head.name).unlink()
        result = run(data)
        assert result.events == len(self.RECORDS), "all was read again"
        same(lake(data), lake(whole))
        if harm == "half a run":
            assert not states.exists(), "no head names it"

    def test_more_tables_than_it_has_seen(self, tmp_path: Path, whole: Path) -> None:
        data = tmp_path / "grown"
        add(data, self.RECORDS[:90])
        run(data, tables=["bars"])
        add(data, self.RECORDS[90:])
        assert run(data).events == len(self.RECORDS)
        same(lake(data), lake(whole))

    def test_it_outlives_the_bronze_it_was_made_from(self, tmp_path: Path, whole: Path) -> None:
        """Retention has dropped the beginning; rows go on as if it had not."""
        data = tmp_path / "grown"
        for start, end in zip(self.CUTS[:4], self.CUTS[1:4], strict=False):
            add(data, self.RECORDS[start:end])
        run(data)
        for record in sorted((data / "raw" / "_commits").rglob("*.json"))[:2]:
            record.unlink()
        for start, end in zip(self.CUTS[3:], self.CUTS[4:], strict=False):
            add(data, self.RECORDS[start:end])
            assert run(data).events == end - start
        same(lake(data), lake(whole))

    def test_bronze_grows_while_a_run_reads_it(self, tmp_path: Path, whole: Path) -> None:
        """A run ends where Bronze ended as it began, also of a chain that it comes to later; the next one goes on."""
        data, rest = tmp_path / "grown", [self.RECORDS[140:]]
        add(data, self.RECORDS[:90], 0)
        add(data, self.RECORDS[90:140], 1)

        def more(_done: int, _total: int) -> None:
            if rest:
                add(data, rest.pop(), 1)

        assert [run(data, progress=more).events for _ in range(3)] == [140, len(self.RECORDS) - 140, 0]
        same(lake(data), lake(whole))

    def test_batches_that_were_merged_since(self, tmp_path: Path, whole: Path) -> None:
        data = tmp_path / "grown"
        for start, end in zip(self.CUTS[:-1], self.CUTS[1:-1], strict=False):
            add(data, self.RECORDS[start:end])
            run(data)
        for tree, layout in ((bronze.tree(data), LAYOUT), (lake_tree(data), LAKE)):
            assert compact(tree, layout, Options(grace_s=0.0)).records_before > 3
        add(data, self.RECORDS[self.CUTS[-2] :])
        assert run(data).events == self.CUTS[-1] - self.CUTS[-2]
        same(lake(data), lake(whole))


def test_a_gap_is_told_once(tmp_path: Path) -> None:
    """Wherever runs end, each key has one Reset behind a gap, also one that comes late."""
    records = recorded(4, 120)
    late = [one for one in records[270:330] if b"C/D" not in (one.key or b"")] + records[330:]
    parts = [records[30:150], records[150:220], late[:9], late[9:40], late[40:70], late[70:]]
    at_once, grown = tmp_path / "at once", tmp_path / "grown"
    for part in parts:
        store(at_once, part, "parquet")
        store(grown, part, "parquet")
        run(grown)
    run(at_once)
    same(lake(grown), lake(at_once))
    assert heads(grown)[0].marks[0].renewed == ("x|A/B", "x|C/D")


@pytest.mark.parametrize("seed", range(3))
def test_a_run_that_is_cut_off_goes_on_from_the_last_one(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off at any call of a checkpoint or between commits, in two chains of one market that overlap."""
    rng = Random(seed)
    lines = history(seed, TestDays.MIDNIGHT - 40, 80)
    books = [line for line in lines if json.loads(line)["channel"] == "orderbook"]
    data, whole = tmp_path / "data", tmp_path / "whole"
    for root in (data, whole):
        bring(root, "books", books)
        bring(root, "rest", [line for line in lines if line not in books])
    run(whole)
    monkeypatch.setattr(task, "COMMIT_BYTES", 20_000)
    save, step = checkpoints.save, 0

    def cut_off(_done: int, total: int) -> None:
        if rng.random() < 0.2:
            raise KeyboardInterrupt

    def half(*given: object) -> checkpoints.Checkpoint:
        nonlocal step
        step += 1
        if step == 1:
            raise KeyboardInterrupt
        head = save(*given)  # type: ignore[arg-type]
        if step == 2:
            raise KeyboardInterrupt
        return head

    monkeypatch.setattr(checkpoints, "save", half)
    for _ in range(6):
        try:
            run(data, progress=cut_off)
        except KeyboardInterrupt:
            continue
    run(data)
    same(lake(data), lake(whole))
    assert not run(data, verify=True).rows
    assert any(head.at_midnight for head in heads(data))


def test_a_day_reads_its_own_day(tmp_path: Path) -> None:
    data, single = tmp_path / "data", tmp_path / "single"
    starts = [TestDays.MIDNIGHT + 86_400 * n - 60 for n in range(3)]
    days = [history(n, start, 180, ("A/B",)) for n, start in enumerate(starts)]
    lines = [line for day in days for line in day]
    bring(data, "all", lines)
    run(data, tmp_path / "every")
    for n, day in enumerate(TestDays.DAYS):
        window = Window.of_days(day, day)
        events = [event for line in lines for event in parse(line, "f")[0]]
        behind = sum(window.since is not None and event.capture_ts >= window.since for event in events)
        result = run(data, single, window=window)
        assert 0 < result.events <= (behind if n else len(events)), "what lies before is in the checkpoint"
    run(data, single)
    same(lake(single), lake(tmp_path / "every"))


def test_an_event_from_before_makes_an_older_one_start(tmp_path: Path) -> None:
    """Two partitions with a market in common grow in turns: the one that lags brings what belongs before."""
    records = recorded(5, 60)
    data, whole = tmp_path / "data", tmp_path / "whole"
    halves = [r for r in records if b"A/B" in (r.key or b"")], [r for r in records if b"C/D" in (r.key or b"")]
    shared = [(0, halves[0][:60] + halves[1][:3]), (1, halves[1][3:60]), (0, halves[0][60:]), (1, halves[1][60:])]
    order = sorted({r.offset: r for _, part in shared for r in part}.values(), key=lambda r: r.offset)
    assert len(order) == len(records)
    for partition, part in shared:
        add(whole, sorted(part, key=lambda r: r.offset), partition)
    run(whole)
    for partition, part in shared[:2]:
        add(data, sorted(part, key=lambda r: r.offset), partition)
    run(data)
    add(data, shared[2][1], 0)
    assert run(data).events > len(shared[2][1]), "from further back"
    add(data, shared[3][1], 1)
    assert run(data).events == len(records), "from the beginning"
    same(lake(data), lake(whole))


def test_kernels_are_put_back_to_the_bit() -> None:
    maker = Maker(FEATURES, BARS, etl.TABLES, [0])
    for key in ("x|A/B", "x|C/D"):
        maker.slot(key, "")
    saved = maker.save()
    other = Maker(FEATURES, BARS, etl.TABLES, [0])
    other.restore(saved)
    assert other.save() == saved
