"""`fluxforge ls` and `describe`: what is listed is what is there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from fluxforge import bronze
from fluxforge.clock import NS
from fluxforge.errors import ConfigError, SegmentError, StorageError
from fluxforge.files import Chain, retain, settle
from fluxforge_cli.main import app
from stored_data import DAY, FIRST, RAW, make_bronze, make_lake


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments])


def told(*arguments: object) -> Any:
    result = run(*arguments, "--json")
    if result.exception:
        raise result.exception
    return json.loads(result.stdout)


@pytest.fixture
def data(root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A root of each kind in turn, with Bronze and a lake."""
    monkeypatch.chdir(tmp_path)
    make_lake(root)
    make_bronze(root)
    return root


def test_every_market_is_listed(data: str) -> None:
    found = {(e["layer"], e["table"], e["symbol"]): e for e in told("ls", "--data-dir", data)}
    assert set(found) == {
        *(("lake", table, symbol) for table in ("bars", "ticker") for symbol in ("BTC-USDT", "ETH-USDT")),
        *(("bronze", table, symbol) for table in ("orderbook", "trades") for symbol in ("BTC/USDT", "ETH/USDT")),
        ("bronze", "control", "ETH/USDT"),
    }
    bars = found["lake", "bars", "BTC-USDT"]
    assert (bars["rows"], bars["files"], bars["exchange"], bars["source"]) == (144, 6, "binance", "ccxt")
    assert (bars["first_ts"], bars["last_ts"]) == (FIRST, FIRST + 2 * DAY + 23 * 3600 * NS)
    books = found["bronze", "orderbook", "BTC/USDT"]
    assert (books["rows"], books["files"]) == (40, 2)
    assert (books["first_ts"], books["last_ts"]) == (FIRST, FIRST + DAY + 18 * NS)
    both = books["bytes"] + found["bronze", "orderbook", "ETH/USDT"]["bytes"]
    fast = {e["table"]: e for e in told("ls", "--data-dir", data, "--only", "bronze", "--fast")}
    assert fast["orderbook"]["rows"] == 80
    assert abs(fast["orderbook"]["bytes"] - both) <= 2
    assert fast["orderbook"]["symbol"] == ""


def test_the_list_names_what_describe_takes(data: str) -> None:
    """And has no columns of losses where there are none."""
    shown = run("ls", "--data-dir", data).stdout
    names = {line.split()[0] for line in shown.splitlines() if "binance" in line}
    assert names == {"raw.orderbook", "raw.trades", "raw.control", "bars", "ticker"}
    for name in names:
        assert run("describe", name, "--data-dir", data).exit_code == 0
    assert "gap" not in shown and "dropped" not in shown


def test_a_market_is_chosen_by_either_spelling(data: str) -> None:
    for symbol in ("ETH/USDT", "ETH-USDT"):
        found = told("ls", "--data-dir", data, "--symbol", symbol)
        assert {e["symbol"] for e in found} == {"ETH/USDT", "ETH-USDT"}
    assert told("ls", "--data-dir", data, "--exchange", "kraken") == []
    assert isinstance(run("ls", "--data-dir", data, "--symbol", "X", "--fast").exception, ConfigError)


def test_gaps_and_what_retention_dropped(tmp_path: Path) -> None:
    make_bronze(tmp_path)
    tree = bronze.tree(tmp_path)
    with Chain.open(tree, RAW, first=200, on_gap="record"):
        pass
    held = settle.lock(tree, RAW)
    retain.drop(tree, RAW, 62, note={"why": "age"}, grace_s=0)
    held.release()
    (trades,) = (e for e in told("ls", "--data-dir", tmp_path, "--symbol", "BTC/USDT") if e["table"] == "trades")
    assert (trades["gap_offsets"], trades["dropped_rows"], trades["rows"]) == (76, 62, 10)
    (chain,) = told("describe", "raw.trades", "--data-dir", tmp_path)["chains"]
    assert (chain["start"], chain["next_offset"]) == (62, 200)
    assert chain["gaps"] == [[124, 200]]
    assert chain["dropped"] == [[0, 62, 62]]
    shown = run("describe", "raw.trades", "--data-dir", tmp_path).stdout
    assert "gap: [124, 200)" in shown and "dropped on purpose: [0, 62), 62 rows" in shown
    shown = run("ls", "--data-dir", tmp_path).stdout
    assert "gap offsets" in shown and "dropped rows" in shown and "76" in shown


def test_describe_tells_columns_from_footers(data: str) -> None:
    found = told("describe", "bars", "--symbol", "BTC/USDT", "--data-dir", data)
    assert (found["rows"], found["files"]) == (144, 6)
    assert found["days"] == {"2022-01-08": 48, "2022-01-09": 48, "2022-01-10": 48}
    assert found["config_hashes"] == ["c0ffee"]
    columns = {column["name"]: column for column in found["columns"]}
    assert columns["close"] == {"name": "close", "type": "double", "files": 6, "nulls": 0, "min": -1.0, "max": 23.0}
    assert columns["volume"]["nulls"] == 144
    assert columns["timestamp"]["min"] == FIRST
    assert "close" in run("describe", "bars", "--data-dir", data).stdout
    raw = run("describe", "raw.trades", "--data-dir", data).stdout
    assert "binance|BTC/USDT" in raw and "dictionary" not in raw and "b'" not in raw


def test_json_segments_are_listed_too(tmp_path: Path) -> None:
    make_bronze(tmp_path, raw_format="ndjson")
    found = {(e["table"], e["symbol"]): e["rows"] for e in told("ls", "--data-dir", tmp_path)}
    assert found == {
        ("control", "ETH/USDT"): 4, ("orderbook", "BTC/USDT"): 40, ("orderbook", "ETH/USDT"): 40,
        ("trades", "BTC/USDT"): 20, ("trades", "ETH/USDT"): 20,
    }  # fmt: skip


def test_errors_say_what_to_do(tmp_path: Path) -> None:
    assert "one of hf, bars" in str(run("describe", "candles", "--data-dir", tmp_path).exception)
    assert isinstance(run("describe", "bars", "--data-dir", tmp_path).exception, StorageError)
    assert "nothing is stored" in run("ls", "--data-dir", tmp_path).stdout
    make_bronze(tmp_path)
    (first, *_) = (tmp_path / "raw" / "ready").rglob("*.parquet")
    pq.read_table(first)
    first.write_bytes(b"PAR1 of no use")
    error = run("ls", "--data-dir", tmp_path).exception
    assert isinstance(error, SegmentError) and first.name in str(error)
