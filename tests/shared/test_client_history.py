"""History for strategy code: the same rows in the same order from topic, replay and lake."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import polars as pl
import pytest

from bar_builder.processor import BarProcessor
from feature_engine.processor import FeatureProcessor
from fluxforge import bronze, codec, rows
from fluxforge.client import ORDER, Lag, Row, Stream, TableName, TickerStream, frame, stream
from fluxforge.client.lake import Merge, selection
from fluxforge.client.tables import Wanted, topic_of
from fluxforge.clock import NS
from fluxforge.errors import ConfigError, StorageError, UnknownTopic
from fluxforge.events import Trade
from fluxforge.files import ChainId
from fluxforge.files.compact import compact
from fluxforge.files.runs import Options
from fluxforge.lake import LakeWriter, lake_tree
from fluxforge.lake.compaction import LAYOUT
from fluxforge.lake.role import LakeSink, sources
from fluxforge.log import Log, Output, TopicPartition, open_log
from fluxforge.processor import Processor, Runtime
from fluxforge.replay import Replay, topics_of
from fluxforge.settings import Settings
from fluxforge.settings.models import Broker
from fluxforge.storage import Root
from fluxforge.topics import Topics
from row_order import key
from seeded_market import MS, START, market
from shared.replay.market import read, store

TABLES: tuple[TableName, ...] = ("features", "bars", "tape", "trades", "ticker")
SYMBOLS = [f"S{i}/USDT" for i in range(4)]
HISTORY = ("topic", "replay.june", "lake")
SECONDS = 40


@dataclass
class Made:
    """A market that went the whole way, twice through the processors."""

    url: str
    data: Path
    live: dict[str, list[Row]]

    def options(self, source: str, **more: Any) -> dict[str, Any]:
        return {"source": source, "url": self.url, "data": self.data, "settings": Settings(), **more}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("market")
    url, settings, topics = f"sqlite:///{folder / 'log.db'}", Settings(), Topics()
    log = open_log(url)
    log.create(topics.specs(2, raw_retention_ms=-1))
    events = sorted((item for i, s in enumerate(SYMBOLS) for item in market(s, i, SECONDS)), key=lambda item: item[0])
    appender = log.appender()
    for time, event in events:
        appender.append(Output(topics.raw, event.key.encode(), codec.encode(event), codec.headers(event), time // MS))
    appender.close()
    streams = {table: stream(table, url=url, settings=settings, start=START) for table in TABLES}
    trades = sum(isinstance(event, Trade) for _, event in events)
    process(log, settings, topics)
    live = {table: taken_live(log, topics, rows_, trades) for table, rows_ in streams.items()}
    store_rows(log, settings, folder)
    for records in read(log, topics.raw).values():
        store(bronze.tree(folder), records)
    with Replay(log, bronze.tree(folder), "june") as run:
        assert run.run()
    log.create(topics_of("june").specs(2)[1:])
    process(log, settings, topics_of("june"))
    log.close()
    return Made(url, folder, live)


def process(log: Log, settings: Settings, topics: Topics) -> None:
    """Both services, to the end of the raw topic."""
    ends = {p: log.bounds(TopicPartition(topics.raw, p)).next for p in range(log.partitions(topics.raw))}
    both: tuple[Processor, ...] = (
        FeatureProcessor(settings.feature_config(), topics),
        BarProcessor(settings.bar_config(), topics),
    )
    for processor in both:
        group = f"{topics.prefix}.{processor.role}"
        runtime = Runtime(log, processor, topics.raw, group, "1")
        while log.group_offsets(group, topics.raw) != ends:
            runtime.turn(0.01)
            runtime.commit()
        runtime.close()


def taken_live(log: Log, topics: Topics, live: Stream[Row], trades: int) -> list[Row]:
    """All that was published of a table, and no more."""
    ends = (log.bounds(TopicPartition(topic_of(topics, live.table), p)).next for p in range(2))
    count = trades if live.table == "tape" else sum(ends)
    with live:
        found = [next(live) for _ in range(count)]
        if live.table != "tape":
            assert live.lag() == Lag(0, 0.0)
        return found


class Hours:
    """An hour later at each look: every read is due."""

    def __init__(self) -> None:
        self.at = 0.0

    def now(self) -> int:
        return START

    def monotonic(self) -> float:
        self.at += 3600
        return self.at


def store_rows(log: Log, settings: Settings, data: Path) -> None:
    """The lake role, until it has read all."""
    tables = sources(settings, ["hf", "bars", "trades", "ticker"])
    sink = LakeSink(
        log, lake_tree(data), tables, group="lake", member="1", max_bytes=1 << 30, max_age_s=60.0, clock=Hours()
    )
    for _ in range(60):
        sink.step(0.0)
    sink.close()


def all_of(made: Made, table: TableName, source: str, **more: Any) -> list[Row]:
    with stream(table, **made.options(source, **more)) as found:
        return list(found)


@pytest.mark.parametrize("table", TABLES)
def test_live_topic_replay_and_lake_are_the_same_rows(made: Made, table: TableName) -> None:
    expected = sorted(made.live[table], key=key)
    assert len(expected) > 40 and {row["symbol"] for row in expected} == set(SYMBOLS)
    for source in HISTORY:
        got = all_of(made, table, source)
        assert without_offset(got) == without_offset(expected), source
        if source != "replay.june":  # the replayed records have offsets of their own
            assert got == expected


def without_offset(found: list[Row]) -> list[Row]:
    return [{name: value for name, value in row.items() if name != "source_offset"} for row in found]


@pytest.mark.parametrize("source", HISTORY)
def test_of_each_symbol_the_order_is_that_of_the_log(made: Made, source: str) -> None:
    for symbol in SYMBOLS:
        got = all_of(made, "features", source, symbols=[symbol])
        assert without_offset(got) == without_offset([r for r in made.live["features"] if r["symbol"] == symbol])


@pytest.mark.parametrize("source", HISTORY)
@pytest.mark.parametrize(("table", "column"), [("bars", "close"), ("tape", "price")])
def test_a_part_of_it(made: Made, source: str, table: TableName, column: str) -> None:
    """From the very time of a row to just before that of another."""
    captured = sorted(row["capture_ts"] for row in made.live[table] if row["symbol"] in SYMBOLS[1:3])
    start, end = captured[len(captured) // 4], captured[len(captured) * 3 // 4]
    got = all_of(made, table, source, symbols=SYMBOLS[1:3], exchanges=["sim"], start=start, end=end, columns=[column])
    expected = [
        row
        for row in sorted(made.live[table], key=key)
        if row["symbol"] in SYMBOLS[1:3] and start <= row["capture_ts"] < end
    ]
    assert table == "tape" or {row["duration"] for row in expected} == {1, 5, 30}
    ordered = set(ORDER) & set(expected[0])
    assert set(got[0]) == {*ordered, column}
    names = [*(ordered - {"source_offset"}), column]
    assert [[row[n] for n in names] for row in got] == [[row[n] for n in names] for row in expected]


@pytest.mark.parametrize("kind", ["polars", "pandas", "arrow"])
@pytest.mark.parametrize("table", TABLES)
def test_frames_have_one_schema(made: Made, table: TableName, kind: Any) -> None:
    one, two, three = (frame(table, kind=kind, **made.options(source)) for source in HISTORY)
    if kind == "pandas":
        assert one.equals(three) and one.dtypes.equals(two.dtypes)  # type: ignore[attr-defined]
        assert len(one) == len(two) == len(made.live[table])  # type: ignore[arg-type]
    else:
        assert one.equals(three) and one.schema == two.schema  # type: ignore[attr-defined]
    few = frame(table, columns=["capture_ts"], **made.options("lake"))
    assert isinstance(few, pl.DataFrame) and set(few.columns) <= set(ORDER)
    assert few.equals(frame(table, columns=["capture_ts"], **made.options("topic")))


def test_a_compacted_lake_is_the_same(made: Made, tmp_path: Path) -> None:
    shutil.copytree(made.data / "processed", tmp_path / "processed")
    done = compact(lake_tree(tmp_path), LAYOUT, Options(grace_s=0.0), now=START + 10 * 86_400 * NS)
    assert not done.failed
    for table in set(TABLES) - {"tape"}:
        assert all_of(made, table, "lake", data=tmp_path) == all_of(made, table, "lake")


def test_what_cannot_be_is_named(made: Made, tmp_path: Path) -> None:
    def fails(kind: type[Exception], match: str, **options: Any) -> None:
        with pytest.raises(kind, match=match):
            all_of(made, options.pop("table", "features"), options.pop("source", "lake"), **options)

    for source in HISTORY:
        fails(ConfigError, "table 'candles'.*features", source=source, table="candles")
        fails(ConfigError, "symbol N/USDT.*S0/USDT", source=source, symbols=["N/USDT", "S0/USDT"])
        fails(ConfigError, "exchange nowhere.*sim", source=source, exchanges=["nowhere"])
        fails(ConfigError, "no column mid_prise.*mid_price", source=source, columns=["mid_prise"])
        fails(ConfigError, "nothing lies between", source=source, start=START, end=START)
        fails(ConfigError, "is one text", source=source, symbols="S0/USDT")
        fails(ConfigError, "symbols is empty", source=source, symbols=[])
        fails(ConfigError, "for live rows", source=source, start="latest")
        fails(ConfigError, "'june' is no time", source=source, start="june")
        fails(ConfigError, "no features rows in that time", source=source, start=START + 3000 * NS)
    fails(ConfigError, "no source 'replay'.*replay.RUN", source="replay")
    fails(UnknownTopic, "replay.july", source="replay.july")
    fails(StorageError, "no committed hf rows", data=tmp_path)
    fails(StorageError, "no committed trades", data=tmp_path, table="tape")
    fails(ConfigError, "symbol N/USDT.*S0/USDT", table="tape", symbols=["N/USDT", "S0/USDT"])
    fails(ConfigError, "no tape rows in that time", table="tape", end=START)
    fails(StorageError, "no committed hf rows", start=START + 100 * 86_400 * NS)
    fails(ConfigError, "have no end", source="live", end=START)
    fails(ConfigError, "has no versions", source="live", version="live")
    fails(ConfigError, "no column mid_prise.*mid_price", source="live", start="earliest", columns=["mid_prise"])
    with pytest.raises(ConfigError, match="'excel'"):
        frame(kind="excel", **made.options("lake"))  # type: ignore[arg-type]


def test_one_may_leave_at_any_row(made: Made) -> None:
    for source in ("live", *HISTORY):
        start = {"start": "earliest"} if source == "live" else {}
        with stream(**made.options(source, **start)) as found:
            assert len(list(islice(found, 7))) == 7


HOUR = 3600 * NS


def ticker(symbol: str, at: int, offset: int, **more: int) -> Row:
    own = {
        "exchange": "x", "symbol": symbol, "source": "ccxt", "timestamp": at, "capture_ts": at,
        "source_partition": 0, "source_offset": offset, "last": offset / 7,
    }  # fmt: skip
    return dict.fromkeys(rows.TICKER.schema.names) | own | more


def wide_lake(data: Root, hours: int, symbols: int, late: Callable[[int], int] = lambda _: 0) -> list[Row]:
    """A ticker row each 10 s, an hour to a file; its rows."""
    made: list[Row] = []
    with LakeWriter.open(lake_tree(data), rows.TICKER, ChainId("log", "market.ticker", 0), first=0) as writer:
        for hour in range(hours):
            found = []
            for i in range(360 * symbols):
                at = START + hour * HOUR + i // symbols * 10 * NS
                offset = hour * 360 * symbols + i
                found.append(ticker(f"S{i % symbols}", at, offset, capture_ts=at + late(i)))
            writer.add(found)
            writer.commit((hour + 1) * 360 * symbols)
            made += found
    return made


class Counting(Merge):
    """Counts the row groups that are loaded."""

    most = 0

    def _take(self, until: int | None) -> Any:
        self.most = max(self.most, len(self.open))
        return super()._take(until)


def merged(data: Root, **wanted: Any) -> Counting:
    chosen = Wanted.of(None, None, **wanted)
    return Counting(selection(data, "ticker", chosen), chosen)


def rows_of(merge: Merge) -> list[Row]:
    return [row for piece in merge for row in piece.to_pylist()]


@pytest.mark.parametrize("hours", [3, 30])
def test_a_long_history_opens_no_more_row_groups_than_a_short_one(tmp_path: Path, hours: int) -> None:
    expected = wide_lake(tmp_path, hours, symbols=3)
    merge = merged(tmp_path)
    assert rows_of(merge) == sorted(expected, key=key)
    assert merge.most == 3, "one of each symbol"


def test_rows_captured_late_are_where_they_were_known(root: str) -> None:
    """Some tickers took up to ten minutes: they overlap with the next file."""
    expected = wide_lake(root, 3, symbols=2, late=lambda i: (i * 7919 % 600) * NS)
    got = rows_of(merged(root))
    assert got == sorted(expected, key=key) != expected
    cut = rows_of(merged(root, start=START + HOUR, end=START + 2 * HOUR))
    assert cut == [row for row in got if START + HOUR <= row["capture_ts"] < START + 2 * HOUR]


def test_a_clock_that_was_wrong_by_hours_is_told(tmp_path: Path) -> None:
    wide_lake(tmp_path, 3, symbols=1, late=lambda i: -2 * HOUR if i == 300 else 0)
    with pytest.raises(StorageError, match=r"captured over 3600 s before their timestamp.*clock"):
        rows_of(merged(tmp_path))


@pytest.mark.parametrize("behind", [4, 100])
def test_rows_of_a_topic_wait_as_long_as_hold_s_says(log: Log, topics: Topics, behind: int) -> None:
    """Two partitions, times 0 to 4 s out of order, and one row `behind` seconds late."""
    log.create(topics.specs(2))
    appender, rng, expected = log.transactor(topics.prefix), Random(1), []
    for i in range(9000):
        at = START + (i - (behind if i == 6000 else rng.randrange(5))) * NS
        row = ticker(f"S{i % 5}", at, i, source_partition=i % 2)
        appender.append(Output(topics.ticker, f"x|S{i % 5}".encode(), rows.encode(row), partition=i % 2))
        expected.append(row)
    appender.commit()
    appender.close()
    settings = Settings(broker=Broker(prefix=topics.prefix))

    def read_until(end: int | None) -> list[list[Row]]:
        with TickerStream(source="topic", end=end, settings=settings, url=log.url, hold_s=10) as found:
            return [batch.to_pylist() for batch in found.batches("arrow")]

    if behind > 10:
        with pytest.raises(ConfigError, match=r"behind others.*hold_s is 10: take more"):
            read_until(None)
    else:
        found = read_until(None)
        assert [row for piece in found for row in piece] == sorted(expected, key=key)
        assert max(map(len, found)) < 3000, "given out on the way"
        for end in range(START + 1995 * NS, START + 2005 * NS, NS):  # where one read ends and the next begins
            before = sorted((row for row in expected if row["capture_ts"] < end), key=key)
            assert [row for piece in read_until(end) for row in piece] == before
