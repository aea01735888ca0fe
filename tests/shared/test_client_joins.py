"""As-of joins against a naive search, and the order they stand on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from fluxforge.client import Row, asof
from fluxforge.client.order import Held, in_order
from row_order import key

TIMES = st.integers(0, 12)


def row(number: int, time: int, symbol: str, exchange: str = "x", duration: int = 0) -> Row:
    return {
        "exchange": exchange, "symbol": symbol, "source": "s", "timestamp": -number, "capture_ts": time,
        "source_partition": 0, "source_offset": number, "duration": duration, "bar_type": "time",
    }  # fmt: skip


ROWS = st.lists(
    st.tuples(TIMES, st.sampled_from(["B", "A", "é", "C"]), st.sampled_from("xy"), st.sampled_from([1, 60])),
    max_size=40,
).map(lambda found: [row(n, *values) for n, values in enumerate(found)])


async def given_out(rows: list[Row]) -> AsyncIterator[Row]:
    for one in rows:
        yield one


def joined(rows: list[Row], within_s: float | None) -> list[tuple[Row, dict[object, Row]]]:
    async def collect() -> list[tuple[Row, dict[object, Row]]]:
        found = asof(given_out(rows), lambda r: r["symbol"] == "B", within_s=within_s)
        return [(left, dict(seen)) async for left, seen in found]

    return asyncio.run(collect())


@given(ROWS, st.sampled_from([None, 0.0, 3e-9]))
def test_a_row_sees_the_newest_before_it_and_none_after(rows: list[Row], within_s: float | None) -> None:
    ordered = sorted(rows, key=key)
    markets = {(r["exchange"], r["symbol"], r["duration"], r["bar_type"]) for r in rows}
    expected = []
    for left in ordered:
        if left["symbol"] != "B":
            continue
        own, seen = (left["exchange"], "B", left["duration"], "time"), {}
        for market in markets - {own}:
            before = [
                r
                for r in rows
                if (r["exchange"], r["symbol"], r["duration"], r["bar_type"]) == market and key(r) < key(left)
            ]
            if before:
                newest = max(before, key=key)
                if within_s is None or left["capture_ts"] - newest["capture_ts"] <= within_s * 1e9:
                    seen[market] = newest
        expected.append((left, seen))
    got = joined(ordered, within_s)
    assert got == expected
    assert all(other["capture_ts"] <= left["capture_ts"] for left, seen in got for other in seen.values())


def test_the_order_is_capture_time_then_what_the_row_says() -> None:
    """Each of these has one thing more than the one before it, and less of everything behind that."""
    given_ = [
        row(9, 1, "B", "y", 60),
        row(8, 2, "B", "x", 60),
        row(7, 2, "C", "x", 60),
        row(6, 2, "A", "y", 60),
        row(5, 2, "A", "y", 60) | {"source": "t"},
        row(4, 2, "A", "y", 60) | {"source": "t", "source_partition": 1},
        row(9, 2, "A", "y", 1) | {"source": "t", "source_partition": 1, "bar_type": "volume"},
        row(9, 2, "A", "y", 5) | {"source": "t", "source_partition": 1, "bar_type": "tick", "timestamp": 7},
        row(9, 2, "A", "y", 5) | {"source": "t", "source_partition": 1, "bar_type": "time", "timestamp": 3},
        row(9, 2, "A", "y", 5) | {"source": "t", "source_partition": 1, "bar_type": "time", "timestamp": 4},
    ]
    backwards = given_[::-1]
    assert sorted(backwards, key=key) == given_
    ticker = {name: value for name, value in given_[0].items() if name not in ("duration", "bar_type")}
    assert key(ticker) < key(given_[0])


SCHEMA = pa.schema(
    [(name, pa.string() if isinstance(value, str) else pa.int64()) for name, value in row(0, 0, "").items()]
)


@given(ROWS)
def test_arrow_orders_as_python_does(rows: list[Row]) -> None:
    assert in_order(pa.Table.from_pylist(rows, SCHEMA)).to_pylist() == sorted(rows, key=key)


@given(ROWS, st.data())
def test_rows_out_of_order_come_in_order(rows: list[Row], data: st.DataObject) -> None:
    """Each row as late as may be: up to 5 ns behind the latest before it."""
    held, found, latest = Held(5), [], 0
    late = sorted(rows, key=lambda r: r["capture_ts"] + data.draw(st.integers(0, 5)))
    while late:
        some = data.draw(st.integers(1, 4))
        held.add(pa.Table.from_pylist(late[:some], SCHEMA))
        latest, late = max(latest, *(one["capture_ts"] for one in late[:some])), late[some:]
        table = held.release(latest)
        found += table.to_pylist() if table else []
        assert all(r["capture_ts"] < latest - 5 for r in found)
    table = held.release(None)
    found += table.to_pylist() if table else []
    assert found == sorted(rows, key=key)
    assert len(held) == 0
