"""`fluxforge coverage`: pages of the ledger in Bronze, summed by hour, shown and exported."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.csv
import pyarrow.parquet
import pytest
from typer.testing import CliRunner, Result

from fluxforge import bronze, codec
from fluxforge.clock import MS, NS
from fluxforge.coverage import HOUR, SCHEMA, by_hour
from fluxforge.errors import ConfigError
from fluxforge.events import AnyEvent, Coverage, Heartbeat
from fluxforge.files import Chain, ChainId
from fluxforge.log import Record
from fluxforge_cli.main import app

TEN = 1_700_000_000 * NS // HOUR * HOUR
WHO = {"exchange": "sim", "native": "A", "source": "sim", "collector": "c1", "connection": "x", "ts": None}


def page(since: int, until: int, symbol: str = "A/USDT", **counts: int) -> Coverage:
    return Coverage(symbol=symbol, capture_ts=until, since=since, until=until, **WHO, **counts)  # type: ignore[arg-type]


def store(folder: Path, events: list[AnyEvent]) -> None:
    with Chain.open(bronze.tree(folder), ChainId("log", "market.raw", 0), first=0) as chain:
        writer = bronze.BronzeWriter(chain)
        writer.append(
            [
                Record(0, n, event.capture_ts // MS, event.key.encode(), codec.encode(event), codec.headers(event))
                for n, event in enumerate(events)
            ]
        )
        writer.commit(len(events))


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["coverage", *arguments])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two symbols; the first collector is away from 10:20 to 10:30 and all of 11."""
    minute = 60 * NS
    store(
        tmp_path,
        [
            page(
                TEN, TEN + 20 * minute, books=100, gaps=1, dark=3 * NS, stamped=100, skew_p50=-5 * MS, skew_p99=9 * MS
            ),
            page(TEN, TEN + HOUR, symbol="B/USDT", trades=7),
            Heartbeat(symbol="A/USDT", capture_ts=TEN + 1, **WHO),  # type: ignore[arg-type]
            page(TEN + 30 * minute, TEN + HOUR, books=50, dark=NS, stamped=300, skew_p50=-1 * MS, skew_p99=20 * MS),
            page(TEN + 2 * HOUR, TEN + 2 * HOUR + minute, books=5),
        ],
    )
    return tmp_path


def test_parts_of_an_hour_are_one_row_and_absence_is_shown(folder: Path) -> None:
    rows = json.loads(run("--data-dir", str(folder), "--symbol", "A/USDT", "--json").output)
    assert [row["seconds"] for row in rows] == [50 * 60, 0, 60]
    assert [row["absent_s"] for row in rows] == [10 * 60, 3600, 0]
    assert [row["dark_s"] for row in rows] == [4, 0, 0]
    assert [row["books"] for row in rows] == [150, 0, 5]
    assert rows[0]["gaps"] == 1
    assert (rows[0]["skew_p50_ms"], rows[0]["skew_p99_ms"], rows[2]["skew_p50_ms"]) == (-2.0, 20.0, None)


def test_the_table_names_market_and_hour(folder: Path) -> None:
    text = run("--data-dir", str(folder)).output
    assert "sim A/USDT" in text
    assert "sim B/USDT" in text
    assert "2023-11-14 22" in text


@pytest.mark.parametrize("hours", [1, 3])
def test_the_table_has_a_column_of_what_there_was(folder: Path, hours: int) -> None:
    """No heading is cut short; the losses of the first hour have theirs."""
    since = f"2023-11-1{'4T22' if hours == 3 else '5T00'}:00"
    words = run("--data-dir", str(folder), "--symbol", "A/USDT", "--from", since).output.split()
    assert {"market", "seen", "dark", "absent", "books", "trades"} <= set(words)
    assert ("gaps" in words, "skew" in words) == (hours == 3, hours == 3)
    assert not {"resyncs", "duplicates", "shed", "holes", "collector"} & set(words)
    assert "…" not in "".join(words)


def test_time_and_exchange_choose(folder: Path) -> None:
    late = json.loads(run("--data-dir", str(folder), "--from", "2023-11-15T00:00", "--json").output)
    assert [row["books"] for row in late] == [5]
    assert json.loads(run("--data-dir", str(folder), "--exchange", "other", "--json").output) == []


@pytest.mark.parametrize("name", ["ledger.csv", "ledger.parquet"])
def test_exports_hold_every_row(folder: Path, tmp_path: Path, name: str) -> None:
    target = tmp_path / name
    assert f"written to {target}" in run("--data-dir", str(folder), "--export", str(target)).output
    read = pyarrow.csv.read_csv if name.endswith("csv") else pyarrow.parquet.read_table
    found = read(target)
    assert found.column_names == SCHEMA.names
    assert found.num_rows == 4


def test_errors_name_the_option(folder: Path) -> None:
    error = run("--data-dir", str(folder), "--from", "yesterday").exception
    assert isinstance(error, ConfigError)
    assert "--from 'yesterday'" in str(error)
    assert isinstance(run("--data-dir", str(folder), "--export", "x.xls").exception, ConfigError)


def test_nothing_stored_says_when_there_will_be(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    assert "when an hour ends" in run("--data-dir", str(tmp_path)).output
    assert by_hour([]).num_rows == 0
