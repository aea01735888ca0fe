"""The pass-through: every event of a channel, as it is, by market and day."""

from __future__ import annotations

import heapq
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from fluxforge import bronze, codec, etl
from fluxforge.bronze import RawFormat
from fluxforge.bronze.records import events_of
from fluxforge.bronze.schema import CHANNEL_OF
from fluxforge.etl import passing
from fluxforge.events import AnyEvent, ClockSource
from fluxforge.files import chains
from fluxforge.lake import scan
from fluxforge.log import Record
from seeded_market import market
from shared.etl.test_etl import MS, run, store

SYMBOLS = ("A/B", "C/D")
ALL = (*etl.TABLES, *passing.TABLES)


@pytest.fixture(params=["parquet", "ndjson"])
def data(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Two markets in one chain that lacks its beginning and a part in the middle."""
    streams = [market(symbol, seed, 120) for seed, symbol in enumerate(SYMBOLS)]
    events = [event for _, event in heapq.merge(*streams, key=lambda one: one[0])]
    records = [
        Record(2, 7 * i, e.capture_ts // MS, e.key.encode(), codec.encode(e), codec.headers(e))
        for i, e in enumerate(events)
    ]
    raw_format: RawFormat = request.param
    for part in (records[30:400], records[470:]):
        store(tmp_path, part, raw_format)
    return tmp_path


def in_bronze(data: Path) -> dict[str, list[tuple[int, AnyEvent]]]:
    """Offset and event by channel."""
    (chain,) = chains(bronze.tree(data))
    found: dict[str, list[tuple[int, AnyEvent]]] = {channel: [] for channel in passing.CHANNELS}
    for offset, event in bronze.read_events(bronze.tree(data), chain):
        found[CHANNEL_OF[type(event)]].append((offset, event))
    return found


def in_lake(data: Path, channel: str) -> pa.Table:
    """A channel's rows in order of the log."""
    whole = scan(data, f"events_{channel}").to_table()
    return whole.sort_by([("source_offset", "ascending"), ("ordinal", "ascending")])


def test_every_event_comes_through_as_it_is(data: Path) -> None:
    made = run(data, tables=ALL)
    for channel, expected in in_bronze(data).items():
        table = in_lake(data, channel)
        symbols = pa.array([symbol.replace("-", "/") for symbol in table["symbol"].to_pylist()])
        again = table.set_column(table.column_names.index("symbol"), "symbol", symbols)
        again = again.append_column("source", pa.array(["sim"] * again.num_rows))
        again = again.drop(["timestamp", "date", "source_partition", "source_offset"])
        assert len(expected) > 5, channel
        assert list(zip(table["source_offset"].to_pylist(), events_of(again), strict=True)) == expected
        assert set(table["source_partition"].to_pylist()) == {2}
        times = [event.capture_ts if event.ts is None or event.clock == ClockSource.CAPTURE else event.ts
                 for _, event in expected]  # fmt: skip
        assert table["timestamp"].to_pylist() == times
        assert made.rows[f"events_{channel}"] == len(expected)
    assert run(data, tables=ALL) == etl.Result()


def test_the_other_tables_are_the_same_beside_it_and_without(data: Path) -> None:
    run(data, tables=ALL)
    for name, tables in (("plain", etl.TABLES), ("alone", ("events_trades",)), ("two", ALL)):
        run(data, data / name, tables=tables, workers=2 if name == "two" else 1)
        for table in tables:
            one, other = (scan(root, table).to_table() for root in (data, data / name))
            order = [(n, "ascending") for n in one.column_names if n in ("source_offset", "ordinal", "duration", "id")]
            assert one.sort_by(order).equals(other.sort_by(order)), (name, table)


def test_switched_on_later_it_begins_at_the_beginning(data: Path) -> None:
    run(data)
    made = run(data, tables=(*etl.TABLES, "events_trades"))
    assert dict(made.rows) == {"events_trades": len(in_bronze(data)["trades"])}


def test_other_engines_find_markets_and_days_in_the_path(data: Path) -> None:
    run(data, tables=ALL)
    found = pl.scan_parquet(f"{data}/processed/sim/events/trades/**/*.parquet", hive_partitioning=True)
    counts = dict(found.group_by("symbol").agg(pl.len()).collect().iter_rows())
    trades = [event.symbol.replace("/", "-") for _, event in in_bronze(data)["trades"]]
    assert counts == {symbol: trades.count(symbol) for symbol in ("A-B", "C-D")}
