"""Coinbase's frames: what each carries, its one sequence, and that nothing but findings or FrameError comes out.

The messages are the documentation's; there is no recording that may be kept here.
"""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.wire import Beat, Gap, Reply
from collector.wire.coinbase import CoinbaseParser, ids_and_times, listing, rest_book
from collector.wire.rfc3339 import nanos
from fluxforge import codec
from fluxforge.errors import FrameError
from fluxforge.events import BookDelta, BookSnapshot, Event, Ticker, Trade

NOW = 1_675_974_770_800_000_000
TIME = "2023-02-09T20:32:50.714964855Z"
TS = 1_675_974_770_714_964_855


def parser() -> CoinbaseParser:
    return CoinbaseParser(
        "coinbase", collector="c1", connection="c1-0", symbols={"BTC-USD": "BTC/USD", "ETH-USD": "ETH/USD"}
    )


def frame(channel: str, seq: int, *events: dict[str, Any]) -> bytes:
    return json.dumps(
        {"channel": channel, "client_id": "", "timestamp": TIME, "sequence_num": seq, "events": events}
    ).encode()


def book(kind: str, *updates: tuple[str, str, str], product: str = "BTC-USD") -> dict[str, Any]:
    return {
        "type": kind,
        "product_id": product,
        "updates": [
            {"side": side, "event_time": "1970-01-01T00:00:00Z", "price_level": price, "new_quantity": size}
            for side, price, size in updates
        ],
    }


def trades(kind: str, *numbers: int, side: str = "BUY", product: str = "BTC-USD") -> dict[str, Any]:
    return {
        "type": kind,
        "trades": [
            {
                "trade_id": str(number),
                "product_id": product,
                "price": "1260.01",
                "size": "0.3",
                "side": side,
                "time": "2019-08-14T20:42:27.265Z",
            }
            for number in numbers
        ],
    }


TICKER = {
    "type": "snapshot",
    "tickers": [
        {
            "type": "ticker",
            "product_id": "BTC-USD",
            "price": "21932.98",
            "volume_24_h": "16038.28770938",
            "low_24_h": "21835.29",
            "high_24_h": "23011.18",
            "low_52_w": "15460",
            "high_52_w": "48240",
            "price_percent_chg_24_h": "-4.15775596190603",
            "best_bid": "21931.98",
            "best_bid_quantity": "8000.21",
            "best_ask": "21933.98",
            "best_ask_quantity": "",
        }
    ],
}
SNAPSHOT = frame(
    "l2_data",
    0,
    book("snapshot", ("bid", "21921.73", "0.5"), ("bid", "21922.00", "1"), ("offer", "21924", "2"), ("bid", "1", "0")),
)
BEAT = frame("heartbeats", 0, {"current_time": "2023-06-23 20:31:56.121 +0000 UTC m=+9", "heartbeat_counter": 3049})
SUBSCRIPTIONS = frame("subscriptions", 0, {"subscriptions": {"level2": ["BTC-USD"], "heartbeats": ["heartbeats"]}})
ALL = [
    SNAPSHOT,
    frame("l2_data", 1, book("update", ("bid", "21921.73", "0"))),
    frame("market_trades", 2, trades("update", 12, 11)),
    frame("ticker", 3, TICKER),
    BEAT,
    SUBSCRIPTIONS,
]


def test_a_snapshot_is_a_whole_book_best_first():
    [found] = parser().parse(SNAPSHOT, NOW)
    assert isinstance(found, BookSnapshot)
    assert (found.symbol, found.native, found.seq, found.ts, found.source) == ("BTC/USD", "BTC-USD", 0, TS, "coinbase")
    assert struct.unpack("<4d", found.bids) == (21922.0, 1.0, 21921.73, 0.5)
    assert struct.unpack("<2d", found.asks) == (21924.0, 2.0)


def test_a_books_updates_follow_one_another_across_other_channels_and_products():
    ours = parser()
    ours.parse(SNAPSHOT, NOW)
    ours.parse(frame("l2_data", 1, book("snapshot", product="ETH-USD")), NOW)
    ours.parse(frame("market_trades", 2, trades("update", 5)), NOW)
    [found] = ours.parse(frame("l2_data", 3, book("update", ("bid", "21921.73", "0"), ("offer", "21925", "3"))), NOW)
    assert isinstance(found, BookDelta)
    assert (found.first_seq, found.seq) == (1, 3), "everything between belongs to others"
    assert struct.unpack("<2d", found.bids) == (21921.73, 0.0)
    assert struct.unpack("<2d", found.asks) == (21925.0, 3.0)


def test_all_that_a_frame_says_of_a_book_is_one_event():
    ours = parser()
    ours.parse(SNAPSHOT, NOW)
    updates = [book("update", ("bid", "5", "1"), ("bid", "6", "1")), book("update", ("bid", "5", "0"))]
    [found] = ours.parse(frame("l2_data", 1, *updates), NOW)
    assert isinstance(found, BookDelta)
    assert dict(struct.iter_unpack("<2d", found.bids)) == {5.0: 0.0, 6.0: 1.0}


def test_the_sequence_is_checked_before_anything_is_left_out():
    ours = parser()
    ours.parse(SNAPSHOT, NOW)
    [gap] = ours.parse(frame("candles", 3, {"type": "update"}), NOW)
    assert gap == Gap("message 3 after 0: 2 missing")
    assert ours.skipped == {"candles": 1}
    assert ours.parse(frame("l2_data", 2, book("update", ("bid", "5", "1"))), NOW) == (), "late, and reset already"
    [found] = ours.parse(frame("l2_data", 4, book("update", ("bid", "5", "1"))), NOW)
    assert isinstance(found, BookDelta)
    assert found.first_seq is None, "what came before is not known"


def test_a_frame_that_does_not_parse_counts_as_missing():
    ours = parser()
    ours.parse(SNAPSHOT, NOW)
    with pytest.raises(FrameError):
        ours.parse(frame("l2_data", 1, book("update", ("bid", "5", "much"))), NOW)
    gap, _ = ours.parse(frame("l2_data", 2, book("update", ("bid", "5", "1"))), NOW)
    assert gap == Gap("message 2 after 0: 1 missing")


def test_trades_come_oldest_first_with_the_takers_side():
    found = parser().parse(frame("market_trades", 0, trades("update", 12, 11), trades("update", 13, side="SELL")), NOW)
    assert all(isinstance(trade, Trade) for trade in found)
    assert [(t.id, t.side, t.backfilled) for t in found if isinstance(t, Trade)] == [
        ("11", -1, False),
        ("12", -1, False),
        ("13", 1, False),
    ]
    first = found[0]
    assert isinstance(first, Trade)
    assert (first.ts, first.price, first.size) == (1_565_815_347_265_000_000, 1260.01, 0.3)
    assert json.loads(first.raw or b"")["trade_id"] == "11"


def test_past_trades_are_marked_and_say_nothing_of_the_clock():
    ours = parser()
    found = ours.parse(frame("market_trades", 0, trades("snapshot", 12, 11)), NOW)
    assert [t.backfilled for t in found if isinstance(t, Trade)] == [True, True]
    assert not ours.skew.known


def test_a_ticker_beats_and_answers():
    ours = parser()
    [ticker] = ours.parse(frame("ticker", 0, TICKER), NOW)
    assert isinstance(ticker, Ticker)
    assert (ticker.bid, ticker.bid_size, ticker.ask, ticker.ask_size) == (21931.98, 8000.21, 21933.98, None)
    assert (ticker.last, ticker.low, ticker.high, ticker.volume) == (21932.98, 21835.29, 23011.18, 16038.28770938)
    assert parser().parse(BEAT, NOW) == (Beat(TS),)
    assert parser().parse(SUBSCRIPTIONS, NOW) == [Reply("level2", None), Reply("heartbeats", None)]
    refused = parser().parse(b'{"type":"error","message":"authentication failure"}', NOW)
    assert refused == (Reply(None, "authentication failure"),)


def test_products_not_asked_for_are_counted():
    ours = parser()
    assert not ours.parse(frame("l2_data", 0, book("update", ("bid", "5", "1"), product="SOL-USD")), NOW)
    assert not ours.parse(frame("market_trades", 1, trades("update", 1, product="SOL-USD")), NOW)
    assert ours.skipped == {"not-subscribed": 2}


def test_a_frame_s_last_snapshot_ends_what_came_before_it():
    [whole] = parser().parse(
        frame("l2_data", 0, book("update", ("bid", "5", "1")), book("snapshot", ("bid", "6", "2"))), NOW
    )
    assert isinstance(whole, BookSnapshot)
    assert struct.unpack("<2d", whole.bids) == (6.0, 2.0)


def test_trades_go_out_by_rising_id_and_heartbeats_tell_the_clock():
    ours = parser()
    ids = [event.id for event in ours.parse(frame("market_trades", 0, trades("update", 7, 9, 8)), NOW)]  # type: ignore[union-attr]
    assert ids == ["7", "8", "9"]
    silent = parser()
    silent.parse(BEAT, NOW)
    assert silent.skew.known


def test_rest_answers():
    body = (
        b'{"trades":[{"trade_id":"995098663","product_id":"BTC-USD","price":"68923.67","size":"0.00064",'
        b'"time":"2026-04-07T00:28:58.544778Z","side":"SELL","bid":"","ask":""},{"trade_id":"995098662",'
        b'"product_id":"BTC-USD","price":"68923.67","size":"0.0012","time":"2026-04-07T00:28:58.250358Z","side":"BUY",'
        b'"bid":"","ask":""}],"best_bid":"68923.66","best_ask":"68923.67"}'
    )
    found = parser().trades(body, "BTC-USD", NOW)
    assert [(t.id, t.side, t.backfilled) for t in found] == [("995098662", -1, True), ("995098663", 1, True)]
    assert ids_and_times(body)[0] == (995098663, 1_775_521_738_544_778_000)
    book = rest_book(
        b'{"pricebook":{"product_id":"BTC-USD","bids":[{"price":"5","size":"1"}],"asks":[],"time":"x"}}', 500
    )
    assert (book.seq, struct.unpack("<2d", book.bids), book.asks, book.limit) == (None, (5.0, 1.0), b"", 500)
    for broken in (b"", b'{"trades":[{}]}', b'{"pricebook":{}}', b'{"products":7}'):
        with pytest.raises(FrameError):
            parser().trades(broken, "BTC-USD", NOW)
        with pytest.raises(FrameError):
            rest_book(broken, 1)
        with pytest.raises(FrameError):
            listing(broken)


def test_products_under_another_name_are_not_listed():
    products = [
        {"product_id": "BTC-USD", "base_currency_id": "BTC", "quote_currency_id": "USD", "alias": ""},
        {"product_id": "BTC-USDC", "base_currency_id": "BTC", "quote_currency_id": "USDC", "alias": "BTC-USD"},
    ]
    assert listing(json.dumps({"products": products}).encode()) == {"BTC-USD": "BTC/USD"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2023-02-09T20:19:35.39625135Z", 1_675_973_975_396_251_350),
        ("2023-02-09T20:19:35Z", 1_675_973_975_000_000_000),
        ("2023-02-09T20:19:35.1234567891Z", 1_675_973_975_123_456_789),
    ],
)
def test_times_to_the_nanosecond(text: str, expected: int):
    assert nanos(text) == expected


@pytest.mark.parametrize(
    "text", ["", "Z", "2023-02-09T20:19:35", "2023-02-09T20:19:35+01:00", "2023-02-09T20:19:35._1Z"]
)
def test_times_that_are_none(text: str):
    with pytest.raises(ValueError, match=r"time|isoformat"):
        nanos(text)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    text = bytearray(draw(st.sampled_from(ALL)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(text) - 1, 0)))
        match draw(st.sampled_from(["flip", "cut", "insert"])):
            case "flip" if text:
                text[at] = draw(st.integers(0, 255))
            case "cut":
                del text[at : at + draw(st.integers(1, 20))]
            case _:
                text[at:at] = draw(st.binary(min_size=1, max_size=6))
    return bytes(text)


@given(st.lists(st.one_of(damaged(), st.sampled_from(ALL), st.binary(max_size=100)), min_size=1, max_size=4))
def test_fuzzed_frames_give_storable_findings_or_frame_errors(frames: list[bytes]):
    ours = parser()
    for text in frames:
        try:
            found = ours.parse(text, NOW)
        except FrameError as error:
            assert error.frame == text
            continue
        for one in found:
            if isinstance(one, Event):
                assert codec.decode(codec.encode(one)) == one
