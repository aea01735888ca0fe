"""The lake by each engine: strict readers and the folder itself give the same rows, and conditions prune files."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import ClassVar

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from fluxforge import rows
from fluxforge.errors import ConfigError
from fluxforge.files import ChainId, LocalStorage, chains, records
from fluxforge.lake import LakeWriter, lake_tree, scan, scan_polars
from fluxforge.settings.models import StorageLocation
from s3_server import KEY, SECRET, S3Server
from stored_data import DAY, FIRST, make_lake, row

NINTH = date(2022, 1, 9)


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    make_lake(tmp_path)
    return tmp_path


def bars(lake: Path) -> Path:
    return lake / "processed" / "ccxt" / "orderbook" / "bars"


def keys(table: pa.Table) -> list[tuple[object, ...]]:
    columns = [table[name].to_pylist() for name in ("symbol", "date", "duration", "timestamp", "close")]
    return sorted(zip(*columns, strict=True))


def test_every_engine_reads_the_same_rows_from_the_folder(lake: Path) -> None:
    wanted = keys(scan(lake, "bars").to_table())
    assert len(wanted) == 288
    pattern = f"{bars(lake)}/**/*.parquet"
    assert keys(ds.dataset(bars(lake), format="parquet", partitioning=HIVE).to_table()) == wanted
    assert keys(pl.read_parquet(pattern, hive_partitioning=True).to_arrow()) == wanted
    assert (
        keys(duckdb.sql(f"SELECT * FROM read_parquet('{pattern}', hive_partitioning=true)").to_arrow_table()) == wanted
    )
    pandas = pytest.importorskip("pandas", reason="PANDAS NOT TESTED: it is not installed")
    frame = pandas.read_parquet(bars(lake))
    frame["date"] = [date.fromisoformat(str(day)) for day in frame["date"]]
    frame["duration"] = [int(duration) for duration in frame["duration"]]
    assert keys(pa.Table.from_pandas(frame.astype({"symbol": str}))) == wanted


HIVE = ds.partitioning(
    pa.schema([("exchange", pa.string()), ("symbol", pa.string()), ("date", pa.date32()), ("duration", pa.int64())]),
    flavor="hive",
)


def spare(lake: Path, where: str) -> int:
    """Spoil every file of the bars but those whose path holds `where`: to open one would fail."""
    spared = 0
    for path in bars(lake).rglob("*.parquet"):
        if where in path.as_posix():
            spared += 1
        else:
            path.write_bytes(b"x" * path.stat().st_size)
    return spared


def test_every_engine_prunes_the_folder(lake: Path) -> None:
    first = min(bars(lake).rglob("*.parquet"))
    content = first.read_bytes()
    assert spare(lake, "symbol=BTC-USDT/date=2022-01-09/duration=60") == 1
    first.write_bytes(content)  # DuckDB takes the columns from the first file's footer
    pattern = f"{bars(lake)}/**/*.parquet"
    field = ds.field
    by_arrow = ds.dataset(bars(lake), format="parquet", partitioning=HIVE, schema=scan_schema())
    keep = (field("symbol") == "BTC-USDT") & (field("date") == NINTH) & (field("duration") == 60)
    assert by_arrow.to_table(filter=keep).num_rows == 24
    told = "symbol = 'BTC-USDT' AND date = '2022-01-09' AND duration = 60"
    sql = f"SELECT count(*) FROM read_parquet('{pattern}', hive_partitioning=true) WHERE {told}"
    assert duckdb.sql(sql).fetchall() == [(24,)]
    by_polars = pl.scan_parquet(
        pattern, hive_partitioning=True, schema=dict(pl.Schema(scan_schema())),
        hive_schema={"exchange": pl.String, "symbol": pl.String, "date": pl.Date, "duration": pl.Int64},
    )  # fmt: skip
    chosen = (pl.col("symbol") == "BTC-USDT") & (pl.col("date") == NINTH) & (pl.col("duration") == 60)
    assert by_polars.filter(chosen).select("close").collect().height == 24
    pandas = pytest.importorskip("pandas", reason="PANDAS NOT TESTED: it is not installed")
    frame = pandas.read_parquet(
        bars(lake), filters=[("symbol", "==", "BTC-USDT"), ("date", "==", NINTH), ("duration", "==", 60)],
        schema=scan_schema(), partitioning=HIVE,
    )  # fmt: skip
    assert len(frame) == 24


def scan_schema() -> pa.Schema:
    """The columns of the bars as engines see them, so that none has to look into a file."""
    inside = [f for f in rows.BARS.schema if f.name != "duration"]
    return pa.schema([*inside, *HIVE.schema])


def test_scan_opens_only_what_a_filter_leaves(lake: Path) -> None:
    footer = max(bars(lake).rglob("*2022-01-10/duration=60/*.parquet"))
    content = footer.read_bytes()
    assert spare(lake, "symbol=BTC-USDT/date=2022-01-09/duration=60") == 1
    for path in bars(lake).rglob("*2022-01-10/*/*.parquet"):  # whichever of the newest batch tells the columns
        path.write_bytes(content)
    field = ds.field
    keep = (field("symbol") == "BTC-USDT") & (field("date") == NINTH) & (field("duration") == 60)
    assert scan(lake, "bars").to_table(filter=keep).num_rows == 24
    times = (field("timestamp") >= FIRST + DAY) & (field("timestamp") < FIRST + 2 * DAY)
    assert scan(lake, "bars", symbol="BTC/USDT", duration=60).to_table(filter=times).num_rows == 24


class TestLazyFrame:
    """Of files that are spoiled only after the frame was made, opening one fails."""

    CHOSEN = (pl.col("symbol") == "BTC-USDT") & (pl.col("date") == NINTH) & (pl.col("duration") == 60)
    HOURS: ClassVar = [float(hour) for hour in range(24)]

    def test_has_the_rows_and_columns_of_scan(self, lake: Path) -> None:
        frame, table = scan_polars(lake, "bars"), scan(lake, "bars").to_table()
        assert isinstance(frame, pl.LazyFrame)
        assert dict(frame.collect_schema()) == dict(pl.Schema(table.schema))
        order = ["symbol", "duration", "timestamp"]
        assert frame.sort(order).collect().equals(pl.DataFrame(pl.from_arrow(table)).sort(order))

    def test_is_read_by_polars_itself(self, lake: Path) -> None:
        plan = scan_polars(lake, "bars").filter(self.CHOSEN).select("close").explain()
        assert "PYTHON" not in plan
        assert "PROJECT 4/" in plan, "three columns of the path, and one of the files"

    def test_a_filter_on_the_path_opens_only_such_files(self, lake: Path) -> None:
        frame = scan_polars(lake, "bars")
        assert spare(lake, "symbol=BTC-USDT/date=2022-01-09/duration=60") == 1
        found = frame.filter(self.CHOSEN).sort("timestamp").select("close", "date").collect()
        assert (found["close"].to_list(), found["date"].unique().to_list()) == (self.HOURS, [NINTH])
        with pytest.raises(pl.exceptions.ComputeError, match="magic"):
            frame.collect()

    def test_a_filter_on_time_reads_only_footers_of_the_others(self, lake: Path) -> None:
        frame = scan_polars(lake, "bars", duration=60, symbol="BTC/USDT")
        for path in bars(lake).rglob("*symbol=BTC-USDT/*/duration=60/*.parquet"):
            if "date=2022-01-09" not in path.as_posix():
                spoil_pages(path)
        time = pl.col("timestamp")
        found = frame.filter((time >= FIRST + DAY) & (time < FIRST + 2 * DAY)).sort("timestamp").select("close")
        assert found.collect()["close"].to_list() == self.HOURS
        with pytest.raises(pl.exceptions.ComputeError):
            frame.select("close").collect()

    def test_only_the_columns_asked_for_are_read(self, lake: Path) -> None:
        frame = scan_polars(lake, "bars")
        for path in bars(lake).rglob("*.parquet"):
            spoil_pages(path, spared="close")
        assert frame.select("close").collect().height == 288
        with pytest.raises(pl.exceptions.ComputeError):
            frame.select("volume").collect()

    @pytest.mark.parametrize(("end", "count"), [("2022-01-10", 18), ("2022-01-09T18:00", 12)])
    def test_times_given_to_it_choose_files_and_rows(self, lake: Path, end: str, count: int) -> None:
        assert spare(lake, "symbol=BTC-USDT/date=2022-01-09/duration=60") == 1
        frame = scan_polars(lake, "bars", symbol="BTC/USDT", duration=60, start="2022-01-09T06:00", end=end)
        assert frame.collect().height == count

    def test_a_file_that_is_not_linked_yet_is_there(self, lake: Path) -> None:
        wanted = keys(scan(lake, "bars").to_table())
        unlink_one(lake)
        frame = scan_polars(lake, "bars")
        assert keys(frame.collect().to_arrow()) == wanted
        assert frame.filter(self.CHOSEN).collect().height == 24

    def test_odd_markets_keep_their_names(self, root: str) -> None:
        odd = ["ƒ é/USDT", "A%41/B", "C+D E/F"]
        with LakeWriter.open(lake_tree(root), rows.BARS, ChainId("l", "market.bars", 0), first=0) as writer:
            writer.add([row(rows.BARS, FIRST, 0, symbol, duration=60) for symbol in odd])
            writer.commit(1)
        found = scan_polars(root, "bars").select("symbol").collect()["symbol"].to_list()
        assert sorted(found) == sorted(symbol.replace("/", "-") for symbol in odd)

    def test_of_a_bucket(self, s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Keys of the settings alone, and none of the objects that a filter leaves out."""
        monkeypatch.chdir(tmp_path)
        bucket = s3_server.bucket()
        keys = {"endpoint_url": s3_server.endpoint, "region": "us-east-1", "access_key": KEY, "secret_key": SECRET}
        place = StorageLocation.model_validate({"backend": "s3", "bucket": bucket, "prefix": "p", "s3": keys})
        make_lake(place)
        assert scan_polars(place, "bars").filter(pl.col("symbol") == "ETH-USDT").collect().height == 144
        frame, storage = scan_polars(place, "bars"), lake_tree(place).storage
        storage.remove([path for path in storage.walk("ccxt") if "symbol=BTC-USDT/date=2022-01-09" not in path])
        assert frame.filter(self.CHOSEN).sort("timestamp").collect()["close"].to_list() == self.HOURS


def spoil_pages(path: Path, spared: str = "") -> None:
    """Make every column but one unreadable, and leave the footer."""
    content = bytearray(path.read_bytes())
    with pq.ParquetFile(path) as opened:
        footer = opened.metadata
    for column in (
        footer.row_group(g).column(k) for g in range(footer.num_row_groups) for k in range(footer.num_columns)
    ):
        if column.path_in_schema != spared:
            at = column.dictionary_page_offset or column.data_page_offset
            content[at : at + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    path.write_bytes(content)


def test_polars_that_is_not_there_is_told(lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "polars", None)
    with pytest.raises(ConfigError, match="install polars"):
        scan_polars(lake, "bars")


def test_configurations_with_other_columns_stand_together(lake: Path) -> None:
    for log_id, name in (("a-first", "mood"), ("z-last", "zeal")):
        more = rows.Table("bars", rows.BARS.folder, rows.BARS.schema.append(pa.field(name, pa.float64())))
        chain = ChainId(log_id, "market.bars", 0)
        with LakeWriter.open(lake_tree(lake), more, chain, first=0, config_hash=name) as writer:
            writer.add([row(more, FIRST, 0, "BTC/USDT", duration=60, **{name: 0.5})])
            writer.commit(1)
    table = scan(lake, "bars").to_table()
    assert (table.num_rows, table["mood"].null_count, table["zeal"].null_count) == (290, 289, 289)
    frame = scan_polars(lake, "bars").select("mood", "zeal").collect()
    assert (frame.height, frame["mood"].null_count(), frame["zeal"].null_count()) == (290, 289, 289)


def test_a_scan_asks_the_store_for_no_file_of_its_own(lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    size = LocalStorage.size

    def counted(self: LocalStorage, path: str) -> int | None:
        asked.append(path)
        return size(self, path)

    monkeypatch.setattr(LocalStorage, "size", counted)
    assert scan(lake, "bars").count_rows() == 288
    assert asked == []


def test_a_file_whose_link_is_being_made_is_read_at_its_active_name(lake: Path) -> None:
    unlink_one(lake)
    assert scan(lake, "bars").to_table().num_rows == 288


def unlink_one(lake: Path) -> None:
    """Leave a file of the newest batch its active name alone, as a writer does that is cut off before its links."""
    tree = lake_tree(lake)
    file = next(records(tree, chain)[-1].files[0] for chain in chains(tree) if "bars" in chain.topic)
    (lake / "processed" / file.active).parent.mkdir(exist_ok=True)
    (lake / "processed" / file.path).rename(lake / "processed" / file.active)
