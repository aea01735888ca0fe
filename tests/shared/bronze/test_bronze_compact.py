"""Bronze after compaction gives back every record byte for byte, in either format, to readers old and new."""

from __future__ import annotations

import io
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow.parquet as pq
import pytest

from fluxforge import bronze, codec
from fluxforge.bronze import RawFormat
from fluxforge.bronze.compaction import LAYOUT
from fluxforge.bronze.scan import scan
from fluxforge.bronze.schema import ORDERBOOK, SCHEMAS
from fluxforge.clock import DAY, NS
from fluxforge.events import BookDelta, BookSnapshot, Heartbeat, Ticker, Trade
from fluxforge.files import Chain, ChainId, LocalStorage, parquet
from fluxforge.files.compact import Result, compact
from fluxforge.files.history import records
from fluxforge.files.runs import Options
from fluxforge.log import Record
from fluxforge.storage import Root
from fluxforge.validate import validate

ID = ChainId("log-1", "market.raw", 0)
FIRST = 20_000 * DAY
NOW = FIRST + 9 * DAY
DAYS, PER_DAY, BATCH = 3, 120, 30


def book(*levels: tuple[float, float]) -> bytes:
    return b"".join(struct.pack("<2d", *level) for level in levels)


def market() -> list[Record]:
    """Every kind, books whose scale fits and whose does not, records that are no events; offsets with holes."""
    found = []
    for n in range(DAYS * PER_DAY):
        at = FIRST + n // PER_DAY * DAY + n % PER_DAY * 60 * NS
        who: dict[str, Any] = {
            "exchange": "binance", "symbol": f"S{n % 2}/USDT", "native": f"S{n % 2}", "source": "binance",
            "collector": "c", "connection": "x", "ts": at if n % 5 else None, "capture_ts": at + n,
        }  # fmt: skip
        event = [
            lambda w=who, n=n: Trade(id=str(n), price=100.5, size=0.25, side=1, raw=b'{"t":%d}' % n, **w),
            lambda w=who, n=n: BookDelta(bids=book((100.25, 0.5), (99.75, n)), asks=book((101.5, 1 / 3)), **w),
            lambda w=who, n=n: BookSnapshot(bids=book((100.25 + n, 0.5)), asks=b"", **w),
            lambda w=who, n=n: Heartbeat(**w),
            lambda w=who, n=n: Ticker(bid=1.5, ask=float("nan"), **w),
        ][n % 5]()
        record = bronze.record_of(event, 3 * n)
        found.append(record if n % 11 else record._replace(value=b"no event", headers=()))
    return found


def store(
    root: Root, form: RawFormat = "parquet", count: int | None = None, *, group_bytes: int = 4000
) -> list[Record]:
    stored = market()[:count]
    with Chain.open(bronze.tree(root), ID, first=0) as chain:
        writer = bronze.BronzeWriter(chain, form, group_bytes=group_bytes)
        for at in range(0, len(stored), BATCH):
            part = [record for record in stored[at : at + BATCH] if record.offset >= chain.next_offset]
            if part:
                for begin in range(0, len(part), 7):
                    writer.append(part[begin : begin + 7])
                writer.commit(part[-1].offset + 1)
    return stored


def run(root: Root, **options: Any) -> Result:
    done = compact(bronze.tree(root), LAYOUT, Options(**{"grace_s": 0.0, **options}), now=options.pop("now", NOW))
    assert not done.failed, done.failed
    return done


def test_every_record_comes_back_byte_for_byte(root: Root) -> None:
    stored, tree = store(root), bronze.tree(root)
    assert list(bronze.read(tree, ID)) == stored
    done = run(root)
    assert (done.records_before, done.records_after) == (DAYS * PER_DAY // BATCH, DAYS)
    assert done.rows == done.hash.rows == len(stored)
    assert list(bronze.read(tree, ID)) == stored
    for start, end in ((0, 100), (100, 500), (359, 361), (700, None)):
        wanted = [record for record in stored if start <= record.offset < (end or 10**9)]
        assert list(bronze.read(tree, ID, start=start, end=end)) == wanted
        assert [codec.encode(event) for _, event in bronze.read_events(tree, ID, start=start, end=end)] == [
            record.value for record in wanted if record.value != b"no event"
        ]
    assert not list(tree.storage.walk("active"))
    assert {path.rsplit(".", 1)[-1] for path in tree.storage.walk("ready")} == {"parquet"}
    assert len(list(tree.storage.walk("ready"))) == done.files_after


def test_ndjson_stays_ndjson(tmp_path: Path) -> None:
    stored = store(tmp_path, "ndjson", 2 * BATCH)
    store(tmp_path)
    done = run(tmp_path)
    assert done.records_after == DAYS
    assert list(bronze.read(bronze.tree(tmp_path), ID)) == market()
    names = [path.name for path in (tmp_path / "raw" / "ready").rglob("*") if path.is_file()]
    assert len([name for name in names if name.endswith(".ndjson")]) == 5
    (text,) = (tmp_path / "raw" / "ready" / "binance" / "trades").glob("*.ndjson")
    assert len(text.read_text().splitlines()) == sum(
        record.value != b"no event" and isinstance(codec.decode(record.value), Trade) for record in stored
    )


def test_books_stored_as_doubles_are_stored_as_integers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An older version's files, and newer ones of the same day: their records say what the new files are."""
    with monkeypatch.context() as older:
        older.setattr("fluxforge.bronze.writer.parquet_format", lambda channel: parquet(SCHEMAS[channel]))
        older.setattr("fluxforge.bronze.writer.SCHEMA_VERSION", "bronze/1")
        store(tmp_path, count=2 * BATCH)
    stored = store(tmp_path)
    tree = bronze.tree(tmp_path)
    assert [record.schema for record in records(tree, ID)][1:3] == ["bronze/1", "bronze/2"]
    assert scan(tmp_path, ORDERBOOK).others
    assert list(bronze.read(tree, ID)) == stored
    run(tmp_path)
    assert list(bronze.read(tree, ID)) == stored
    for path in (tmp_path / "raw" / "ready" / "binance" / "orderbook").iterdir():
        assert "price_scale" in pq.read_schema(path).names
    assert {record.schema for record in records(tree, ID)} == {"bronze/2"}
    assert not scan(tmp_path, ORDERBOOK).others
    assert not validate(tmp_path, "bronze").problems


def test_books_that_an_older_compaction_left_as_doubles_are_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They have their folder to themselves, and would go over as they are."""
    trades = [record for record in market()[:PER_DAY] if record.value != b"no event" and record.offset % 15 == 0]
    with monkeypatch.context() as older:
        for module in ("writer", "compaction"):
            older.setattr(f"fluxforge.bronze.{module}.parquet_format", lambda channel: parquet(SCHEMAS[channel]))
        older.setattr("fluxforge.bronze.writer.SCHEMA_VERSION", "bronze/1")
        older.setattr(LAYOUT, "schema", None)
        older.setattr("fluxforge.bronze.scaled.Scaler.encode", lambda _, table: table)
        stored = store(tmp_path, count=2 * BATCH)
        run(tmp_path)
        with Chain.open(bronze.tree(tmp_path), ID, first=0) as chain:
            late = [record for record in trades if record.offset >= chain.next_offset]
            writer = bronze.BronzeWriter(chain)
            writer.append(late)
            writer.commit(late[-1].offset + 1)
    tree = bronze.tree(tmp_path)
    assert [(record.schema, record.merged) for record in records(tree, ID)] == [("bronze/1", 2), ("bronze/1", 0)]
    run(tmp_path)
    assert list(bronze.read(tree, ID)) == stored + late
    assert [(record.schema, record.merged) for record in records(tree, ID)] == [("bronze/2", 3)]
    assert not scan(tmp_path, ORDERBOOK).others
    assert not validate(tmp_path, "bronze").problems


@pytest.mark.parametrize("read_so_far", [3, 239])
@pytest.mark.parametrize("form", ["parquet", "ndjson"])
def test_a_reader_in_the_middle_reads_on_whatever_goes(root: Root, form: RawFormat, read_so_far: int) -> None:
    """All old files vanish under it: what it has read it does not get again, and nothing is left out."""
    stored = store(root, form)
    reading = bronze.read(bronze.tree(root), ID)
    begun = [next(reading) for _ in range(read_so_far)]
    run(root)
    assert begun + list(reading) == stored


def test_a_reader_that_found_the_files_gone_looks_again(tmp_path: Path) -> None:
    """It had read the record, but not yet opened its files."""
    stored, seen = store(tmp_path), []

    class Compacting(LocalStorage):
        def open(self, path: str) -> BinaryIO:
            if not seen:
                seen.append(run(tmp_path))
            return super().open(path)

    watched = replace(bronze.tree(tmp_path), storage=Compacting(tmp_path / "raw"))
    assert list(bronze.read(watched, ID)) == stored
    assert seen


def test_a_reader_whose_open_files_go_reads_on_from_the_row(tmp_path: Path) -> None:
    """In a bucket a file that is removed cannot be read to its end."""
    stored = store(tmp_path, group_bytes=1)
    gone: list[Result] = []
    failed: list[str] = []

    class Vanishing(io.FileIO):
        def read(self, size: int | None = -1) -> bytes:
            if gone:
                failed.append(self.name)
                raise OSError("gone")
            return super().read(-1 if size is None else size)

    class Bucket(LocalStorage):
        def open(self, path: str) -> BinaryIO:
            old = Path(path).name.split(".")[-2].isdecimal()
            return Vanishing(self.root / path) if old else super().open(path)

    reading = bronze.read(replace(bronze.tree(tmp_path), storage=Bucket(tmp_path / "raw")), ID)
    begun = [next(reading) for _ in range(BATCH + 3)]
    gone.append(run(tmp_path))
    assert begun + list(reading) == stored
    assert failed


def test_the_day_of_the_last_capture_decides(tmp_path: Path) -> None:
    store(tmp_path)
    done = run(tmp_path, before="2024-10-06")
    assert done.records_after == 2
    assert [record.merged for record in records(bronze.tree(tmp_path), ID)] == [4, 4, 0, 0, 0, 0]
