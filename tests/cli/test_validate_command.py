"""`fluxforge validate`: every kind of damage is found, and nothing where there is none."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from fluxforge import bronze
from fluxforge.files import LocalStorage, records
from fluxforge.files.commit import Commit, decode, encode
from fluxforge_cli.main import app
from s3_server import S3Server
from stored_data import RAW, make_bronze, make_lake


def check(root: object, *more: str) -> tuple[int, list[dict[str, Any]], dict[str, Any]]:
    result = CliRunner().invoke(app, ["validate", "--data-dir", str(root), "--json", *more])
    assert isinstance(result.exception, SystemExit | None), result.exception
    told = json.loads(result.stdout)
    return result.exit_code, [p for layer in told.values() for p in layer["problems"]], told


@pytest.fixture
def data(tmp_path: Path) -> Path:
    make_lake(tmp_path)
    make_bronze(tmp_path)
    return tmp_path


def test_what_is_sound_is_told_so(data: Path) -> None:
    code, problems, told = check(data)
    assert (code, problems) == (0, [])
    assert (told["lake"]["files"], told["lake"]["rows"]) == (18, 432)
    assert (told["bronze"]["files"], told["bronze"]["rows"]) == (6, 124)
    assert "sound" in CliRunner().invoke(app, ["validate", "--data-dir", str(data)]).stdout


def test_lines_of_json_are_checked(tmp_path: Path) -> None:
    make_bronze(tmp_path, raw_format="ndjson")
    assert check(tmp_path)[:2] == (0, [])


def test_a_bucket_is_checked(s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in s3_server.environ.items():
        monkeypatch.setenv(name, value)
    root = f"s3://{s3_server.bucket()}/p"
    make_lake(root)
    make_bronze(root)
    assert check(root)[:2] == (0, [])
    bronze.tree(root).storage.remove([records(bronze.tree(root), RAW)[0].files[0].path])
    code, (problem,), _ = check(root, "--only", "bronze")
    assert (code, problem["kind"]) == (1, "missing")


def first(data: Path, where: str) -> Path:
    return sorted(data.rglob(where))[0]


def change_record(data: Path, where: str, change: Callable[[Commit], Commit]) -> None:
    path = first(data, where)
    path.write_bytes(encode(change(decode(path.read_bytes(), str(path)))))


def rewrite(data: Path, where: str, change: Callable[[pa.Table], pa.Table]) -> None:
    """Other rows under a committed name, with a record that agrees in size and hash."""
    path = first(data, where)
    pq.write_table(change(pq.ParquetFile(path).read()), path)
    forge(data, path, path.read_bytes())


def forge(data: Path, path: Path, content: bytes) -> None:
    """Another content under a committed name, with a record that agrees in size and hash."""
    path.write_bytes(content)
    for record in data.rglob("_commits/**/*.json"):
        known = decode(record.read_bytes(), str(record))
        files = [
            msgspec.structs.replace(f, bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
            if path.as_posix().endswith(f.path)
            else f
            for f in known.files
        ]
        record.write_bytes(encode(msgspec.structs.replace(known, files=files)))


def spoil_footer(data: Path) -> None:
    """The length of the footer is another; all else is as it was."""
    path = first(data, BARS)
    content = path.read_bytes()
    forge(data, path, content[:-8] + (10**9).to_bytes(4, "little") + content[-4:])


def spoil_page(data: Path) -> None:
    path = first(data, BARS)
    with pq.ParquetFile(path) as opened:
        names = opened.schema_arrow.names
        times = opened.metadata.row_group(0).column(names.index("timestamp"))
    content = bytearray(path.read_bytes())
    content[times.data_page_offset + times.total_compressed_size - 3] ^= 1
    forge(data, path, bytes(content))


def swap(one: Path, other: Path) -> None:
    mine, others = one.read_bytes(), other.read_bytes()
    one.write_bytes(others)
    other.write_bytes(mine)


def changed(record: Commit, **values: Any) -> Commit:
    """With another first file."""
    return msgspec.structs.replace(
        record, files=[msgspec.structs.replace(record.files[0], **values), *record.files[1:]]
    )


def noted(record: Commit, **notes: str) -> Commit:
    """With other notes on its first file."""
    return changed(record, meta={**record.files[0].meta, **notes})


def filled(table: pa.Table, column: str, value: str) -> pa.Table:
    return table.set_column(table.column_names.index(column), column, pa.array([value] * table.num_rows))


BARS = "processed/ccxt/orderbook/bars/**/*.parquet"
BOOKS = "raw/ready/ccxt/orderbook/*.parquet"


def shifted(table: pa.Table, column: str, by: int) -> pa.Table:
    at = table.column_names.index(column)
    values = [value + by for value in table[column].to_pylist()]
    return table.set_column(at, table.schema.field(column), pa.array(values, table.schema.field(column).type))


DAMAGE: dict[str, tuple[Callable[[Path], object], set[str]]] = {
    "a file is gone": (lambda d: first(d, BARS).unlink(), {"missing"}),
    "a file is cut off": (lambda d: os.truncate(first(d, BOOKS), 100), {"bytes"}),
    "a bit has turned": (lambda d: turn_a_bit(first(d, BARS)), {"sha256"}),
    "a record is gone": (lambda d: sorted(d.rglob("market.bars/0/*.json"))[1].unlink(), {"tiling", "stray"}),
    "a record is damaged": (lambda d: sorted(d.rglob("market.raw/0/*.json"))[1].write_text("{"), {"record", "stray"}),
    "a file was copied": (
        lambda d: first(d, BARS).with_name("copy.parquet").write_bytes(first(d, BARS).read_bytes()),
        {"stray"},
    ),
    "a folder was renamed": (
        lambda d: first(d, "processed/**/symbol=BTC-USDT").rename(first(d, "processed/**/exchange=*") / "symbol=X"),
        {"missing", "stray"},
    ),
    "rows of another day": (
        lambda d: rewrite(d, BARS, lambda t: shifted(t, "timestamp", 86_400 * 10**9)),
        {"partition", "rows"},
    ),
    "rows are gone": (lambda d: rewrite(d, BARS, lambda t: t.slice(0, 23)), {"rows"}),
    "the path's column inside": (
        lambda d: rewrite(d, BARS, lambda t: t.append_column("symbol", pa.array(["X"] * t.num_rows))),
        {"schema"},
    ),
    "offsets of another batch": (lambda d: rewrite(d, BOOKS, lambda t: shifted(t, "offset", 100)), {"rows"}),
    "offsets out of order": (lambda d: rewrite(d, BOOKS, lambda t: t.take(list(range(t.num_rows))[::-1])), {"rows"}),
    "another partition": (lambda d: rewrite(d, BOOKS, lambda t: shifted(t, "partition", 1)), {"partition"}),
    "a column is gone": (lambda d: rewrite(d, BOOKS, lambda t: t.drop(["first_seq"])), {"schema"}),
}  # fmt: skip


DAMAGE |= {
    "two files were swapped": (
        lambda d: swap(*(first(d, f"processed/**/symbol={s}-USDT/*/duration=300/*") for s in ("BTC", "ETH"))),
        {"sha256"},
    ),
    "rows were miscounted": (
        lambda d: change_record(d, "market.bars/0/*.json", lambda r: changed(r, rows=r.files[0].rows + 1)), {"rows"}
    ),
    "rows of Bronze were miscounted": (
        lambda d: change_record(d, "market.raw/0/*.json", lambda r: changed(r, rows=r.files[0].rows + 1)), {"rows"}
    ),
    "times are others": (
        lambda d: change_record(d, "market.bars/0/*.json", lambda r: changed(r, first_ts=r.files[0].first_ts + 1)),
        {"rows"},
    ),
    "times of Bronze are others": (
        lambda d: change_record(d, "market.raw/0/*.json", lambda r: changed(r, last_ts=r.files[0].last_ts - 1)),
        {"rows"},
    ),
    "an offset in two records": (
        lambda d: change_record(
            d, "market.bars/0/*.json", lambda r: msgspec.structs.replace(r, next_offset=r.next_offset + 1)
        ),
        {"tiling"},
    ),
    "an offset in no record": (
        lambda d: change_record(
            d, "market.bars/0/*.json", lambda r: msgspec.structs.replace(r, next_offset=r.next_offset - 1)
        ),
        {"tiling"},
    ),
    "a footer is damaged": (spoil_footer, {"unreadable"}),
    "a page is damaged": (spoil_page, {"unreadable"}),
    "offsets of the batch before": (
        lambda d: rewrite(d, BOOKS.replace("*.", "*62."), lambda t: shifted(t, "offset", -1)), {"rows"}
    ),
    "an offset beyond its batch": (
        lambda d: rewrite(d, BOOKS, lambda t: shifted(t, "offset", 62 - t["offset"][-1].as_py())), {"rows"}
    ),
    "another topic": (lambda d: rewrite(d, BOOKS, lambda t: filled(t, "topic", "market.wire")), {"partition"}),
    "another source": (lambda d: rewrite(d, BOOKS, lambda t: filled(t, "source", "binance")), {"partition"}),
    "another exchange": (
        lambda d: change_record(d, "market.ticker/0/*.json", lambda r: noted(r, exchange="kraken")), {"partition"}
    ),
    "another symbol": (
        lambda d: change_record(d, "market.ticker/0/*.json", lambda r: noted(r, symbol="DOGE/USDT")), {"partition"}
    ),
}  # fmt: skip


def turn_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_found(data: Path, name: str) -> None:
    damage, kinds = DAMAGE[name]
    damage(data)
    code, problems, _ = check(data)
    assert code == 1
    assert {problem["kind"] for problem in problems} == kinds
    shown = CliRunner().invoke(app, ["validate", "--data-dir", str(data)])
    assert shown.exit_code == 1
    assert all(problem["path"] in shown.stdout for problem in problems)


def test_quick_reads_no_file(data: Path) -> None:
    turn_a_bit(first(data, BARS))
    assert check(data, "--quick")[0] == 0
    first(data, BARS).unlink()
    code, (problem,), _ = check(data, "--quick")
    assert (code, problem["kind"]) == (1, "missing")


def test_a_file_at_its_active_name_is_there(data: Path) -> None:
    """A writer was cut off before its links: the batch is committed all the same."""
    storage = bronze.tree(data).storage
    assert isinstance(storage, LocalStorage)
    file = records(bronze.tree(data), RAW)[-1].files[0]
    (storage.root / file.active).parent.mkdir(parents=True, exist_ok=True)
    (storage.root / file.path).rename(storage.root / file.active)
    assert check(data)[:2] == (0, [])
