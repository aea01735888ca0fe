"""`fluxforge query`: the views, what they open, what is written, and how a statement fails."""

from __future__ import annotations

import csv
import json
import struct
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from fluxforge import bronze
from fluxforge.errors import ConfigError, FluxForgeError
from fluxforge.events import BookDelta, BookSnapshot
from fluxforge_cli.main import app
from stored_data import DAY, FIRST, RAW, make_bronze, make_lake


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["query", *arguments])


def answer(data: object, sql: str, *more: str) -> list[dict[str, object]]:
    result = run(sql, "--data-dir", str(data), "--json", *more)
    if result.exception:
        raise result.exception
    found: list[dict[str, object]] = json.loads(result.stdout)
    return found


@pytest.fixture
def data(root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A root of each kind in turn, with Bronze and a lake."""
    monkeypatch.chdir(tmp_path)
    make_lake(root)
    make_bronze(root)
    return root


def test_every_view_answers(data: str) -> None:
    counts = {name: answer(data, f"SELECT count(*) AS n FROM {name}") for name in ("bars", "ticker", "orderbook")}
    assert counts == {"bars": [{"n": 288}], "ticker": [{"n": 144}], "orderbook": [{"n": 80}]}
    assert answer(data, "SELECT symbol, sum(books) AS n FROM coverage GROUP BY symbol") == [
        {"symbol": "ETH/USDT", "n": 40}
    ]
    joined = "WITH t AS (SELECT * FROM ticker) SELECT count(*) n FROM bars b JOIN t USING (symbol, timestamp)"
    joined += " WHERE b.duration = 60"
    assert answer(data, joined) == [{"n": 144}]


def test_books_come_back_bit_for_bit(data: str) -> None:
    sql = 'SELECT bid_prices, bid_sizes, ask_prices, ask_sizes FROM orderbook ORDER BY "offset"'
    shown = answer(data, sql)
    events = [e for _, e in bronze.read_events(bronze.tree(data), RAW) if isinstance(e, BookSnapshot | BookDelta)]
    assert len(shown) == len(events) == 80
    for line, event in zip(shown, events, strict=True):
        for side in ("bid", "ask"):
            flat = [x for pair in zip(line[f"{side}_prices"], line[f"{side}_sizes"], strict=True) for x in pair]
            assert struct.pack(f"<{len(flat)}d", *flat) == getattr(event, f"{side}s")


@pytest.mark.parametrize(
    ("where", "rows", "opened"),
    [
        ("symbol = 'BTC-USDT' AND date = '2022-01-09' AND duration = 60", 24, 1),
        ("symbol = 'BTC-USDT' AND date >= '2022-01-09'", 96, 4),
        ("exchange = 'kraken'", 0, 0),
        (f"timestamp >= {FIRST + 2 * DAY}", 96, 4),
        ("close = -1.0", 144, 12),
    ],
)
def test_a_condition_opens_only_files_that_can_hold_such_rows(
    tmp_path: Path, where: str, rows: int, opened: int
) -> None:
    """Every other file is taken away first, so that opening one would fail."""
    make_lake(tmp_path)
    bars = sorted((tmp_path / "processed").rglob("bars/**/*.parquet"))
    assert len(bars) == 12
    named = where.split("'") if "'" in where else []
    keep = [p for p in bars if _could_hold(p, where, named)]
    assert len(keep) == opened
    spared = keep or bars[:1]  # one footer is read for the columns
    first = bars[-1]  # of the newest record
    for path in bars:
        if path not in spared and path != first:
            path.unlink()
    assert answer(tmp_path, f"SELECT count(*) AS n FROM bars WHERE {where}") == [{"n": rows}]


def _could_hold(path: Path, where: str, named: list[str]) -> bool:
    text = str(path)
    if "kraken" in where:
        return False
    if "BTC-USDT" in where and "symbol=BTC-USDT" not in text:
        return False
    if "date = " in where and "date=2022-01-09" not in text:
        return False
    if ("date >= " in where) and "date=2022-01-08" in text:
        return False
    if "timestamp" in where and "date=2022-01-10" not in text:
        return False
    return "duration = 60" not in where or "duration=60" in text


def test_times_choose_segments_and_rows(tmp_path: Path) -> None:
    make_lake(tmp_path)
    make_bronze(tmp_path)
    assert answer(tmp_path, "SELECT count(*) n FROM orderbook", "--from", "2022-01-09") == [{"n": 40}]
    assert answer(tmp_path, "SELECT count(*) n FROM orderbook", "--to", "2022-01-08T00:00:05") == [{"n": 10}]
    assert answer(tmp_path, "SELECT count(*) n FROM ticker", "--from", "2022-01-09", "--to", "2022-01-10") == [
        {"n": 48}
    ]


def test_lines_of_json_are_order_books_too(tmp_path: Path) -> None:
    make_bronze(tmp_path)
    make_bronze(tmp_path, chain=RAW._replace(partition=1), raw_format="ndjson")
    found = answer(tmp_path, "SELECT partition, max(list_sum(ask_prices)) AS s FROM orderbook GROUP BY 1 ORDER BY 1")
    assert [line["partition"] for line in found] == [0, 1]
    assert found[0]["s"] == found[1]["s"]


@pytest.mark.parametrize("name", ["out.csv", "out.parquet"])
def test_a_file_gets_every_row(tmp_path: Path, name: str) -> None:
    make_lake(tmp_path)
    target = tmp_path / name
    result = run("SELECT symbol, date, close FROM bars", "--data-dir", str(tmp_path), "--output", str(target))
    assert "288 rows written" in result.stderr
    assert [p.name for p in tmp_path.glob("*.part")] == []
    if name.endswith("csv"):
        with target.open() as file:
            assert len(list(csv.reader(file))) == 289
    else:
        assert pq.read_table(target).num_rows == 288


def test_table_and_csv_on_standard_output(tmp_path: Path) -> None:
    make_lake(tmp_path)
    sql = "SELECT symbol, count(*) AS n FROM bars GROUP BY symbol ORDER BY symbol"
    assert run(sql, "--data-dir", str(tmp_path), "--format", "csv").stdout == "symbol,n\nBTC-USDT,144\nETH-USDT,144\n"
    shown = run(sql, "--data-dir", str(tmp_path)).stdout
    assert "BTC-USDT" in shown and "144" in shown


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("SELECT * FROM candles", "there is no view candles (one of hf, "),
        ("SELEC 1", "Parser Error"),
        ("SELECT nope FROM bars", "nope"),
        ("SELECT 1; SELECT 2", "one statement is expected"),
        ("SELECT * FROM sql", "there is no view sql"),
        ("", "one statement is expected"),
        ("COPY (SELECT 1) TO 'x.csv'", "disabled"),
        ("SELECT * FROM read_csv('/etc/passwd')", "disabled"),
    ],
)
def test_errors_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sql: str, told: str) -> None:
    monkeypatch.chdir(tmp_path)
    make_lake(tmp_path)
    error = run(sql, "--data-dir", str(tmp_path)).exception
    assert isinstance(error, FluxForgeError)
    assert told in str(error)
    assert "\n" not in str(error)
    assert not (tmp_path / "x.csv").exists()


def test_an_output_of_another_kind_is_refused(tmp_path: Path) -> None:
    assert isinstance(run("SELECT 1", "--output", "x.xls").exception, ConfigError)


def test_an_empty_lake_says_so(tmp_path: Path) -> None:
    error = run("SELECT * FROM bars", "--data-dir", str(tmp_path)).exception
    assert "no committed bars rows" in str(error)
