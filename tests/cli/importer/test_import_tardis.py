"""Tardis CSV files."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import pytest

from fluxforge.errors import SegmentError
from fluxforge.events import BookSnapshot, ClockSource, Trade
from fluxforge_cli.importer.line import Line
from fluxforge_cli.importer.tardis import read, symbol_of

BOOKS = """\
exchange,symbol,timestamp,local_timestamp,asks[0].price,asks[0].amount,bids[0].price,bids[0].amount,asks[1].price,asks[1].amount,bids[1].price,bids[1].amount
binance-futures,BTCUSDT,1598918403696000,1598918403810979,11659.5,1.25,11659.4,3,11660,2,11659,0.5
binance-futures,BTCUSDT,1598918403796000,1598918403910979,11659.5,1.25,11659.4,3,,,11659,0.5
"""
TRADES = """\
exchange,symbol,timestamp,local_timestamp,id,side,price,amount
coinbase,BTC-USD,1598918400000001,1598918400000002,7,buy,11650.5,0.01
coinbase,BTC-USD,1598918400000003,1598918400000004,,unknown,11650,1
coinbase,BTC-USD,1598918400000005,1598918400000006,8,sideways,11650,1
coinbase,BTC-USD,1598918400000005,1598918400000006
coinbase,BTC-USD,noon,1598918400000006,9,sell,11650,1
coinbase,BTC-USD,1598918400000007,1598918400000008,10,sell,11649,2
"""


def write(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()))
    return path


def lines(*paths: Path) -> list[Line]:
    return [line for _, found in read(paths) for line in found]


def test_books(tmp_path: Path) -> None:
    first, second = (event for line in lines(write(tmp_path / "b.csv.gz", BOOKS)) for event in line.events)
    assert isinstance(first, BookSnapshot)
    assert isinstance(second, BookSnapshot)
    assert (first.exchange, first.symbol, first.native) == ("binanceusdm", "BTC/USDT:USDT", "BTCUSDT")
    assert (first.ts, first.capture_ts) == (1598918403696000000, 1598918403810979000)
    assert list(struct.iter_unpack("<2d", first.bids)) == [(11659.4, 3.0), (11659.0, 0.5)]
    assert list(struct.iter_unpack("<2d", first.asks)) == [(11659.5, 1.25), (11660.0, 2.0)]
    assert list(struct.iter_unpack("<2d", second.asks)) == [(11659.5, 1.25)]
    assert not first.conflated
    assert first.clock == ClockSource.EXCHANGE


def test_trades_and_bad_lines(tmp_path: Path) -> None:
    found = lines(write(tmp_path / "t.csv.gz", TRADES))
    trades = [e for line in found for e in line.events if isinstance(e, Trade)]
    assert [(t.id, t.side, t.price, t.size) for t in trades] == [
        ("7", 1, 11650.5, 0.01),
        ("", 0, 11650.0, 1.0),
        ("10", -1, 11649.0, 2.0),
    ]
    assert trades[0].key == "coinbase|BTC/USD"
    bad = {line.number: line.bad or "" for line in found if line.bad}
    assert sorted(bad) == [4, 5, 6]
    assert "sideways" in bad[4]
    assert "4 columns instead of 8" in bad[5]
    assert "noon" in bad[6]


def test_books_that_only_repeat_the_local_time_run_on_the_capture_clock(tmp_path: Path) -> None:
    own = BOOKS.replace("1598918403696000", "1598918403810979").replace("1598918403796000", "1598918403910979")
    books = write(tmp_path / "b.csv.gz", own)
    trades = write(tmp_path / "t.csv.gz", TRADES.replace("coinbase,BTC-USD", "binance-futures,BTCUSDT"))
    assert {e.clock for line in lines(trades, books) for e in line.events} == {ClockSource.CAPTURE}
    assert {e.clock for line in lines(trades) for e in line.events} == {ClockSource.EXCHANGE}


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", BOOKS.replace("asks[1].amount", "asks[1].size"), '{"a": 1}\n'])
def test_another_header_is_named(tmp_path: Path, text: str) -> None:
    path = write(tmp_path / "x.csv.gz", text)
    with pytest.raises(SegmentError, match=r"x\.csv\.gz: line 1"):
        lines(path)


@pytest.mark.parametrize(
    ("exchange", "native", "unified"),
    [
        ("binance", "BTCUSDT", "BTC/USDT"),
        ("binance-futures", "ETHUSDT", "ETH/USDT:USDT"),
        ("coinbase", "BTC-USD", "BTC/USD"),
        ("kraken", "XBT/USD", "XBT/USD"),
        ("okex-swap", "BTC-USDT-SWAP", "BTC/USDT:USDT"),
        ("deribit", "BTC-PERPETUAL", "BTC-PERPETUAL"),
        ("bitmex", "XBTUSD", "XBT/USD"),
    ],
)
def test_symbols(exchange: str, native: str, unified: str) -> None:
    assert symbol_of(exchange, native) == unified
