"""Segments of the first generation: what is sound lands, and every fault is named, counted and kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fluxforge import bronze
from fluxforge.events import AnyEvent, BookSnapshot, Trade
from fluxforge.files import chains
from fluxforge_cli.importer import Landed, land
from fluxforge_cli.importer.seed import symbol_of

AT = datetime(2022, 1, 8, tzinfo=UTC)
NS_OF_AT = 1_641_600_000_000_000_000
LEVELS = pa.list_(pa.struct([("price", pa.float64()), ("size", pa.float64())]))
COMMON = [
    ("exchange", pa.string()),
    ("symbol", pa.string()),
    ("capture_ts", pa.timestamp("us", "UTC")),
    ("timestamp", pa.int64()),
]
TRADES = pa.schema(
    [
        *COMMON,
        *((name, pa.string()) for name in ("trade_id", "side", "info_json")),
        ("price", pa.float64()),
        ("amount", pa.float64()),
    ]
)
BOOKS = pa.schema([*COMMON, ("nonce", pa.int64()), ("bids", LEVELS), ("asks", LEVELS)])


def trade(number: int, **more: Any) -> dict[str, Any]:
    own = {"exchange": "binanceus", "symbol": "BTC-USDT", "capture_ts": AT, "timestamp": 1_641_600_000_000}
    return {**own, "trade_id": str(number), "side": "buy", "price": 1.0, "amount": 2.0, **more}


def book(**more: Any) -> dict[str, Any]:
    level = {"price": 100.0, "size": 1.0}
    return {**trade(0), "nonce": 5, "bids": [level], "asks": [level], **more}


def write(path: Path, schema: pa.Schema, *rows: dict[str, Any], **options: Any) -> Path:
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), path, **options)
    return path


def landed(data: Path, path: Path) -> Landed:
    (found,) = land([path], "seed", data)
    return found


def stored(data: Path) -> list[AnyEvent]:
    tree = bronze.tree(data)
    return [event for chain in chains(tree) for _, event in bronze.read_events(tree, chain)]


def kept(data: Path) -> list[bytes]:
    """What does not decode, as it was."""
    rows = [
        row
        for path in (data / "raw/ready").rglob("control/*.parquet")
        for row in pq.ParquetFile(path).read().to_pylist()
    ]
    return [row["value"] for row in rows if row["kind"] == "undecodable"]


BAD_TRADES: dict[str, tuple[dict[str, Any], str]] = {
    "info that is no JSON": ({"info_json": "{oops"}, "Expecting property name"),
    "no exchange": ({"exchange": None}, "exchange"),
    "no symbol": ({"symbol": None}, "symbol"),
    "no capture time": ({"capture_ts": None}, "capture_ts"),
    "no price": ({"price": None}, "no 'price'"),
    "no amount": ({"amount": None}, "no 'amount'"),
    "a side that is none": ({"side": "long"}, "side 'long' is none of"),
}


@pytest.mark.parametrize("name", BAD_TRADES)
def test_a_bad_row_is_named_and_kept_and_the_next_is_read(tmp_path: Path, name: str) -> None:
    values, told = BAD_TRADES[name]
    path = write(tmp_path / "f.parquet", TRADES, trade(1), trade(2, **values), trade(3))
    found = landed(tmp_path / "data", path)
    assert (found.lines, found.bad, found.broken) == (3, 1, None)
    assert found.first_bad[0].startswith(f"{path}:2: ") and told in found.first_bad[0]
    assert [event.id for event in stored(tmp_path / "data") if isinstance(event, Trade)] == ["1", "3"]
    (raw,) = kept(tmp_path / "data")
    assert json.loads(raw)


@pytest.mark.parametrize("side", [[None], None, [{"price": 1.0, "size": 2.0}, None]])
def test_a_book_whose_side_is_none_is_named(tmp_path: Path, side: Any) -> None:
    path = write(tmp_path / "f.parquet", BOOKS, book(), book(bids=side), book())
    found = landed(tmp_path / "data", path)
    assert (found.bad, found.events["book_snapshot"]) == (1, 2)
    assert found.first_bad[0].startswith(f"{path}:2: ")


def test_a_size_that_is_missing_makes_an_invalid_book_and_is_not_lost(tmp_path: Path) -> None:
    path = write(tmp_path / "f.parquet", BOOKS, book(asks=[{"price": 100.0, "size": None}]))
    assert landed(tmp_path / "data", path).bad == 0
    (found,) = stored(tmp_path / "data")
    assert isinstance(found, BookSnapshot) and found.asks[8:] == b"\x00\x00\x00\x00\x00\x00\xf8\x7f"


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def spoil_page(path: Path) -> None:
    """The second row group's times are others than its checksum says."""
    with pq.ParquetFile(path) as opened:
        column = opened.metadata.row_group(1).column(opened.schema_arrow.names.index("timestamp"))
    content = bytearray(path.read_bytes())
    content[(column.dictionary_page_offset or column.data_page_offset) + column.total_compressed_size - 3] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "rows"),
    [
        (cut, 0),
        (lambda path: path.write_bytes(b""), 0),
        (lambda path: path.write_bytes(b"no Parquet at all"), 0),
        (spoil_page, 5000),
    ],
)
def test_a_damaged_file_is_named_and_the_next_is_read(
    tmp_path: Path, damage: Callable[[Path], object], rows: int
) -> None:
    """Rows before the damage are kept."""
    bad = write(
        tmp_path / "bad.parquet", TRADES, *(trade(n) for n in range(10_000)), row_group_size=5000,
        write_page_checksum=True, use_dictionary=False, compression="none",
    )  # fmt: skip
    damage(bad)
    good = write(tmp_path / "good.parquet", TRADES, trade(1))
    found = {each.path: each for each in land([bad, good], "seed", tmp_path / "data")}
    assert str(bad) in (found[bad].broken or "")
    assert (found[bad].lines, found[good].events["trade"]) == (rows, 1)
    assert len(stored(tmp_path / "data")) == rows + 1


@pytest.mark.parametrize("gone", ["exchange", "symbol", "capture_ts", "trade_id"])
def test_columns_of_no_known_channel_are_told(tmp_path: Path, gone: str) -> None:
    schema = TRADES.remove(TRADES.get_field_index(gone))
    found = landed(tmp_path / "data", write(tmp_path / "f.parquet", schema, trade(1)))
    assert "its columns are of no known channel" in (found.broken or "")
    assert (found.lines, stored(tmp_path / "data")) == (0, [])


def test_a_file_without_rows_is_sound(tmp_path: Path) -> None:
    found = landed(tmp_path / "data", write(tmp_path / "f.parquet", TRADES))
    assert (found.lines, found.bad, found.broken) == (0, 0, None)


LINE: dict[str, Any] = {
    "type": "trades", "exchange": "binanceus", "symbol": "BTC-USDT", "capture_ts": "2022-01-08T00:00:00",
    "data": {"id": "8", "price": 1.0, "amount": 2.0, "side": "buy", "timestamp": 1_641_600_000_000},
}  # fmt: skip
BAD_LINES: dict[str, tuple[bytes, str]] = {
    "no JSON": (b"{oops", "Expecting"),
    "not UTF-8": (b'{"a": "\xff"}', "utf-8"),
    "no object": (b"[1]", "list"),
    "no channel": (json.dumps({**LINE, "type": None}).encode(), "channel"),
    "another channel": (json.dumps({**LINE, "type": "candles"}).encode(), "candles"),
    "no capture time": (json.dumps({k: v for k, v in LINE.items() if k != "capture_ts"}).encode(), "no 'capture_ts'"),
    "a capture time that is none": (json.dumps({**LINE, "capture_ts": "yesterday"}).encode(), "yesterday"),
    "a capture time in part": (json.dumps({**LINE, "capture_ts": 1.5}).encode(), "fromisoformat"),
    "a symbol that is no text": (json.dumps({**LINE, "symbol": 7}).encode(), "int"),
    "data that is no object": (json.dumps({**LINE, "data": 7}).encode(), "data is no object"),
}


@pytest.mark.parametrize("name", BAD_LINES)
def test_a_bad_line_is_named_and_kept_and_the_next_is_read(tmp_path: Path, name: str) -> None:
    bad, told = BAD_LINES[name]
    path, good = tmp_path / "f.ndjson", json.dumps(LINE).encode()
    path.write_bytes(b"\n".join([good, bad, good]))
    found = landed(tmp_path / "data", path)
    assert (found.lines, found.bad, found.broken) == (3, 1, None)
    assert found.first_bad[0].startswith(f"{path}:2: ") and told in found.first_bad[0]
    assert kept(tmp_path / "data") == [bad]
    events = stored(tmp_path / "data")
    assert [(event.symbol, event.capture_ts) for event in events] == [("BTC/USDT", NS_OF_AT)] * 2


@pytest.mark.parametrize(
    ("folder", "symbol"),
    [("BTC-USDT", "BTC/USDT"), ("BTC-USDT-USDT", "BTC/USDT:USDT"), ("BTC/USDT", "BTC/USDT"), ("BTCUSDT", "BTCUSDT")],
)
def test_symbols_of_folders(folder: str, symbol: str) -> None:
    assert symbol_of(folder) == symbol
