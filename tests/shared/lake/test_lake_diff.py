"""What two lakes differ in, beside a comparison of plain rows; and as the command tells it."""

from __future__ import annotations

import json
import math
import struct
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from fluxforge import rows
from fluxforge.clock import NS
from fluxforge.errors import StorageError
from fluxforge.files import ChainId
from fluxforge.lake import LakeWriter, lake_tree
from fluxforge.lake.diff import ColumnDiff, compare, diff
from fluxforge_cli.main import app
from stored_data import DAY, FIRST, LOG, make_lake, row

Rows = list[dict[str, Any]]
SCHEMA = pa.schema(
    [("timestamp", pa.int64()), ("source_offset", pa.int64()), ("id", pa.string()), ("price", pa.float64()),
     ("side", pa.int32()), ("note", pa.string())]
)  # fmt: skip
FLOATS = st.none() | st.sampled_from([0.0, -0.0, 1.5, math.nan, math.inf]) | st.floats()
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "timestamp": st.integers(0, 3),
            "source_offset": st.integers(0, 50),
            "id": st.sampled_from(["1", "2"]),
            "price": FLOATS,
            "side": st.none() | st.integers(-1, 1),
            "note": st.none() | st.sampled_from(["a", "b"]),
        }
    ),
    max_size=8,
)


def bits(value: Any) -> Any:
    return struct.pack("<d", value) if isinstance(value, float) else value


def plainly(a: Rows, b: Rows) -> tuple[tuple[int, int], int, dict[str, tuple[int, int]]]:
    """Rows alone, rows that differ, and of each column how many and since when."""
    sides: list[dict[tuple[int, str], Rows]] = []
    for side in (a, b):
        found: dict[tuple[int, str], Rows] = defaultdict(list)
        for each in sorted(side, key=lambda each: (each["timestamp"], each["id"], each["source_offset"])):
            found[each["timestamp"], each["id"]].append(each)
        sides.append(found)
    one, other = sides
    pairs = [pair for key in one for pair in zip(one[key], other.get(key, []), strict=False)]
    columns: dict[str, list[int]] = defaultdict(list)
    for x, y in pairs:
        for name in ("price", "side", "note"):
            if bits(x[name]) != bits(y[name]):
                columns[name].append(x["timestamp"])
    differ = sum(any(bits(x[name]) != bits(y[name]) for name in ("price", "side", "note")) for x, y in pairs)
    counted = {name: (len(times), min(times)) for name, times in columns.items()}
    return (len(a) - len(pairs), len(b) - len(pairs)), differ, counted


@given(ROWS, ROWS)
def test_as_plain_rows_compare(a: Rows, b: Rows) -> None:
    """Rows of one identity and offset in one lake have no order, so none are made."""
    a, b = (list({(r["timestamp"], r["id"], r["source_offset"]): r for r in side}.values()) for side in (a, b))
    found = compare("trades", "there", *(pa.Table.from_pylist(side, schema=SCHEMA) for side in (a, b)))
    alone, differ, columns = plainly(a, b)
    assert (found.rows, found.alone, found.differ) == ((len(a), len(b)), alone, differ)
    assert {each.name: (each.rows, each.first) for each in found.columns} == columns
    assert found.same == (not differ and alone == (0, 0))


@given(ROWS, st.randoms())
def test_a_lake_is_like_itself_in_any_order_and_at_other_offsets(a: Rows, random: Any) -> None:
    a = list({(r["timestamp"], r["id"], r["source_offset"]): r for r in a}.values())
    moved = [{**each, "source_offset": each["source_offset"] + 7} for each in a]
    random.shuffle(moved)
    one, other = (pa.Table.from_pylist(side, schema=SCHEMA) for side in (a, moved))
    assert compare("trades", "there", one, other).same
    assert compare("trades", "there", one, other, ignore=()).same == (not a)


def test_the_largest_difference_and_columns_of_one_side() -> None:
    one = pa.table({"timestamp": [1, 2, 3], "close": [1.0, 2.0, math.nan], "extra": [0, 0, 0]})
    other = pa.table({"timestamp": [3, 1, 2], "close": [1.0, 1.25, 1.0]})
    found = compare("hf", "there", one, other)
    assert found.columns == [ColumnDiff("close", 3, 1, 1.0)]
    assert (found.differ, found.unshared, found.alone) == (3, ["extra"], (0, 0))


def test_times_differ_by_nanoseconds() -> None:
    """Which a float of them could not tell."""
    one, other = (pa.table({"timestamp": [DAY], "last_moved": [FIRST + 2**60 + later]}) for later in (0, 3))
    assert compare("cross", "there", one, other).columns == [ColumnDiff("last_moved", 1, DAY, 3.0)]


@pytest.fixture
def lakes(new_root: Callable[[str], str]) -> tuple[str, str]:
    """The same twice, in a folder and in a bucket, but for one hour's bar and the last day's tickers."""
    a, b = new_root("folder"), new_root("bucket")
    make_lake(a)
    chain = ChainId(LOG, "market.bars", 0)
    with LakeWriter.open(lake_tree(b), rows.BARS, chain, first=0, config_hash="other") as writer:
        writer.add(list(bars()))
        writer.commit(1000)
    chain = ChainId(LOG, "market.ticker", 0)
    with LakeWriter.open(lake_tree(b), rows.TICKER, chain, first=0) as writer:
        for day, hour in ((day, hour) for day in range(2) for hour in range(24)):
            for symbol in ("BTC/USDT", "ETH/USDT"):
                at = FIRST + day * DAY + hour * 3600 * NS
                writer.add([row(rows.TICKER, at, writer.next_offset, symbol, bid=float(hour))])
        writer.commit(1000)
    return a, b


def bars() -> Iterable[dict[str, Any]]:
    for day, hour in ((day, hour) for day in range(3) for hour in range(24)):
        at = FIRST + day * DAY + hour * 3600 * NS
        for symbol in ("BTC/USDT", "ETH/USDT"):
            odd = (day, hour, symbol) == (1, 5, "ETH/USDT")
            for more in ({"duration": 60, "close": hour + 0.5 * odd}, {"duration": 300, "close": -1.0}):
                yield row(rows.BARS, at, day, symbol, **more)


def test_days_that_differ_are_told(lakes: tuple[str, str]) -> None:
    found = {day.path: day for day in diff(*lakes)}
    unlike = {path.split("/exchange=")[1]: day for path, day in found.items() if not day.same}
    date = "2022-01-09"
    bar = unlike.pop(f"binance/symbol=ETH-USDT/date={date}/duration=60")
    assert (bar.rows, bar.alone, bar.differ) == ((24, 24), (0, 0), 1)
    assert bar.columns == [ColumnDiff("close", 1, FIRST + DAY + 5 * 3600 * NS, 0.5)]
    assert {path: (day.rows, day.alone) for path, day in unlike.items()} == {
        f"binance/symbol={symbol}-USDT/date=2022-01-10": ((24, 0), (24, 0)) for symbol in ("BTC", "ETH")
    }
    assert len(found) == 3 * 2 * 2 + 3 * 2
    assert all(day.same for day in diff(*lakes, tables=["bars"], symbol="BTC/USDT"))
    assert all(day.same for day in diff(*lakes, tables=["bars"], end=FIRST + DAY + 5 * 3600 * NS))
    assert sum(day.rows[0] for day in diff(*lakes, tables=["bars"], start=FIRST + 2 * DAY + 23 * 3600 * NS)) == 4
    with pytest.raises(StorageError, match="has rows to compare"):
        list(diff(*lakes, exchange="kraken"))
    with pytest.raises(StorageError, match="there is no table 'bar'"):
        list(diff(*lakes, tables=["bar"]))


def test_the_command(lakes: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    told = CliRunner().invoke(app, ["diff-lake", *lakes])
    assert told.exit_code == 1
    assert "3 of 18 folders differ; 432 rows in A, 384 in B" in told.stdout
    assert "close: 1, 0.5, 2022-01-09 05:00:00.000" in told.stdout
    told = CliRunner().invoke(app, ["diff-lake", *lakes, "--table", "bars", "--symbol", "BTC/USDT"])
    assert (told.exit_code, told.stdout.strip()) == (0, "no difference; 144 rows in A, 144 in B")
    told = CliRunner().invoke(app, ["diff-lake", *lakes, "--table", "ticker", "--json"])
    assert told.exit_code == 1
    assert sum(day["alone"][0] for day in json.loads(told.stdout)) == 48
