"""The lake as a source: the newest minutes of a market, on a disk and in a bucket."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from fluxforge import rows
from fluxforge.clock import MS, NS
from fluxforge.errors import ConfigError
from fluxforge.files import ChainId
from fluxforge.lake import LakeWriter, lake_tree
from fluxforge.settings.models import StorageLocation
from fluxforge_cli.dashboard import shelf as module
from fluxforge_cli.dashboard.shelf import Shelf, stored_bars
from made_market import CONFIG, bar_row, feature_row

T = 1_750_000_200
NAME = "binance|BTC/USDT:USDT"
SYMBOL = "BTC/USDT:USDT"
HF = rows.hf_table(CONFIG)


@pytest.fixture
def place(root: str) -> StorageLocation:
    return StorageLocation().elsewhere(root)


@pytest.fixture
def shelf(place: StorageLocation, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shelf]:
    monkeypatch.setattr(module, "LOOK_S", 0.05)
    shelf = Shelf(place, 60)
    yield shelf
    shelf.stop()


def write(place: StorageLocation, table: rows.Table, found: list[dict[str, Any]]) -> None:
    """A batch of the table's one chain."""
    with LakeWriter.open(
        lake_tree(place), table, ChainId("log", f"market.{table.name}", 0), first=0, config_hash="c"
    ) as to:
        offset = to.next_offset
        to.add([{**row, "source_offset": offset + k} for k, row in enumerate(found)])
        to.commit(offset + len(found))


def features(first: int, last: int) -> list[dict[str, Any]]:
    wanted = {"exchange", "symbol", "source", *HF.schema.names}
    found = (feature_row(SYMBOL, at * NS + 5 * MS) for at in range(first, last))
    return [{name: value for name, value in row.items() if name in wanted} for row in found]


def bars(first: int, last: int, duration: int) -> list[dict[str, Any]]:
    return [bar_row(SYMBOL, at, duration) for at in range(first, last, duration)]


def until(holds: Any) -> None:
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)


def test_the_newest_rows_of_a_market_and_those_that_come(place: StorageLocation, shelf: Shelf) -> None:
    write(place, HF, features(T, T + 100))
    shelf.start()
    until(lambda: shelf.board.markets)
    assert list(shelf.board.markets) == [NAME]
    shelf.want(NAME)
    found = shelf.board.markets[NAME].rows()
    assert found.times.tolist() == [(T + k) * NS + 5 * MS for k in range(40, 100)]
    row = feature_row(SYMBOL, (T + 99) * NS + 5 * MS)
    values = dict(zip(shelf.board.markets[NAME].columns, found.values[-1].tolist(), strict=True))
    assert {name: values[name] for name in ("ofi_sum_5s", "ask_size_L9")} == {
        name: row[name] for name in ("ofi_sum_5s", "ask_size_L9")
    }
    write(place, HF, features(T + 100, T + 103))
    until(lambda: shelf.board.markets[NAME].time == (T + 102) * NS + 5 * MS)
    assert shelf.trouble() is None


def test_candles_come_from_the_longest_bars_that_fit(place: StorageLocation, shelf: Shelf) -> None:
    write(place, HF, features(T + 599, T + 600))
    write(place, rows.BARS, bars(T, T + 600, 1) + bars(T, T + 600, 60))
    shelf.start()
    until(lambda: shelf.trouble() is None)
    shelf.want(NAME)
    assert shelf.durations() == [1, 60]
    assert [bar.time for bar in shelf.candles(NAME, 120, 3)] == [T + 240, T + 360, T + 480]
    assert next(bar.trades for bar in shelf.candles(NAME, 7, 2)) == 21
    one = shelf.candles(NAME, 60, 1)[0]
    row = bar_row(SYMBOL, T + 540, 60)
    assert one == (T + 540, row["open"], row["high"], row["low"], row["close"], row["volume"], 180, False)


def test_bars_before_a_time_are_those_and_no_others(place: StorageLocation) -> None:
    assert stored_bars(place, NAME, 60, T + 600, 5) == []
    write(place, rows.BARS, bars(T, T + 600, 60))
    assert [bar.time for bar in stored_bars(place, NAME, 60, T + 300, 2)] == [T + 180, T + 240]


def test_a_lake_without_rows_is_no_trouble(shelf: Shelf) -> None:
    shelf.start()
    until(lambda: shelf.trouble() is None)
    assert not shelf.board.markets
    with pytest.raises(ConfigError, match="no bars make candles of 60 s"):
        shelf.candles(NAME, 60, 10)
