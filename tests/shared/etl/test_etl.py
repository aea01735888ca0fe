"""Batch over Bronze: the rows of the kernels and of the live processors, once, whatever was imported when."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from bar_builder.processor import BarProcessor
from feature_engine.processor import FeatureProcessor
from fluxforge import bronze, codec, etl, rows
from fluxforge.bronze import BronzeWriter, RawFormat
from fluxforge.bronze.compaction import LAYOUT
from fluxforge.errors import ConfigError, SegmentError, StorageError
from fluxforge.etl import Window, task
from fluxforge.files import Chain, ChainId, Gap, chains, commits
from fluxforge.files.compact import compact
from fluxforge.files.runs import Options
from fluxforge.kernels.config import BarConfig, FeatureConfig
from fluxforge.lake import LakeWriter, lake_tree, scan
from fluxforge.log import Record
from fluxforge.processor.compute import Compute
from fluxforge.processor.decode import Run
from fluxforge.replay import Replay
from fluxforge.topics import Topics
from fluxforge.validate import validate
from fluxforge_cli.importer import land
from fluxforge_cli.importer.ccxt_ndjson import parse
from shared.replay import market

T0 = 1_700_000_000
MS = 1_000_000
FEATURES, BARS = (
    FeatureConfig(hf_emit_interval=0.5),
    BarConfig(
        durations=(1, 5, 60),
        information=(("tick", "default", 5.0), ("volume", "A/B", 3.3), ("tick_imbalance", "C/D", 2.0)),
    ),
)


def history(seed: int, start: int, seconds: int, symbols: Sequence[str] = ("A/B", "C/D")) -> list[bytes]:
    """ccxt lines of a few symbols: books, trades, tickers, some of them late or invalid."""
    rng = Random(seed)
    lines = []
    for tick in range(seconds * 4):
        now = (T0 + start) * 1000 + tick * 250
        symbol = rng.choice(symbols)
        stamp = now - rng.choice([5, 5, 5, 3000])
        middle, levels = 100 + rng.uniform(-1, 1), range(rng.randint(1, 12))
        book = {
            "bids": [[middle - 0.013 * (k + 1), rng.uniform(0.1, 9)] for k in levels],
            "asks": [[middle + 0.017 * k - (0.5 if rng.random() < 0.03 else 0), rng.uniform(0.1, 9)] for k in levels],
        }
        trades = [
            {
                "id": f"{tick}-{i}",
                "price": middle,
                "amount": rng.uniform(0.1, 3),
                "side": rng.choice(["buy", "sell", None]),
            }
            for i in range(rng.randint(1, 3))
        ]
        ticker = {"bid": middle - 0.1, "ask": middle + 0.1, "last": rng.choice([None, middle])}
        channel, data = rng.choice([("orderbook", book), ("orderbook", book), ("trades", trades), ("ticker", ticker)])
        stamped = [t | {"timestamp": stamp} for t in data] if isinstance(data, list) else data | {"timestamp": stamp}
        message = {"exchange": "x", "symbol": symbol, "channel": channel, "capture_ts": now * MS, "data": stamped}
        lines.append(json.dumps(message).encode())
    return lines


def bring(data: Path, name: str, lines: Sequence[bytes]) -> None:
    path = data / name
    data.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\n".join(lines))
    (landed,) = land([path], "ccxt-ndjson", data)
    assert landed.bad == 0


def run(data: Path, output: Path | None = None, **options: Any) -> etl.Result:
    return etl.run(data, output, features=FEATURES, bars=BARS, **options)


def lake(root: Path) -> dict[str, pa.Table]:
    """Every table, sorted so that only the rows and their bits matter; where a row came from left out."""
    found = {}
    for table in etl.TABLES:
        whole = scan(root, table).to_table().drop(["source_offset", "source_partition"])
        by = [
            n
            for n in ("symbol", "duration", "bar_type", "timestamp", "capture_ts", "id", "bid")
            if n in whole.column_names
        ]
        found[table] = whole.sort_by([(name, "ascending") for name in by])
    return found


def same(one: dict[str, pa.Table], other: dict[str, pa.Table]) -> None:
    for table in etl.TABLES:
        assert one[table].num_rows > 0
        assert one[table].equals(other[table]), table


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """One file of 90 s, made into a lake in one run."""
    data = tmp_path / "whole"
    bring(data, "all", history(1, 0, 90))
    run(data)
    return data


def test_a_second_run_with_nothing_new_does_nothing(whole: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (whole / "processed").rglob("*.*")}
    assert run(whole) == etl.Result()
    assert {path: path.stat().st_mtime_ns for path in (whole / "processed").rglob("*.*")} == before


def test_state_goes_on_from_file_to_file(tmp_path: Path, whole: Path) -> None:
    lines = history(1, 0, 90)
    parts = tmp_path / "parts"
    for i, at in enumerate(range(0, len(lines), 70)):
        bring(parts, f"{9 - i}", lines[at : at + 70])
    run(parts)
    same(lake(parts), lake(whole))


def test_a_later_file_is_added_exactly(tmp_path: Path, whole: Path) -> None:
    lines = history(1, 0, 90)
    grown = tmp_path / "grown"
    bring(grown, "first", lines[:200])
    first = run(grown)
    bring(grown, "second", lines[200:])
    second = run(grown)
    same(lake(grown), lake(whole))
    assert all(second.rows[table] > 0 and first.rows[table] > 0 for table in etl.TABLES)


def test_files_that_overlap_are_interleaved_by_capture_time(tmp_path: Path, whole: Path) -> None:
    lines = history(1, 0, 90)
    split = tmp_path / "split"
    for channel in ("trades", "orderbook", "ticker"):
        bring(split, channel, [line for line in lines if json.loads(line)["channel"] == channel])
    run(split)
    same(lake(split), lake(whole))


@pytest.mark.parametrize("held_bytes", [task.HELD_BYTES, 0])
def test_events_that_belong_before_what_is_stored_are_refused(
    tmp_path: Path, held_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task, "HELD_BYTES", held_bytes)
    data = tmp_path / "data"
    bring(data, "later", history(1, 60, 30))
    run(data)
    stored = lake(data)
    bring(data, "earlier", history(2, 0, 30))
    with pytest.raises(StorageError, match="come out otherwise than they are stored"):
        run(data)
    fresh = tmp_path / "fresh"
    run(data, fresh)
    same(stored, lake(data))
    assert lake(fresh)["hf"].num_rows > stored["hf"].num_rows


@pytest.mark.parametrize("held_bytes", [task.HELD_BYTES, 0])
def test_a_file_of_other_symbols_may_come_at_any_time(
    tmp_path: Path, held_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task, "HELD_BYTES", held_bytes)
    data = tmp_path / "data"
    bring(data, "later", history(1, 60, 30, ("A/B",)))
    run(data)
    bring(data, "earlier", history(2, 0, 30, ("C/D",)))
    run(data)
    both = tmp_path / "both"
    run(data, both)
    same(lake(data), lake(both))


def test_a_run_that_was_cut_off_goes_on(tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task, "COMMIT_BYTES", 1)
    lines = history(1, 0, 90)
    data = tmp_path / "data"
    for at in range(0, len(lines), 120):
        bring(data, f"{at}", lines[at : at + 120])

    def interrupt(after: int) -> Callable[[int, int], None]:
        def check(done: int, _total: int) -> None:
            if done >= after:
                raise KeyboardInterrupt

        return check

    for after in (100, 350):
        with pytest.raises(KeyboardInterrupt):
            run(data, progress=interrupt(after))
    run(data)
    same(lake(data), lake(whole))


def recorded(seed: int, seconds: int) -> list[Record]:
    """The history as a raw partition's records, with holes between their offsets."""
    events = [event for line in history(seed, 0, seconds) for event in parse(line, "f")[0]]
    return [
        Record(2, 7 * i, e.capture_ts // MS, e.key.encode(), codec.encode(e), codec.headers(e))
        for i, e in enumerate(events)
    ]


def live_lake(root: Path, records: Sequence[Record]) -> None:
    """A lake of what both services make of the records."""
    topics = Topics()
    tables = {
        topics.features: rows.hf_table(FEATURES),
        topics.trades: rows.TRADES,
        topics.ticker: rows.TICKER,
        topics.bars: rows.BARS,
    }
    found: dict[str, list[dict[str, Any]]] = {topic: [] for topic in tables}
    for processor in (FeatureProcessor(FEATURES, topics), BarProcessor(BARS, topics)):
        compute = Compute(processor, topics.raw)
        for at in range(0, len(records), 33):
            for output in compute.run([Run(2, records[at : at + 33], 0)]).outputs:
                if output.topic in tables:
                    found[output.topic].append(rows.decode(output.value))
    for topic, table in tables.items():
        with LakeWriter.open(lake_tree(root), table, ChainId("cluster", topic, 2), first=0) as lake_writer:
            lake_writer.add(found[topic])
            lake_writer.commit(len(found[topic]))


def store(data: Path, records: Sequence[Record], raw_format: RawFormat) -> None:
    """The records as Bronze, in batches of 50."""
    with closing(Chain.open(bronze.tree(data), ChainId("cluster", "market.raw", 2), first=0)) as chain:
        if records[0].offset > chain.next_offset:
            chain.commit(records[0].offset, gap=Gap(chain.next_offset, records[0].offset))
        writer = BronzeWriter(chain, raw_format)
        for at in range(0, len(records), 50):
            writer.append(records[at : at + 50])
            writer.commit(records[at : at + 50][-1].offset + 1)


@pytest.mark.parametrize("raw_format", ["parquet", "ndjson"])
def test_rows_are_those_of_the_live_processors(tmp_path: Path, raw_format: RawFormat) -> None:
    """A raw partition to Bronze and on to the lake, and the same records through both services to the lake."""
    records = recorded(3, 60)
    batch, live = tmp_path / "batch", tmp_path / "live"
    store(batch, records, raw_format)
    run(batch)
    live_lake(live, records)
    for table in etl.TABLES:
        ours, theirs = (scan(root, table).to_table() for root in (batch, live))
        order = [
            (n, "ascending")
            for n in ("source_offset", "duration", "bar_type", "timestamp", "id")
            if n in ours.column_names
        ]
        assert ours.num_rows > 0
        assert ours.sort_by(order).equals(theirs.sort_by(order)), table


@pytest.mark.parametrize("raw_format", ["parquet", "ndjson"])
def test_a_recorded_gap_is_seen_as_in_a_replay(tmp_path: Path, raw_format: RawFormat) -> None:
    """Bronze lacks its beginning and a part in the middle, behind which one symbol comes late."""
    records = recorded(4, 120)
    first, last = records[30:220], [one for one in records[270:330] if b"C/D" not in (one.key or b"")] + records[330:]
    batch, live, deaf = tmp_path / "batch", tmp_path / "live", tmp_path / "deaf"
    store(batch, first, raw_format)
    store(batch, last, raw_format)
    run(batch)
    with closing(market.sqlite(tmp_path)) as log:
        with Replay(log, bronze.tree(batch), "again") as again:
            assert again.run()
        replayed = market.read(log, again.state.target)[2]
    assert len(replayed) == len(first) + len(last) + 2
    live_lake(live, replayed)
    same(lake(batch), lake(live))
    live_lake(deaf, [*first, *last])
    assert not lake(deaf)["hf"].equals(lake(live)["hf"])
    assert not lake(deaf)["bars"].equals(lake(live)["bars"])


def test_information_bars_lie_beside_the_time_bars(whole: Path) -> None:
    table = scan(whole, "bars", duration=0).to_table()
    assert set(table["bar_type"].to_pylist()) == {"tick", "volume", "tick_imbalance"}
    assert set(scan(whole, "bars", duration=1).to_table()["bar_type"].to_pylist()) == {"time"}
    by_type = table.filter(pc.equal(table["bar_type"], "volume"))
    assert set(by_type["symbol"].to_pylist()) == {"A-B"}
    assert min(by_type["volume"].to_pylist()) >= 3.3 * (1 - 1e-9)


def test_what_must_not_mix_is_refused(tmp_path: Path, whole: Path) -> None:
    with pytest.raises(StorageError, match="of configuration"):
        etl.run(whole, features=FeatureConfig(), bars=BARS)
    live = tmp_path / "live"
    with LakeWriter.open(lake_tree(live), rows.TICKER, ChainId("id", "market.ticker", 0), first=0) as writer:
        writer.commit(5)
    with pytest.raises(StorageError, match=r"live pipeline.*--output"):
        run(whole, live)
    with pytest.raises(ConfigError, match="names a version"):
        run(whole, f"{tmp_path}@0123456789ab")
    with pytest.raises(ConfigError, match="no table quotes"):
        run(whole, tables=["hf", "quotes"])
    with pytest.raises(StorageError, match="no committed Bronze"):
        run(tmp_path / "nothing")


def test_a_channel_that_is_switched_off_is_not_made(tmp_path: Path) -> None:
    data = tmp_path / "data"
    bring(data, "all", history(1, 0, 30))
    assert set(run(data, tables=["bars", "trades"]).rows) == {"bars", "trades"}
    with pytest.raises(StorageError, match="no committed hf rows"):
        scan(data, "hf")


def test_a_segment_that_cannot_be_read_is_named(whole: Path, tmp_path: Path) -> None:
    segment = next((whole / "raw" / "ready").rglob("orderbook/*.parquet"))
    content = segment.read_bytes()
    segment.write_bytes(content[:-30])
    with pytest.raises(SegmentError, match=segment.name):
        run(whole, tmp_path / "stop")
    named: list[SegmentError] = []
    result = run(whole, tmp_path / "go-on", on_error=named.append)
    assert [segment.name in str(error) for error in named] == [True]
    assert result.rows["trades"] > 0


def test_offsets_tile_and_meta_tells_the_road(whole: Path) -> None:
    tree = lake_tree(whole)
    for chain in chains(tree):
        records = list(commits(tree, chain))
        assert records[0].start == 1
        assert [r.start for r in records[1:]] == [r.next_offset for r in records[:-1]]
        assert {r.meta["road"] for r in records} == {"etl"}
        assert records[-1].next_offset == 361


@pytest.mark.parametrize("begun", [False, True], ids=["at once", "begun before"])
def test_rows_over_compacted_segments_are_the_same(tmp_path: Path, begun: bool) -> None:
    """Batches of closed days become one, whether some of them were already made into rows or not."""
    events = [event for line in history(5, 0, 60) for event in parse(line, "f")[0]]
    records = [bronze.record_of(event, 3 * i) for i, event in enumerate(events)]
    plain, compacted = tmp_path / "plain", tmp_path / "compacted"
    for data in (plain, compacted):
        with Chain.open(bronze.tree(data), ChainId("cluster", "market.raw", 0), first=0) as chain:
            writer = BronzeWriter(chain)
            for at in range(0, len(records), 60):
                writer.append(records[at : at + 60])
                writer.commit(records[at : at + 60][-1].offset + 1)
                if data is compacted and at == 120:
                    if begun:
                        run(data)
                    assert compact(bronze.tree(data), LAYOUT, Options(grace_s=0.0)).records_before == 3
        run(data)
        for layer in ("bronze", "lake"):
            assert not validate(data, layer).problems
    assert compact(bronze.tree(compacted), LAYOUT, Options(grace_s=0.0)).records_after == 1
    assert run(compacted) == etl.Result()
    same(lake(compacted), lake(plain))


class TestDays:
    """Three days, a few minutes each around midnight, over two chains that overlap."""

    DAYS = ("2023-11-14", "2023-11-15", "2023-11-16")
    MIDNIGHT = 1_700_006_400 - T0
    """From T0 to the first midnight, s."""

    @pytest.fixture
    def days(self, tmp_path: Path) -> Path:
        data = tmp_path / "days"
        starts = [self.MIDNIGHT + 86_400 * n - 60 for n in range(3)]
        for name, symbols in (("one", ("A/B",)), ("two", ("A/B", "C/D"))):
            lines = [line for n, start in enumerate(starts) for line in history(n + len(name), start, 180, symbols)]
            bring(data, name, [line.replace(b'"x"', b'"%s"' % name.encode()) for line in lines])
        run(data, tmp_path / "every")
        return data

    def test_day_by_day_is_all_at_once(self, days: Path, tmp_path: Path) -> None:
        every, single = tmp_path / "every", tmp_path / "single"
        stored = dict.fromkeys(etl.TABLES, 0)
        for day in self.DAYS:
            window = Window.of_days(day, day)
            made = run(days, single, window=window)
            assert all(made.rows[table] > 0 for table in etl.TABLES)
            for table in etl.TABLES:
                stored[table] += made.rows[table]
                rows_of = [scan(root, table).to_table() for root in (single, every)]
                assert rows_of[0].num_rows == stored[table]
                complete = pc.less(rows_of[1]["date"].cast(pa.string()), pa.scalar(day))
                assert rows_of[1].filter(complete).num_rows <= stored[table]
            last = scan(single, "bars", duration=60).to_table()
            assert window.until is not None
            assert last["timestamp"].cast(pa.int64()).to_numpy().max() < window.until
            assert run(days, single, window=window).rows == {}
        assert run(days, single).rows["hf"] > 0, "what lies behind the last day's tail"
        same(lake(single), lake(every))

    def test_a_range_gives_the_rows_of_its_days(self, days: Path, tmp_path: Path) -> None:
        """Whole days of them, the bars included that close behind midnight."""
        run(days, tmp_path / "range", window=Window.of_days(self.DAYS[1], self.DAYS[1]))
        for table in etl.TABLES:
            ours, theirs = (
                scan(tmp_path / root, table).to_table().drop(["source_partition"]) for root in ("range", "every")
            )
            wanted = [found.filter(pc.equal(found["date"].cast(pa.string()), self.DAYS[1])) for found in (ours, theirs)]
            by = [
                (n, "ascending")
                for n in ("exchange", "source_offset", "symbol", "duration", "bar_type", "timestamp", "id")
                if n in ours.column_names
            ]
            assert wanted[0].num_rows > 0
            assert wanted[0].sort_by(by).equals(wanted[1].sort_by(by)), table

    def test_days_that_do_not_continue_the_lake_are_refused(self, days: Path, tmp_path: Path) -> None:
        output = tmp_path / "single"
        run(days, output, window=Window.of_days(self.DAYS[1], self.DAYS[1]))
        stored = lake(output)
        with pytest.raises(StorageError, match=r"the lake begins at offset.*fresh --output"):
            run(days, output)
        with pytest.raises(StorageError, match="the lake begins at offset"):
            run(days, output, window=Window.of_days(self.DAYS[0], self.DAYS[2]))
        fresh = tmp_path / "fresh"
        run(days, fresh, window=Window.of_days(self.DAYS[0], self.DAYS[0]))
        with pytest.raises(StorageError, match=r"the lake ends at offset.*days between"):
            run(days, fresh, window=Window.of_days("2023-11-17", "2023-11-17"))
        same(lake(output), stored)

    def test_a_range_that_is_none(self) -> None:
        with pytest.raises(ConfigError, match="before it begins"):
            Window.of_days("2023-11-15", "2023-11-14")
        with pytest.raises(ConfigError, match="'yesterday' is no day"):
            Window.of_days("yesterday", "2023-11-14")
