"""`fluxforge repair partitions` and `migrate`: everything arrives once where it belongs, and nothing by a dry run."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from fluxforge import bronze
from fluxforge.errors import StorageError
from fluxforge.events import BookSnapshot, Ticker, Trade
from fluxforge.files import LocalStorage, chains
from fluxforge.lake import lake_tree, scan
from fluxforge.storage import storage
from fluxforge_cli.main import app
from stored_data import RAW, make_bronze, make_lake

MS_OF_MIDNIGHT = 1_765_584_000_000
"""2025-12-13 00:00 UTC."""


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments])


def told(*arguments: object) -> Any:
    result = run(*arguments, "--json")
    if result.exception:
        raise result.exception
    return json.loads(result.stdout)


def tree_of(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No configuration is at hand."""
    monkeypatch.chdir(tmp_path)


def put(root: str, path: str, table: pa.Table, scratch: Path) -> None:
    """A file as another program would write it."""
    local = scratch / "put.parquet"
    pq.write_table(table, local)
    store = storage(root, "")
    if isinstance(store, LocalStorage):
        (store.root / path).parent.mkdir(parents=True, exist_ok=True)
        (store.root / path).write_bytes(local.read_bytes())
    else:
        store.client.put_object(Bucket=store.bucket, Key=store.key(path), Body=local.read_bytes())


SEED_BARS = pa.table(
    {
        "timestamp": [MS_OF_MIDNIGHT - 60_000, MS_OF_MIDNIGHT, MS_OF_MIDNIGHT + 60_000],
        "symbol": ["BTC/USD"] * 3,
        "duration": pa.array([60, 60, 60], pa.int32()),
        "close": [1.5, 2.5, 3.5],
        "mean_mood": [0.1, 0.2, 0.3],
    }
)
IN_WRONG = "processed/ccxt/orderbook/bars/exchange=coinbase/symbol=BTC/USD/date=2025-12-12/part-0.parquet"


def test_rows_go_to_their_symbol_and_day(root: str, tmp_path: Path) -> None:
    put(root, IN_WRONG, SEED_BARS, tmp_path)
    plan = told("repair", "partitions", "--data-dir", root)
    assert plan["files"][0]["does"] == "import"
    base = "ccxt/orderbook/bars/exchange=coinbase/symbol=BTC-USD"
    assert plan["files"][0]["folders"] == {
        f"{base}/date=2025-12-12/duration=60": 1, f"{base}/date=2025-12-13/duration=60": 2,
    }  # fmt: skip
    assert chains(lake_tree(root)) == []
    assert told("repair", "partitions", "--data-dir", root, "--apply")["files"][0]["does"] == "import"
    rows = scan(root, "bars", symbol="BTC/USD").to_table().sort_by("timestamp").to_pylist()
    assert [(r["close"], r["mean_mood"], r["date"], r["symbol"]) for r in rows] == [
        (1.5, 0.1, date(2025, 12, 12), "BTC-USD"), (2.5, 0.2, date(2025, 12, 13), "BTC-USD"),
        (3.5, 0.3, date(2025, 12, 13), "BTC-USD"),
    ]  # fmt: skip
    assert rows[0]["timestamp"] == (MS_OF_MIDNIGHT - 60_000) * 1_000_000
    again = told("repair", "partitions", "--data-dir", root, "--apply", "--remove")
    assert [one["does"] for one in again["files"]] == ["already"]
    assert told("repair", "partitions", "--data-dir", root)["files"] == []
    assert scan(root, "bars").count_rows() == 3
    assert run("validate", "--data-dir", root, "--only", "lake").exit_code == 0


def test_a_committed_file_goes_back_to_its_place(tmp_path: Path) -> None:
    make_lake(tmp_path)
    before = tree_of(tmp_path)
    folder = next((tmp_path / "processed").rglob("orderbook/bars/exchange=binance/symbol=BTC-USDT"))
    (folder.parent / "symbol=BTC").mkdir()
    folder.rename(folder.parent / "symbol=BTC" / "USDT")
    moved = tree_of(tmp_path)
    found = told("repair", "partitions", "--data-dir", tmp_path)["files"]
    assert [one["does"] for one in found] == ["restore"] * 6
    assert tree_of(tmp_path) == moved
    told("repair", "partitions", "--data-dir", tmp_path, "--apply", "--remove")
    assert tree_of(tmp_path) == before
    assert run("validate", "--data-dir", tmp_path).exit_code == 0


def test_a_copy_of_a_committed_file_adds_no_rows(tmp_path: Path) -> None:
    make_lake(tmp_path)
    bars = next((tmp_path / "processed").rglob("bars/**/*.parquet"))
    bars.with_name("copy.parquet").write_bytes(bars.read_bytes())
    (found,) = told("repair", "partitions", "--data-dir", tmp_path, "--apply")["files"]
    assert found["does"] == "copy"
    assert scan(tmp_path, "bars").count_rows() == 288


@pytest.mark.parametrize(
    ("path", "table", "why"),
    [
        ("processed/somewhere/x.parquet", SEED_BARS, "its path is not"),
        (IN_WRONG, SEED_BARS.drop(["timestamp"]), "no column timestamp"),
        (IN_WRONG, SEED_BARS.drop(["duration"]), "duration"),
        (IN_WRONG, SEED_BARS.set_column(0, "timestamp", pa.array([1, 2, 3])), "no unit"),
        (IN_WRONG, SEED_BARS.set_column(0, "timestamp", pa.array([MS_OF_MIDNIGHT, None, 3])), "without a timestamp"),
    ],
)
def test_what_cannot_be_understood_is_left_and_told(tmp_path: Path, path: str, table: pa.Table, why: str) -> None:
    put(str(tmp_path), path, table, tmp_path)
    result = run("repair", "partitions", "--data-dir", tmp_path, "--apply", "--remove")
    assert isinstance(result.exception, StorageError)
    assert why in result.stdout
    assert (tmp_path / path).exists()
    assert chains(lake_tree(tmp_path)) == []


def test_json_segments_become_parquet(root: str) -> None:
    make_bronze(root, raw_format="ndjson")
    tree = bronze.tree(root)
    before = list(bronze.read(tree, RAW))
    names = list(tree.storage.walk("ready"))
    assert told("migrate", "--data-dir", root)["batches"] == 2
    assert list(tree.storage.walk("ready")) == names
    done = told("migrate", "--data-dir", root, "--apply")
    assert (done["files"], done["rows"], done["failed"]) == (6, 124, [])
    assert list(bronze.read(tree, RAW)) == before
    assert told("migrate", "--data-dir", root)["batches"] == 0
    assert run("validate", "--data-dir", root, "--only", "bronze").exit_code == 0
    (count,) = told("query", "SELECT count(*) AS n FROM orderbook", "--data-dir", root)
    assert count == {"n": 80}


AT = datetime(2025, 12, 13, 0, 0, 1, 250, UTC)
COMMON = {"exchange": "binanceus", "symbol": "BTC-USDT", "capture_ts": AT, "timestamp": MS_OF_MIDNIGHT}
STAMP = pa.timestamp("us", "UTC")
LEVELS = pa.list_(pa.struct([("price", pa.float64()), ("size", pa.float64())]))


def seed(root: Path) -> None:
    """A data folder of the first generation."""
    text = pa.string()
    common = [("exchange", text), ("symbol", text), ("capture_ts", STAMP), ("timestamp", pa.int64())]
    trade = {**COMMON, "trade_id": "7", "side": "sell", "price": 100.5, "amount": 0.25, "info_json": '{"t": 7}'}
    book = {**COMMON, "nonce": 5, "bids": [{"price": 100.0, "size": 1.0}], "asks": [{"price": 101.0, "size": 2.0}]}
    ticker = {**COMMON, "bid": 100.0, "bid_volume": 1.0, "ask": 101.0, "ask_volume": None, "last": 100.5}
    floats = [(name, pa.float64()) for name in ("bid", "bid_volume", "ask", "ask_volume", "last")]
    own = {
        "trades": (
            trade,
            [(name, text) for name in ("trade_id", "side", "info_json")]
            + [(name, pa.float64()) for name in ("price", "amount")],
        ),
        "orderbook": (book, [("nonce", pa.int64()), ("bids", LEVELS), ("asks", LEVELS)]),
        "ticker": (ticker, floats),
    }  # fmt: skip
    for channel, (row, fields) in own.items():
        table = pa.Table.from_pylist([row], schema=pa.schema([*common, *fields]))
        put(str(root), f"raw/ready/ccxt/{channel}/segment_1.parquet", table, root.parent)
    line = {"type": "trades", "exchange": "binanceus", "symbol": "BTC/USDT", "capture_ts": AT.isoformat()}
    line["data"] = {"id": "8", "price": 1.0, "amount": 2.0, "side": "buy", "timestamp": MS_OF_MIDNIGHT}  # type: ignore[assignment]
    (root / "raw/ready/ccxt/segment_2.ndjson").write_text(json.dumps(line) + "\n" + "no json\n")
    put(str(root), IN_WRONG, SEED_BARS, root.parent)


def test_a_first_generation_folder_is_taken_once(root: str, tmp_path: Path) -> None:
    old = tmp_path / "old"
    seed(old)
    before = tree_of(old)
    plan = told("migrate", old, "--data-dir", root)
    assert (plan["segments"], [one["does"] for one in plan["files"]]) == (4, ["import"])
    assert chains(bronze.tree(root)) == chains(lake_tree(root)) == []
    done = told("migrate", old, "--data-dir", root, "--apply")
    assert sorted(((one["lines"], one["bad"]) for one in done["landed"]), reverse=True) == [
        (2, 1),
        (1, 0),
        (1, 0),
        (1, 0),
    ]
    tree = bronze.tree(root)
    events = [event for chain in chains(tree) for _, event in bronze.read_events(tree, chain)]
    book = next(event for event in events if isinstance(event, BookSnapshot))
    trades = sorted((event for event in events if isinstance(event, Trade)), key=lambda event: event.id)
    ticker = next(event for event in events if isinstance(event, Ticker))
    assert {event.symbol for event in events} == {"BTC/USDT"}
    assert {event.capture_ts for event in events} == {(MS_OF_MIDNIGHT + 1000) * 1_000_000 + 250_000}
    assert {event.ts for event in events} == {MS_OF_MIDNIGHT * 1_000_000}
    assert [(t.id, t.price, t.size, t.side, t.raw) for t in trades] == [
        ("7", 100.5, 0.25, -1, b'{"t":7}'),
        ("8", 1.0, 2.0, 1, None),
    ]
    assert (book.seq, len(book.bids), len(book.asks)) == (5, 16, 16)
    assert (ticker.bid, ticker.bid_size, ticker.ask, ticker.ask_size) == (100.0, 1.0, 101.0, None)
    assert scan(root, "bars").count_rows() == 3
    again = told("migrate", old, "--data-dir", root, "--apply")
    assert all(one["already"] for one in again["landed"])
    assert [one["does"] for one in again["files"]] == ["already"]
    assert tree_of(old) == before
    assert run("validate", "--data-dir", root).exit_code == 0


def test_a_folder_without_data_is_refused(tmp_path: Path) -> None:
    assert "name the data folder" in str(run("migrate", tmp_path, "--data-dir", tmp_path / "x").exception)
