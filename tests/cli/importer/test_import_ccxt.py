"""ccxt NDJSON: every field lands, every bad line is named."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

import pytest

from fluxforge.events import BookSnapshot, ClockSource, Ticker, Trade
from fluxforge_cli.importer.ccxt_ndjson import capture_clocked, parse, read

T = 1_700_000_000_123


def line(channel: str, data: Any, **more: Any) -> bytes:
    message = {"exchange": "kraken", "symbol": "BTC/USD", "channel": channel, "capture_ts": 17, "data": data}
    return json.dumps(message | more).encode()


def levels(blob: bytes) -> list[tuple[float, ...]]:
    return list(struct.iter_unpack("<2d", blob))


BOOK = {"bids": [[100.5, 1.5], [100.0, 2, 7]], "asks": [[101.0, 3.25]], "timestamp": T, "nonce": 42}


def test_a_book() -> None:
    (event,), bad = parse(line("orderbook", BOOK), "file")
    assert bad is None
    assert isinstance(event, BookSnapshot)
    assert (event.key, event.source, event.collector) == ("kraken|BTC/USD", "ccxt", "import")
    assert (event.ts, event.capture_ts, event.seq) == (T * 1_000_000, 17, 42)
    assert event.conflated
    assert not event.refresh
    assert levels(event.bids) == [(100.5, 1.5), (100.0, 2.0)]
    assert levels(event.asks) == [(101.0, 3.25)]


def test_a_list_of_trades_and_a_single_one() -> None:
    trade = {"id": "9", "timestamp": T, "price": 100.25, "amount": 0.5, "side": "sell", "info": {"symbol": "XBTUSD"}}
    records = [trade, trade | {"id": None, "side": "buy"}, trade | {"side": None, "timestamp": None}]
    events, bad = parse(line("trades", records), "file")
    assert bad is None
    found = [(e.id, e.side, e.price, e.size, e.ts) for e in events if isinstance(e, Trade)]
    ts = T * 1_000_000
    assert found == [("9", -1, 100.25, 0.5, ts), ("", 1, 100.25, 0.5, ts), ("9", 0, 100.25, 0.5, None)]
    assert {e.native for e in events} == {"XBTUSD"}
    assert isinstance(events[0], Trade)
    assert json.loads(events[0].raw or b"") == {"symbol": "XBTUSD"}
    assert parse(line("trades", trade), "file")[0] == events[:1]


def test_a_ticker() -> None:
    data = {
        "bid": 1.0,
        "bidVolume": None,
        "ask": 2.0,
        "last": 1.5,
        "baseVolume": 10,
        "quoteVolume": 15.5,
        "timestamp": T,
    }
    (event,), bad = parse(line("ticker", data), "file")
    assert bad is None
    assert isinstance(event, Ticker)
    assert (event.bid, event.bid_size, event.ask, event.last) == (1.0, None, 2.0, 1.5)
    assert (event.volume, event.quote_volume, event.high) == (10.0, 15.5, None)


def test_numbers_keep_every_bit() -> None:
    price = 0.1 + 0.2
    (event,), _ = parse(line("orderbook", BOOK | {"bids": [[price, 5e-324]]}), "file")
    assert isinstance(event, BookSnapshot)
    assert levels(event.bids) == [(price, 5e-324)]


@pytest.mark.parametrize("bids", [[[math.nan, 1.0]], [[100.0, math.inf]], [[None, 1.0]], [[102.0, 1.0]], []])
def test_an_invalid_book_is_an_event_all_the_same(bids: list[Any]) -> None:
    """What makes a book invalid is for the kernels to judge, who then clear the previous one."""
    (event,), bad = parse(line("orderbook", BOOK | {"bids": bids}), "file")
    assert bad is None
    assert isinstance(event, BookSnapshot)
    assert len(event.bids) == 16 * len(bids)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"{", "truncated"),
        (b'{"exchange": NaN', "Expecting"),
        (b"\xff\xfe", "malformed"),
        (b"[]", "object"),
        (line("candles", {}), "channel 'candles'"),
        (line("orderbook", {"bids": []}), "no 'asks'"),
        (line("orderbook", BOOK | {"bids": [[1.0]]}), "no [price, size]"),
        (line("orderbook", BOOK | {"bids": 5}), "no list"),
        (line("orderbook", BOOK | {"timestamp": "noon"}), "'noon'"),
        (line("trades", [{"price": 1, "side": "buy"}]), "no 'amount'"),
        (line("trades", [{"price": 1, "amount": 1, "side": "both"}]), "side 'both'"),
        (line("ticker", [1]), "no object"),
        (line("ticker", {}, capture_ts="x"), "capture_ts"),
        (b"[" * 100_000, ""),
    ],
)
def test_a_bad_line_says_why(text: bytes, reason: str) -> None:
    events, bad = parse(text, "file")
    assert events == []
    assert bad
    assert reason in bad


def test_of_a_list_of_trades_the_sound_ones_are_kept() -> None:
    good = {"id": "1", "price": 1.0, "amount": 1.0, "side": "buy"}
    events, bad = parse(line("trades", [good, {"price": 1.0}, good]), "file")
    assert len(events) == 2
    assert bad == "no 'amount'"


def test_an_exchange_that_stamps_no_book_runs_on_the_capture_clock(tmp_path: Path) -> None:
    unstamped = BOOK | {"timestamp": None}
    trade = {"id": "1", "price": 1.0, "amount": 1.0, "side": "buy", "timestamp": T}
    first, second = tmp_path / "a.ndjson", tmp_path / "b.ndjson"
    first.write_bytes(
        b"\n".join(
            [
                line("orderbook", unstamped, exchange="bare"),
                line("orderbook", unstamped, exchange="late"),
                line("trades", trade, exchange="bare"),
                line("trades", trade, exchange="only-trades"),
            ]
        )
    )
    second.write_bytes(line("orderbook", BOOK, exchange="late"))
    assert capture_clocked([first, second]) == {"bare"}
    clocks = {
        (event.exchange, type(event).__name__): event.clock
        for _, lines in read([first, second])
        for each in lines
        for event in each.events
    }
    assert clocks["bare", "BookSnapshot"] == clocks["bare", "Trade"] == ClockSource.CAPTURE
    assert clocks["late", "BookSnapshot"] == clocks["only-trades", "Trade"] == ClockSource.EXCHANGE
