"""The lake's files: where they lie, what is in them, and that they are seen whole or not at all."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from fluxforge import rows
from fluxforge.errors import StorageError, WriterConflict
from fluxforge.files import ChainId
from fluxforge.kernels.config import FeatureConfig
from fluxforge.lake import LakeWriter, lake_tree, scan
from fluxforge.lake.layout import claim

NS = 1_000_000_000
DAY = 86_400 * NS
NOON = 19_000 * DAY + DAY // 2
NOON_DATE = date(2022, 1, 8)
CHAIN = ChainId("cluster-1", "market.ticker", 3)
HF = rows.hf_table(FeatureConfig())


def row(table: rows.Table, timestamp: int, offset: int, symbol: str = "BTC/USDT", **more: Any) -> dict[str, Any]:
    """A row as it comes from a topic: every column null but those given."""
    blank = dict.fromkeys(table.schema.names)
    own = {"exchange": "binance", "symbol": symbol, "source": "ccxt", "timestamp": timestamp, "source_offset": offset}
    return {**blank, **own, **more}


def writer(root: Path, table: rows.Table = rows.TICKER, chain: ChainId = CHAIN, first: int = 0) -> LakeWriter:
    return LakeWriter.open(lake_tree(root), table, chain, first=first, config_hash="c0ffee")


def files(root: Path) -> list[str]:
    base = root / "processed"
    return sorted(p.relative_to(base).as_posix() for p in base.rglob("*.parquet"))


def test_every_table_lies_where_it_must(tmp_path: Path) -> None:
    for table, more in ((HF, {}), (rows.TRADES, {}), (rows.TICKER, {}), (rows.BARS, {"duration": 60})):
        with writer(tmp_path, table, CHAIN._replace(topic=f"market.{table.name}")) as open_writer:
            open_writer.add([row(table, NOON, 1, "BTC/USDT:USDT", **more)])
            open_writer.commit(42)
    hive = "exchange=binance/symbol=BTC-USDT_USDT/date=2022-01-08"
    name = "market.{}.3.cluster-1.00000000000000000000.parquet"
    assert files(tmp_path) == [
        f"ccxt/orderbook/bars/{hive}/duration=60/{name.format('bars')}",
        f"ccxt/orderbook/hf/{hive}/{name.format('hf')}",
        f"ccxt/ticker/{hive}/{name.format('ticker')}",
        f"ccxt/trades/{hive}/{name.format('trades')}",
    ]
    for path in files(tmp_path):
        footer = pq.ParquetFile(tmp_path / "processed" / path)
        assert not {"exchange", "symbol", "date", "duration", "source"} & set(footer.schema_arrow.names)
        assert footer.schema_arrow.metadata[b"fluxforge.config_hash"] == b"c0ffee"
        assert footer.schema_arrow.metadata[b"fluxforge.schema_version"] == b"2"
        assert footer.metadata.row_group(0).column(0).compression == "ZSTD"


def test_rows_are_split_by_key_and_day_and_keep_their_order(tmp_path: Path) -> None:
    with writer(tmp_path) as open_writer:
        given = [
            row(rows.TICKER, NOON + (i % 3) * DAY // 2, i, "A/B" if i % 2 else "C/D", bid=float(i)) for i in range(60)
        ]
        open_writer.add(given[:7])
        open_writer.add(given[7:])
        assert open_writer.rows == 60
        record = open_writer.commit(60)
    assert record is not None
    assert (record.start, record.next_offset, record.rows) == (0, 60, 60)
    assert len(files(tmp_path)) == 4
    for path in files(tmp_path):
        offsets = pq.read_table(tmp_path / "processed" / path, partitioning=None)["source_offset"].to_pylist()
        assert offsets == sorted(offsets)
    table = scan(tmp_path, "ticker").to_table()
    assert sorted(table["bid"].to_pylist()) == [float(i) for i in range(60)]


def test_a_row_keeps_every_bit_and_null_is_null(tmp_path: Path) -> None:
    odd = {
        "bid": 0.1 + 0.2,
        "ask": -0.0,
        "mid": 5e-324,
        "spread": 1.7976931348623157e308,
        "last": math.nan,
        "open": None,
    }
    with writer(tmp_path) as open_writer:
        open_writer.add([rows.decode(rows.encode(row(rows.TICKER, NOON, 1, **odd)))])
        open_writer.commit(2)
    (found,) = scan(tmp_path, "ticker").to_table().to_pylist()
    assert [found[n] for n in ("bid", "mid", "spread")] == [odd["bid"], odd["mid"], odd["spread"]]
    assert math.copysign(1, found["ask"]) == -1
    assert found["last"] is None
    assert found["open"] is None


def test_a_row_that_does_not_fit_adds_nothing(tmp_path: Path) -> None:
    with writer(tmp_path) as open_writer:
        good = row(rows.TICKER, NOON, 1)
        for bad in (row(rows.TICKER, NOON, 2, bid="dear"), {k: v for k, v in good.items() if k != "ask"}):
            with pytest.raises((KeyError, pa.ArrowException)):
                open_writer.add([good, bad])
        assert open_writer.rows == 0


def test_the_bytes_that_wait_are_those_of_the_rows_that_wait(tmp_path: Path) -> None:
    with writer(tmp_path) as open_writer:
        assert open_writer.bytes == 0
        for k in range(3):
            open_writer.add([row(rows.TICKER, NOON + k, k)])
            open_writer.add([row(rows.TICKER, NOON + k, k, "ETH/USDT"), row(rows.TICKER, NOON + k, k)])
        assert open_writer.bytes == sum(table.nbytes for table in open_writer._waiting) > 0
        with pytest.raises(KeyError):
            open_writer.add([{"symbol": "BTC/USDT"}])
        before = open_writer.bytes
        open_writer.commit(9)
        assert open_writer.bytes == 0 < before
        open_writer.add([row(rows.TICKER, NOON + 9, 9)])
        assert 0 < open_writer.bytes < before
    assert open_writer.bytes == 0


def test_what_is_not_committed_is_not_there(tmp_path: Path) -> None:
    with writer(tmp_path) as open_writer:
        open_writer.add([row(rows.TICKER, NOON, 1)])
        open_writer.commit(5)
        open_writer.add([row(rows.TICKER, NOON, 6)])
    assert len(files(tmp_path)) == 1
    assert scan(tmp_path, "ticker").count_rows() == 1
    with writer(tmp_path) as again:
        assert again.next_offset == 5
        with pytest.raises(WriterConflict):
            LakeWriter.open(lake_tree(tmp_path), rows.TICKER, CHAIN, first=0, lock_timeout=0.0)


def test_scan_sees_only_committed_batches(tmp_path: Path) -> None:
    """A file put beside the others, or one whose record is not written, is no part of the lake."""
    with writer(tmp_path) as open_writer:
        for i in range(3):
            open_writer.add([row(rows.TICKER, NOON, i, bid=float(i))])
            open_writer.commit(i + 1)
    first = tmp_path / "processed" / files(tmp_path)[0]
    (first.parent / "stray.parquet").write_bytes(first.read_bytes())
    assert scan(tmp_path, "ticker").count_rows() == 3
    sorted((tmp_path / "processed" / "_commits").rglob("*.json"))[-1].unlink()
    assert sorted(scan(tmp_path, "ticker").to_table()["bid"].to_pylist()) == [0.0, 1.0]


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """Bars of two symbols, three days and two durations; one an hour."""
    with writer(tmp_path, rows.BARS, CHAIN._replace(topic="market.bars")) as open_writer:
        offset = 0
        for hour in range(72):
            for symbol in ("BTC/USDT", "ETH/USDT"):
                for duration in (60, 300):
                    start = 19_000 * DAY + hour * 3600 * NS
                    open_writer.add([row(rows.BARS, start, offset, symbol, duration=duration, close=float(hour))])
                    offset += 1
            if hour % 10 == 9:
                open_writer.commit(offset)
        open_writer.commit(offset)
    return tmp_path


def test_scan_by_key_time_and_duration(lake: Path) -> None:
    assert scan(lake, "bars").count_rows() == 288
    one = scan(lake, "bars", exchange="binance", symbol="BTC/USDT", duration=60)
    assert one.count_rows() == 72
    table = one.to_table()
    assert set(table["symbol"].to_pylist()) == {"BTC-USDT"}
    assert set(table["duration"].to_pylist()) == {60}
    assert set(table["date"].to_pylist()) == {date(2022, 1, 8), date(2022, 1, 9), date(2022, 1, 10)}
    start, end = "2022-01-08T12:00", datetime(2022, 1, 9, 6, tzinfo=UTC)
    part = scan(lake, "bars", symbol="BTC-USDT", duration=60, start=start, end=end)
    assert sorted(part.to_table()["close"].to_pylist()) == [float(h) for h in range(12, 30)]
    with pytest.raises(StorageError, match="no committed bars"):
        scan(lake, "bars", symbol="XRP/USDT")
    with pytest.raises(StorageError, match="no table 'candles'"):
        scan(lake, "candles")


def test_any_engine_reads_the_tree(lake: Path) -> None:
    bars = lake / "processed" / "ccxt" / "orderbook" / "bars"
    by_arrow = ds.dataset(bars, format="parquet", partitioning="hive")
    keep = (ds.field("symbol") == "ETH-USDT") & (ds.field("duration") == 300)
    assert by_arrow.to_table(filter=keep).num_rows == 72
    frame = pl.scan_parquet(bars / "**/*.parquet", hive_partitioning=True)
    by_polars = frame.filter((pl.col("symbol") == "ETH-USDT") & (pl.col("date") == NOON_DATE)).collect()
    assert by_polars.height == 48
    assert pl.from_arrow(scan(lake, "bars").to_table()).height == 288  # type: ignore[union-attr]


def test_pandas_reads_the_tree(lake: Path) -> None:
    pandas = pytest.importorskip("pandas", reason="PANDAS NOT TESTED: it is not installed")
    bars = lake / "processed" / "ccxt" / "orderbook" / "bars"
    by_pandas = pandas.read_parquet(bars, filters=[("symbol", "==", "ETH-USDT"), ("duration", "==", 300)])
    assert len(by_pandas) == 72


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_many_keys_take_no_open_file_each(tmp_path: Path) -> None:
    with writer(tmp_path) as open_writer:
        before = open_files()
        open_writer.add([row(rows.TICKER, NOON, i, f"K{i}/USDT") for i in range(300)])
        assert open_files() == before
        record = open_writer.commit(300)
    assert record is not None
    assert len(record.files) == 300
    assert scan(tmp_path, "ticker").count_rows() == 300


def test_the_two_roads_do_not_share_a_root(tmp_path: Path) -> None:
    claim(lake_tree(tmp_path), "etl")
    with writer(tmp_path) as open_writer:
        open_writer.commit(5)
    claim(lake_tree(tmp_path), "live")
    with pytest.raises(StorageError, match="live pipeline"):
        claim(lake_tree(tmp_path), "etl")
