"""Chains shared among processes: the rows of one process, whatever dies on the way."""

from __future__ import annotations

import multiprocessing as mp
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from fluxforge import bronze, etl
from fluxforge.errors import SegmentError, StorageError
from fluxforge.etl.extents import extents, groups
from fluxforge.validate import validate
from shared.etl.test_etl import bring, history, lake, run, same

MARKETS = ("A/B", "C/D", "E/F")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three markets in two files each, and a file that one of them shares with a fourth."""
    data = tmp_path / "data"
    for number, market in enumerate(MARKETS):
        lines = history(number, 0, 90, (market,))
        bring(data, f"{number}-first", lines[:200])
        bring(data, f"{number}-second", lines[200:])
    bring(data, "both", history(7, 95, 30, ("C/D", "G/H")))
    return data


@pytest.fixture
def alone(data: Path, tmp_path: Path) -> Path:
    """The lake of one process."""
    run(data, tmp_path / "alone")
    return tmp_path / "alone"


def names(data: Path) -> list[list[int]]:
    """Rows of each chain, group by group."""
    tree = bronze.tree(data)
    return [[extent.rows for extent in group] for group in groups(tree, extents(tree))]


def test_chains_with_a_market_in_common_stay_together(data: Path) -> None:
    found = names(data)
    assert sorted(map(len, found)) == [2, 2, 3]
    assert len(found[0]) == 3, "the largest comes first"
    bring(data, "bridge", history(8, 130, 10, ("A/B", "E/F")))
    assert sorted(map(len, names(data))) == [3, 5]


@pytest.mark.parametrize("workers", [2, 5])
def test_rows_are_those_of_one_process(data: Path, alone: Path, tmp_path: Path, workers: int) -> None:
    output = tmp_path / "shared"
    told: list[tuple[int, int]] = []
    made = run(data, output, workers=workers, progress=lambda *done: told.append(done))
    same(lake(output), lake(alone))
    single = run(data, tmp_path / "again")
    assert made == single
    assert told[-1] == (single.events, single.events)
    assert run(data, output, workers=workers) == etl.Result()


def test_a_process_that_dies_is_replaced(data: Path, alone: Path, tmp_path: Path) -> None:
    """At its first word, and once more after it has committed a chain."""
    killed: list[int | None] = []

    def kill(done: int, total: int) -> None:
        if len(killed) < 1 or (len(killed) < 2 and done > total / 2):
            child = mp.active_children()[0]
            killed.append(child.pid)
            child.kill()
            child.join()

    output = tmp_path / "shared"
    run(data, output, workers=2, progress=kill)
    assert len(set(killed)) == 2
    same(lake(output), lake(alone))
    assert not validate(output, "lake").problems
    assert run(data, output) == etl.Result(), "all of it is there"


def test_a_group_that_kills_every_process_is_told(data: Path, tmp_path: Path) -> None:
    def kill(_done: int, _total: int) -> None:
        for child in mp.active_children():
            child.kill()

    with pytest.raises(StorageError, match="3 processes died over"):
        run(data, tmp_path / "shared", workers=2, progress=kill)
    assert not mp.active_children()


def test_errors_come_back(data: Path, tmp_path: Path) -> None:
    """A segment that cannot be read asks the caller; what a process raises ends the run."""
    segment = min((data / "raw" / "ready").rglob("orderbook/*.parquet"))
    damaged = bytearray(segment.read_bytes())
    group = pq.ParquetFile(segment).metadata.row_group(0)
    at = next(group.column(i) for i in range(group.num_columns) if group.column(i).path_in_schema == "capture_ts")
    damaged[at.data_page_offset + 10 : at.data_page_offset + 20] = bytes(10)
    segment.write_bytes(damaged)
    with pytest.raises(SegmentError, match=segment.name):
        run(data, tmp_path / "stop", workers=2)
    named: list[SegmentError] = []
    run(data, tmp_path / "go-on", workers=2, on_error=named.append)
    run(data, tmp_path / "go-on-alone", on_error=lambda _: None)
    assert any(segment.name in str(error) for error in named)
    same(lake(tmp_path / "go-on"), lake(tmp_path / "go-on-alone"))
    with pytest.raises(StorageError, match="of configuration"):
        etl.run(data, tmp_path / "go-on", workers=2)
    assert not mp.active_children()
