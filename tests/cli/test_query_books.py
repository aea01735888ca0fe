"""The `orderbook` view of `fluxforge query`: a condition on time or market opens what can hold such books, no more."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from fluxforge import bronze, codec
from fluxforge.clock import MS, NS
from fluxforge.events import BookSnapshot
from fluxforge.files import Chain
from fluxforge.log import Record
from fluxforge_cli.main import app
from stored_data import FIRST, RAW

MINUTE = 60 * NS
SEGMENTS, BOOKS = 6, 40
"""A segment for each ten minutes; half of its books BTC/USDT's, in the first minute, half ETH/USDT's, in the sixth."""
LATER = FIRST + 20 * MINUTE
"""2022-01-08 00:20:00, when the third segment begins."""
SIXTH = LATER + 5 * MINUTE
SIXTH_END = SIXTH + 9 * NS


def book(number: int) -> BookSnapshot:
    segment, inside = divmod(number, BOOKS)
    half, second = divmod(inside, BOOKS // 2)
    at = FIRST + (segment * 10 + half * 5) * MINUTE + second * NS + 7
    symbol = ("BTC/USDT", "ETH/USDT")[half]
    return BookSnapshot(
        exchange="binance", symbol=symbol, native="X", source="binance", collector="c", connection="x",
        ts=at - MS, capture_ts=at, bids=struct.pack("<2d", 99.5, 1.0), asks=struct.pack("<2d", 100.5, 1.0),
    )  # fmt: skip


def make(root: Path) -> None:
    """Segments of many row groups."""
    with Chain.open(bronze.tree(root), RAW, first=0) as chain:
        writer = bronze.BronzeWriter(chain, group_bytes=1)
        for number in range(SEGMENTS * BOOKS):
            event = book(number)
            value, headers = codec.encode(event), codec.headers(event)
            writer.append([Record(0, number, event.capture_ts // MS, event.key.encode(), value, headers)])
            if (number + 1) % BOOKS == 0:
                writer.commit(number + 1)


def answer(data: Path, sql: str, *more: str) -> list[dict[str, Any]]:
    result = CliRunner().invoke(app, ["query", sql, "--data-dir", str(data), "--json", *more])
    if result.exception:
        raise result.exception
    found: list[dict[str, Any]] = json.loads(result.stdout)
    return found


def spoil(data: Path, first: int, last: int, symbol: str | None) -> tuple[int, int]:
    """Remove the segments without a book of these times, ns, and spoil the row groups that have none of these books.

    Returns how many segments and row groups are left: to open or read another fails.
    """
    files = groups = 0
    for path in sorted(data.rglob("orderbook/*.parquet")):
        with pq.ParquetFile(path) as opened:
            footer = opened.metadata
        content, kept = bytearray(path.read_bytes()), 0
        for number in range(footer.num_row_groups):
            group = footer.row_group(number)
            columns = {group.column(k).path_in_schema: group.column(k) for k in range(group.num_columns)}
            times, market = columns["capture_ts"].statistics, columns["symbol"].statistics
            if times.max_raw >= first and times.min_raw <= last and symbol in (None, market.min):
                kept += 1
                continue
            for column in columns.values():
                at = column.dictionary_page_offset or column.data_page_offset
                content[at : at + column.total_compressed_size] = b"\xff" * column.total_compressed_size
        path.write_bytes(content)
        if not kept:
            path.unlink()
        files, groups = files + bool(kept), groups + kept
    return files, groups


COUNT = "SELECT count(*) AS n, min(capture_ns) AS a, max(capture_ns) AS b, count(DISTINCT list_sum(bid_prices)) AS c"
TEN_MINUTES = "'2022-01-08 00:20:00' AND capture_ts < '2022-01-08 00:30:00'"


@pytest.mark.parametrize(
    ("where", "more", "first", "last", "symbol"),
    [
        (f"capture_ts >= {TEN_MINUTES}", (), LATER, LATER + 10 * MINUTE - 1, None),
        (f"capture_ts >= TIMESTAMP {TEN_MINUTES}", (), LATER, LATER + 10 * MINUTE - 1, None),
        (f"capture_ns >= {LATER} AND capture_ns < {LATER + 10 * MINUTE}", (), LATER, LATER + 10 * MINUTE - 1, None),
        ("true", ("--from", "2022-01-08T00:20", "--to", "2022-01-08T00:30"), LATER, LATER + 10 * MINUTE - 1, None),
        ("true", ("--from", "2022-01-08T00:25:05", "--to", "2022-01-08T00:25:09"), SIXTH + 5 * NS, SIXTH_END, None),
        (f"capture_ts >= {TEN_MINUTES} AND symbol = 'BTC/USDT'", (), LATER, LATER + 10 * MINUTE - 1, "BTC/USDT"),
        ("symbol = 'ETH/USDT' AND exchange = 'binance'", (), FIRST, FIRST + 60 * MINUTE, "ETH/USDT"),
        ("capture_ts = '2022-01-08 00:20:03'", (), LATER + 3 * NS, LATER + 3 * NS + 999, None),
    ],
)  # fmt: skip
def test_only_what_can_hold_such_books_is_read(
    tmp_path: Path, where: str, more: tuple[str, ...], first: int, last: int, symbol: str | None
) -> None:
    make(tmp_path)
    times = [event.capture_ts for event in map(book, range(SEGMENTS * BOOKS)) if symbol in (None, event.symbol)]
    wanted = [time for time in times if first <= time <= last]
    files, groups = spoil(tmp_path, first, last, symbol)
    assert 0 < files <= (SEGMENTS if "exchange" in where else 1)
    assert 0 < groups <= len(wanted) + 2, "row groups of a book or two"
    (found,) = answer(tmp_path, f"{COUNT} FROM orderbook WHERE {where}", *more)
    assert found == {"n": len(wanted), "a": min(wanted), "b": max(wanted), "c": 1}
    with pytest.raises(Exception, match=r"orderbook|thrift|Thrift|page"):
        answer(tmp_path, f"{COUNT} FROM orderbook")


def test_a_condition_that_no_book_meets_reads_none(tmp_path: Path) -> None:
    make(tmp_path)
    assert spoil(tmp_path, 0, 0, None) == (0, 0)
    assert answer(tmp_path, "SELECT symbol FROM orderbook WHERE capture_ts < '2022-01-08'") == []


def test_conditions_that_cannot_be_handed_down_hold_all_the_same(tmp_path: Path) -> None:
    make(tmp_path)
    sql = "SELECT count(*) AS n FROM orderbook WHERE {}"
    assert answer(tmp_path, sql.format("date_trunc('minute', capture_ts) = TIMESTAMP '2022-01-08 00:05'")) == [
        {"n": BOOKS // 2}
    ]
    assert answer(tmp_path, sql.format("symbol = 'ETH/USDT' OR capture_ns % 2 = 0"))[0]["n"] >= SEGMENTS * BOOKS // 2
    ages = "SELECT max(capture_ts - ts) AS age, max(epoch_us(capture_ts)) AS last FROM orderbook"
    assert answer(tmp_path, ages)[0]["last"] == book(SEGMENTS * BOOKS - 1).capture_ts // 1000


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo"])
def test_times_are_utc_wherever_the_machine_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zone: str) -> None:
    monkeypatch.setenv("TZ", zone)
    make(tmp_path)
    sql = "SELECT count(*) AS n, CAST(min(capture_ts) AS VARCHAR) AS first FROM orderbook"
    assert answer(tmp_path, f"{sql} WHERE capture_ts < '2022-01-08 00:10'") == [
        {"n": BOOKS, "first": "2022-01-08 00:00:00"}
    ]
