"""Where each field of a frame goes: times, sides, order, what is past, what is refused."""

from __future__ import annotations

import struct
from typing import Any
from zlib import crc32

import orjson
import pytest

from collector.wire import Beat, Checksum, Found, Gap, Reply, Void, WireParser
from collector.wire.bitfinex import BitfinexParser
from collector.wire.bitstamp import BitstampParser
from collector.wire.bybit import BybitParser
from collector.wire.deribit import DeribitParser
from collector.wire.fields import pack_texts
from collector.wire.gemini import GeminiParser
from collector.wire.kraken import KrakenParser
from collector.wire.kraken_v1 import KrakenV1Parser
from collector.wire.krakenfutures import KrakenFuturesParser
from collector.wire.okx import OkxParser
from fluxforge.events import BookDelta, BookSnapshot, Ticker, Trade

NOW = 1_723_161_253_937_085_768
MS = 1_700_000_000_123
NS = MS * 1_000_000
A = "A-B"
LAYOUT = ("bid", "bid_size", "ask", "ask_size", "last", "open", "high", "low", "volume", "quote_volume")


class Wire:
    """One connection: objects in, what they say out."""

    def __init__(self, parser: type[WireParser], native: str = A) -> None:
        self.parser = parser("x", collector="c", connection="1", symbols={native: "A/B"})

    def __call__(self, frame: Any) -> list[Found]:
        return list(self.parser.parse(frame if isinstance(frame, bytes) else orjson.dumps(frame), NOW))


def book(found: Found) -> tuple[Any, ...]:
    """Kind, time, number, and both sides as they stand."""
    assert isinstance(found, BookSnapshot | BookDelta)
    sides = [list(struct.iter_unpack("<2d", side)) for side in (found.bids, found.asks)]
    return type(found).__name__, found.ts, found.seq, *sides


def prints(found: list[Found]) -> list[tuple[Any, ...]]:
    return [(each.id, each.ts, each.seq, each.side, each.backfilled) for each in found if isinstance(each, Trade)]


def quotes(found: list[Found]) -> tuple[Any, ...]:
    [ticker] = found
    assert isinstance(ticker, Ticker)
    return ticker.ts, *(getattr(ticker, name) for name in LAYOUT)


def okx_books(action: str, seq: int, previous: int, channel: str = "books", **more: Any) -> dict[str, Any]:
    level = ["2", "3", "0", "1"]
    data = {"bids": [level], "asks": [], "ts": str(MS), "seqId": seq, "prevSeqId": previous, **more}
    return {"arg": {"channel": channel, "instId": A}, "action": action, "data": [data]}


def test_okx_books_are_summed_where_their_snapshot_is():
    wire = Wire(OkxParser)
    for none in ({}, {"checksum": 0}):
        kinds = [type(each) for each in wire(okx_books("snapshot", 1, -1, **none))]
        assert kinds == [BookSnapshot], "0 and nothing are none, as the exchange has sent since June 2026"
        assert [type(each) for each in wire(okx_books("update", 2, 1, checksum=9))] == [BookDelta]
    assert [type(each) for each in wire(okx_books("snapshot", 1, -1, checksum=5))] == [BookSnapshot, Checksum]
    _, told = wire(okx_books("update", 2, 1))
    assert told == Checksum(A, None, [("2", "3")], []), "its text counts even without a sum"
    wire(okx_books("snapshot", 1, -1, checksum=0))
    assert [type(each) for each in wire(okx_books("update", 2, 1, checksum=9))] == [BookDelta]


def test_okx_numbers_start_over_and_short_books_are_whole():
    wire = Wire(OkxParser)
    assert book(wire(okx_books("snapshot", 9, -1))[0]) == ("BookSnapshot", NS, 9, [(2, 3)], [])
    assert wire(okx_books("update", 9, 9, bids=[])) == [Beat(NS)], "a minute of silence"
    assert isinstance(wire(okx_books("update", 9, 9))[0], BookDelta), "a level is no silence"
    gap, delta = wire(okx_books("update", 3, 9))
    assert isinstance(gap, Gap)
    assert gap.native == A
    assert book(delta) == ("BookDelta", NS, 3, [(2, 3)], [])
    assert isinstance(wire(okx_books("", 4, 3, channel="books5"))[0], BookSnapshot)


def test_okx_trades_and_tickers():
    wire = Wire(OkxParser)
    trade = {"instId": A, "tradeId": "7", "px": "2", "sz": "3", "side": "sell", "ts": str(MS), "seqId": 5}
    assert prints(wire({"arg": {"channel": "trades", "instId": A}, "data": [trade]})) == [("7", NS, 5, -1, False)]
    joined = wire({"arg": {"channel": "trades", "instId": A}, "data": [trade | {"count": "3"}]})
    assert joined[:2] == [Void(A, 5), Void(A, 6)], "ids of fills that it joins"
    assert prints(joined) == [("7", NS, 5, -1, False)]
    told = {
        "instId": A, "ts": str(MS), "bidPx": "1", "bidSz": "2", "askPx": "3", "askSz": "4", "last": "5",
        "open24h": "6", "high24h": "7", "low24h": "8", "vol24h": "9", "volCcy24h": "10",
    }  # fmt: skip
    arg = {"channel": "tickers", "instId": A}
    spot = wire({"arg": arg, "data": [told | {"instType": "SPOT"}]})
    swap = wire({"arg": arg, "data": [told | {"instType": "SWAP"}]})
    assert quotes(spot) == (NS, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
    assert quotes(swap) == (NS, 1, 2, 3, 4, 5, 6, 7, 8, 10, None), "a swap's volume counts contracts"


def test_okx_checksum_is_signed_and_goes_on_with_the_longer_side():
    one, two, three = ("3366.1", "7"), ("3366.8", "9"), ("3368", "8")
    for bids, asks, text in (
        ([one], [two, three], b"3366.1:7:3366.8:9:3368:8"),
        ([one, two], [three], b"3366.1:7:3368:8:3366.8:9"),
    ):
        [signed] = struct.unpack("<i", struct.pack("<I", crc32(text)))
        assert OkxParser.checksum(bids, asks) == signed
    assert OkxParser.checksum([one], [two, three]) < 0


KRAKEN_TRADE = {"symbol": A, "side": "buy", "price": 2.0, "qty": 3.0, "timestamp": "2023-11-14T22:13:20.123Z"}


def test_kraken():
    wire = Wire(KrakenParser)
    trades = [KRAKEN_TRADE | {"trade_id": number} for number in (8, 7)]
    for kind in ("snapshot", "update"):
        past = kind == "snapshot"
        assert prints(wire({"channel": "trade", "type": kind, "data": trades})) == [
            ("7", NS, 7, 1, past),
            ("8", NS, 8, 1, past),
        ]
    level = {"price": 2.0, "qty": 3.0}
    data = {"symbol": A, "bids": [level], "asks": [], "timestamp": KRAKEN_TRADE["timestamp"]}
    [delta] = wire({"channel": "book", "type": "update", "data": [data]})
    assert book(delta) == ("BookDelta", NS, None, [(2, 3)], [])
    ticker = dict(zip(("bid", "bid_qty", "ask", "ask_qty", "last"), (1.0, 2.0, 3.0, 4.0, 5.0), strict=True))
    ticker |= {"high": 7.0, "low": 8.0, "volume": 9.0, "vwap": 2.0, "timestamp": KRAKEN_TRADE["timestamp"]}
    told = wire({"channel": "ticker", "type": "update", "data": [{"symbol": A, **ticker}]})
    assert quotes(told) == (NS, 1, 2, 3, 4, 5, None, 7, 8, 9, 18)
    [no] = wire({"method": "subscribe", "success": False, "error": "not supported", "symbol": A})
    assert no == Reply(("", ""), "not supported")
    wire({"method": "subscribe", "success": True, "result": {"channel": "ohlc", "symbol": A, "depth": 500}})
    assert wire.parser.depth == 10, "of a book alone"


def test_kraken_v1():
    wire = Wire(KrakenV1Parser)
    stamps = "1700000000.123000", "1699999999.000000"
    [delta, _] = wire([1, {"a": [["2", "3", stamps[1]], ["4", "5", stamps[0]]]}, "book-10", A])
    assert book(delta) == ("BookDelta", NS, None, [], [(2, 3), (4, 5)])
    [whole, _] = wire([1, {"bs": [["2", "3", stamps[0]]]}, "book-10", A])
    assert book(whole) == ("BookSnapshot", NS, None, [(2, 3)], [])
    assert wire.parser.depth == 10
    two = {key: ["0", value] for key, value in zip("ohlvp", "67890", strict=True)}
    told = wire([0, {"a": ["3", 9, "4"], "b": ["1", 9, "2"], "c": ["5", "9"], **two}, "ticker", A])
    assert quotes(told) == (None, 1, 2, 3, 4, 5, 6, 7, 8, 9, None)
    [no] = wire({"event": "subscriptionStatus", "status": "error", "pair": A, "errorMessage": "unknown"})
    assert no == Reply(A, "unknown", A)


def test_kraken_futures():
    wire = Wire(KrakenFuturesParser)
    levels = [{"price": price, "qty": 1.0} for price in (5.0, 7.0, 6.0)]
    whole = {"feed": "book_snapshot", "product_id": A, "timestamp": MS, "seq": 4, "bids": levels, "asks": levels}
    [found] = wire(whole)
    assert book(found) == ("BookSnapshot", NS, 4, [(7, 1), (6, 1), (5, 1)], [(5, 1), (6, 1), (7, 1)])
    change = {"feed": "book", "product_id": A, "timestamp": MS, "seq": 5, "price": 2.0, "qty": 3.0}
    assert book(wire(change | {"side": "buy"})[0]) == ("BookDelta", NS, 5, [(2, 3)], [])
    assert book(wire(change | {"side": "sell"})[0]) == ("BookDelta", NS, 5, [], [(2, 3)])
    trade = {"product_id": A, "side": "sell", "price": 2.0, "qty": 3.0, "time": MS}
    told = wire({"feed": "trade_snapshot", "trades": [trade | {"uid": "new", "seq": 2}, trade | {"uid": "old"}]})
    assert prints(told) == [("old", NS, None, -1, True), ("new", NS, 2, -1, True)]
    assert prints(wire({"feed": "trade", **trade, "uid": "x", "seq": 3})) == [("x", NS, 3, -1, False)]
    ticker = dict(zip(LAYOUT[:-1], (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0), strict=True))
    ticker = {"feed": "ticker", "product_id": A, "time": MS, **ticker, "volumeQuote": 10.0}
    assert quotes(wire(ticker)) == (NS, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
    assert wire({"feed": "heartbeat", "time": MS}) == [Beat(NS)]
    for event in ("error", "alert", "subscribed_failed"):
        assert wire({"event": event, "message": "no"}) == [Reply(None, "no")]


def test_bitstamp():
    wire = Wire(BitstampParser, "ab")

    def diff(at: int) -> BookDelta:
        data = {"microtimestamp": str(at), "bids": [["2", "3"]], "asks": []}
        [found] = wire({"event": "data", "channel": "diff_order_book_ab", "data": data})
        assert isinstance(found, BookDelta)
        return found

    at = NS // 1000
    first, second, late = diff(at), diff(at + 50), diff(at + 20)
    assert book(first) == ("BookDelta", NS, at, [(2, 3)], [])
    assert (first.first_seq, second.first_seq, late.first_seq) == (at, at + 1, at + 20)
    trade = {"id": 7, "microtimestamp": str(at), "price_str": "2", "amount_str": "3"}
    for kind, side in ((0, 1), (1, -1), (2, 0)):
        told = wire({"event": "trade", "channel": "live_trades_ab", "data": trade | {"type": kind}})
        assert prints(told) == [("7", NS, None, side, False)]
    error = {"event": "bts:error", "channel": "", "data": {"code": None, "message": "Bad subscription string."}}
    assert wire(error) == [Reply(None, "Bad subscription string.")]
    assert wire({"event": "bts:heartbeat", "channel": "", "data": ""}) == [Beat()]


def test_bitfinex():
    wire = Wire(BitfinexParser)
    for number, name in enumerate(("book", "trades", "ticker"), 1):
        wire({"event": "subscribed", "channel": name, "chanId": number, "symbol": A})
    past = wire([2, [[8, MS, 0.5, 2.0], [7, MS, -0.5, 2.0]], 10])
    assert prints(past) == [("7", NS, None, -1, True), ("8", NS, None, 1, True)]
    assert prints(wire([2, "te", [9, MS, 0.5, 2.0], 11])) == [("9", NS, None, 1, False)]
    assert wire([2, "tu", [9, MS, 0.5, 2.0], 12]) == [], "the same trade once more"
    assert quotes(wire([3, [1, 2, 3, 4, 0, 0, 5, 9, 7, 8], 13])) == (None, 1, 2, 3, 4, 5, None, 7, 8, 9, None)
    whole, _ = wire([1, [], 14])
    assert book(whole) == ("BookSnapshot", None, None, [], []), "an empty book is a whole one"
    gap, *_ = wire([1, [2, 1, 3], 16])
    assert isinstance(gap, Gap)
    wire({"event": "conf", "status": "OK"})
    assert wire([1, "hb", 3]) == [Beat()], "numbers begin anew with their flag"
    assert wire.parser.channel_of("book", A) == 1  # type: ignore[attr-defined]
    assert wire({"event": "unsubscribed", "status": "OK", "chanId": 1}) == [Reply(1, None, A)]
    assert wire.parser.channel_of("book", A) is None  # type: ignore[attr-defined]
    assert wire([1, [2, 1, 3], 4]) == []


def test_gemini():
    wire = Wire(GeminiParser)
    changes = [[side, price, "1"] for side in ("buy", "sell") for price in ("5", "7", "6")]
    trade = {"type": "trade", "symbol": A, "timestamp": MS, "price": "2", "quantity": "3", "side": "sell"}
    past = [trade | {"event_id": 8}, trade | {"event_id": 7}]
    whole = {"type": "l2_updates", "symbol": A, "changes": changes, "trades": past, "auction_events": []}
    found = wire(whole)
    assert book(found[0]) == ("BookSnapshot", None, None, [(7, 1), (6, 1), (5, 1)], [(5, 1), (6, 1), (7, 1)])
    assert prints(found) == [("7", NS, None, -1, True), ("8", NS, None, -1, True)]
    [later] = wire({**whole, "changes": changes[:1], "auction_events": None} | {"trades": None})
    assert book(later) == ("BookDelta", None, None, [(5, 1)], [])
    [later] = wire({"type": "l2_updates", "symbol": A, "changes": changes[:1], "trades": []})
    assert book(later)[0] == "BookDelta", "only the first message has auctions"
    assert prints(wire(trade | {"event_id": 9})) == [("9", NS, None, -1, False)]
    assert wire({"type": "heartbeat", "timestamp": MS}) == [Beat(NS)]
    with pytest.raises(Exception, match="neither side"):
        wire(whole | {"changes": [["bid", "1", "1"]]})
    assert wire({"result": "error", "reason": "InvalidJson", "message": "no"}) == [Reply(None, "InvalidJson: no")]


def deribit(channel: str, data: Any) -> dict[str, Any]:
    return {"method": "subscription", "params": {"channel": f"{channel}.{A}.100ms", "data": data}}


def test_deribit():
    wire = Wire(DeribitParser)
    levels = [["new", price, 1.0] for price in (5.0, 7.0, 6.0)]
    told = {"instrument_name": A, "timestamp": MS, "change_id": 4, "bids": levels, "asks": levels}
    [whole] = wire(deribit("book", told | {"type": "snapshot"}))
    assert book(whole) == ("BookSnapshot", NS, 4, [(7, 1), (6, 1), (5, 1)], [(5, 1), (6, 1), (7, 1)])
    change = {"type": "change", "prev_change_id": 4, "change_id": 5, "bids": [["delete", 5.0, 9.0]], "asks": []}
    assert book(wire(deribit("book", told | change))[0]) == ("BookDelta", NS, 5, [(5, 0)], [])
    trade = {"instrument_name": A, "trade_id": "7", "trade_seq": 3, "timestamp": MS, "price": 2.0, "amount": 1.0}
    assert prints(wire(deribit("trades", [trade | {"direction": "buy"}]))) == [("7", NS, 3, 1, False)]
    ticker = {"best_bid_price": 1.0, "best_bid_amount": 2.0, "best_ask_price": 3.0, "best_ask_amount": 4.0}
    stats = {"high": 7.0, "low": 8.0, "volume": 9.0, "volume_usd": 10.0}
    ticker |= {"instrument_name": A, "timestamp": MS, "last_price": 5.0, "stats": stats}  # type: ignore[dict-item]
    assert quotes(wire(deribit("ticker", ticker))) == (NS, 1, 2, 3, 4, 5, None, 7, 8, 9, 10)
    [no] = wire({"id": 3, "error": {"code": 11044, "message": "not_open"}})
    assert isinstance(no, Reply)
    assert "not_open" in (no.error or "")


def test_bybit():
    wire = Wire(BybitParser)
    data = {"s": A, "b": [["2", "3"]], "a": [], "seq": 9}

    def books(kind: str, update: int) -> Found:
        [found] = wire({"topic": f"orderbook.50.{A}", "type": kind, "ts": MS, "data": data | {"u": update}})
        return found

    assert book(books("snapshot", 5)) == ("BookSnapshot", NS, 5, [(2, 3)], [])
    delta = books("delta", 6)
    assert isinstance(delta, BookDelta)
    assert (book(delta), delta.first_seq) == (("BookDelta", NS, 6, [(2, 3)], []), 6)
    assert isinstance(books("delta", 1), BookSnapshot), "1 is a snapshot of a service that has restarted"
    trade = {"T": MS, "s": A, "S": "Sell", "v": "1", "p": "2", "i": "x"}
    told = wire({"topic": f"publicTrade.{A}", "type": "snapshot", "ts": MS + 1, "data": [trade]})
    assert prints(told) == [("x", NS, None, -1, False)]
    names = (
        "bid1Price", "bid1Size", "ask1Price", "ask1Size", "lastPrice", "prevPrice24h", "highPrice24h", "lowPrice24h",
        "volume24h", "turnover24h",
    )  # fmt: skip
    ticker = {name: str(at) for at, name in enumerate(names, 1)} | {"symbol": A}
    frame = {"topic": f"tickers.{A}", "ts": MS}
    assert quotes(wire({**frame, "type": "snapshot", "data": ticker})) == (NS, *range(1, 11))
    for price in ("21", "22"):
        changed = wire({**frame, "type": "delta", "data": {"symbol": A, "lastPrice": price}})
        assert quotes(changed) == (NS, 1, 2, 3, 4, float(price), *range(6, 11)), "what is left out has not changed"
    assert quotes(wire({**frame, "type": "delta", "data": {"symbol": A, "bid1Price": "20"}}))[1:6] == (20, 2, 3, 4, 22)
    assert wire({"op": "subscribe", "success": False, "ret_msg": "no such topic"}) == [Reply(None, "no such topic")]


@pytest.mark.parametrize("levels", [[["1", "2"], ["3"]], [["-1", "2"]], [["1", "nan"]], [["1e999", "2"]], [["x", "1"]]])
def test_levels_that_are_none_are_refused(levels: list[list[str]]):
    with pytest.raises((ValueError, LookupError)):
        pack_texts(levels)


def test_past_trades_say_nothing_of_the_clock_and_live_ones_do():
    wire = Wire(KrakenParser)
    old = [KRAKEN_TRADE | {"trade_id": 1}]
    wire({"channel": "trade", "type": "snapshot", "data": old})
    assert not wire.parser.skew.known
    wire({"channel": "trade", "type": "update", "data": old})
    assert wire.parser.skew.known
    for wrong in ({"price": 0.0}, {"qty": -1.0}):
        with pytest.raises(Exception, match="price"):
            wire({"channel": "trade", "type": "update", "data": [old[0] | wrong]})
