"""One ccxt.pro instance under a session, without a network: what it asks for, what is copied, who suffers from whom."""

from __future__ import annotations

import asyncio
import struct
from math import inf
from typing import Any

import ccxt.pro
import orjson
import pytest

from ccxt_at_work import Offline, at_work
from collector.ccxt_source.capabilities import capability, keeps_changes
from collector.ccxt_source.collector import deal
from collector.ccxt_source.dialects import DIALECTS
from collector.ccxt_source.housekeeping import schedule
from collector.ccxt_source.limits import LIMITS, Limit
from fluxforge import metrics
from fluxforge.events import BookDelta, BookSnapshot, Reset, Trade
from on_loop import on_loop


@pytest.mark.parametrize(
    ("exchange", "native", "asked"),
    [
        ("binance", "BTCUSDT", [b"btcusdt@depth@100ms", b"btcusdt@trade", b"btcusdt@ticker"]),
        ("okx", "BTC-USDT", [b'"channel":"books","instId":"BTC-USDT"', b'"channel":"trades"', b'"channel":"tickers"']),
        ("coinbase", "BTC-USD", [b'"channel":"level2"', b'"channel":"market_trades"', b'"channel":"ticker"']),
        ("kraken", "XXBTZUSD", [b'"channel":"book"', b'"depth":25', b'"channel":"trade"', b'"channel":"ticker"']),
        ("krakenfutures", "PF_XBTUSD", [b'"feed":"book"', b'"feed":"trade"', b'"feed":"ticker"']),
        ("bitstamp", "btcusd", [b"diff_order_book_btcusd", b"live_trades_btcusd"]),
        ("bitfinex", "tBTCUSD", [b'"channel":"book"', b'"prec":"P0"', b'"len":25', b'"channel":"trades"']),
        ("gemini", "btcusd", [b'"name":"l2","symbols":["BTCUSD"]']),
        ("deribit", "BTC-PERPETUAL", [b"book.BTC-PERPETUAL.100ms", b"trades.BTC-PERPETUAL.", b"ticker.BTC-PERPETUAL."]),
        ("bybit", "BTCUSDT", [b"orderbook.50.BTCUSDT", b"publicTrade.BTCUSDT", b"tickers.BTCUSDT"]),
    ],
)
@on_loop
async def test_ccxt_asks_for_the_protocol_that_our_parser_speaks(exchange: str, native: str, asked: list[bytes]):
    async with at_work(Offline(exchange, [native], parsed=True)) as offline:
        for part in asked:
            await offline.until_sent(part)
        assert all(line.parser is not None and line.parser.symbols for line in offline.session.tap.lines.values())


def test_every_dialect_is_among_those_held_to_ccxt():
    told = {
        "binance",
        "okx",
        "coinbase",
        "kraken",
        "krakenfutures",
        "bitstamp",
        "bitfinex",
        "gemini",
        "deribit",
        "bybit",
    }
    alike = {"binanceus", "binanceusdm", "binancecoinm", "okxus", "myokx", "bybiteu", "bybitid"}
    assert set(DIALECTS) == told | alike
    assert set(ccxt.pro.exchanges) >= set(DIALECTS) | set(LIMITS)


def book_of_bybit(native: str, at: int, *, whole: bool = False) -> dict[str, Any]:
    data = {"s": native, "b": [["10.5", str(at)]], "a": [["11.0", "1"]], "u": at, "seq": at}
    return {
        "topic": f"orderbook.50.{native}",
        "type": "snapshot" if whole else "delta",
        "ts": 1_700_000_000_000,
        "data": data,
    }


@on_loop
async def test_nothing_between_two_awaits_is_lost_where_ccxt_parses():
    async with at_work(Offline("bybit", ["AAUSD", "BBUSD"], parsed=False)) as offline:
        offline.hears(book_of_bybit("AAUSD", 1, whole=True))
        for at in range(2, 50):
            offline.hears(book_of_bybit("AAUSD", at))
            offline.hears(book_of_bybit("BBUSD", at, whole=at == 2))
        trades = [
            {"T": 1_700_000_000_000, "s": "AAUSD", "S": "Buy", "v": "1", "p": str(at), "i": str(at)}
            for at in range(1, 9)
        ]
        offline.hears({"topic": "publicTrade.AAUSD", "type": "snapshot", "ts": 1_700_000_000_000, "data": trades[:5]})
        offline.hears({"topic": "publicTrade.AAUSD", "type": "snapshot", "ts": 1_700_000_000_000, "data": trades[4:]})
    books = [event for event in offline.of(BookSnapshot) if event.symbol == "A0/USD"]
    assert [struct.unpack("<2d", event.bids) for event in books] == [(10.5, float(at)) for at in range(1, 50)]
    assert not any(event.conflated for event in books)
    assert [event.id for event in offline.of(Trade)] == [str(at) for at in range(1, 9)], (
        "the repeated one goes out once"
    )
    assert offline.stats.of(metrics.DUPLICATES) == 1


@on_loop
async def test_what_ccxt_folds_within_a_frame_is_counted():
    async with at_work(Offline("okx", ["AA-USD"], parsed=False, channels=("orderbook",))) as offline:
        whole = {
            "asks": [["11", "1", "0", "1"]],
            "bids": [["10", "1", "0", "1"]],
            "ts": "1700000000000",
            "seqId": 1,
            "prevSeqId": -1,
        }
        arg = {"channel": "books", "instId": "AA-USD"}
        offline.hears({"arg": arg, "action": "snapshot", "data": [whole]})
        later = [
            whole | {"bids": [["10", str(at), "0", "1"]], "asks": [], "seqId": at, "prevSeqId": at - 1}
            for at in (2, 3, 4)
        ]
        offline.hears({"arg": arg, "action": "update", "data": later})
    assert [(event.conflated, event.updates) for event in offline.of(BookSnapshot)] == [(False, 1), (True, 3)]


@on_loop
async def test_a_symbol_that_ccxt_refuses_leaves_the_others_alone():
    async with at_work(Offline("okx", ["AA-USD", "BB-USD"], parsed=False, channels=("orderbook",))) as offline:
        level = {"asks": [["11", "1", "0", "1"]], "bids": [["10", "1", "0", "1"]], "ts": "1700000000000"}

        def hears(native: str, action: str, seq: int, previous: int) -> None:
            data = [level | {"seqId": seq, "prevSeqId": previous}]
            offline.hears({"arg": {"channel": "books", "instId": native}, "action": action, "data": data})

        hears("AA-USD", "snapshot", 1, -1)
        hears("BB-USD", "snapshot", 1, -1)
        await asyncio.sleep(0.05)
        before = len(offline.sent)
        hears("AA-USD", "update", 9, 8)
        await asyncio.sleep(0.5)
        hears("BB-USD", "update", 2, 1)
        asked = b" ".join(orjson.dumps(each) for each in offline.sent[before:])
    resets = [(event.symbol, event.reason) for event in offline.of(Reset) if event.reason != "reconnect"]
    assert resets == [("A0/USD", "gap")]
    assert b"AA-USD" in asked
    assert b"BB-USD" not in asked
    assert sum(event.symbol == "A1/USD" for event in offline.of(BookSnapshot)) == 2


@on_loop
async def test_a_frame_that_no_parser_takes_ends_nothing(caplog: pytest.LogCaptureFixture):
    for parsed in (True, False):
        async with at_work(Offline("bybit", ["AAUSD"], parsed=parsed)) as offline:
            offline.hears(book_of_bybit("AAUSD", 1, whole=True))
            offline.hears('{"topic":"orderbook.50.AAUSD","type":"delta","data":{"s":')
            offline.hears(
                {"topic": "orderbook.50.AAUSD", "type": "delta", "ts": 1, "data": {"s": "AAUSD", "b": [["x"]], "a": []}}
            )
            offline.hears(book_of_bybit("AAUSD", 2))
        assert [event.seq for event in offline.of(BookDelta)] == [2] * parsed
        assert len(offline.of(BookSnapshot)) == 2 - parsed, parsed
        assert offline.stats.of(metrics.BAD_FRAMES) == 2, parsed
    assert "does not parse" in caplog.text


@on_loop
async def test_our_parser_s_frames_never_reach_ccxt():
    async with at_work(Offline("bybit", ["AAUSD"], parsed=True)) as offline:
        offline.hears(book_of_bybit("AAUSD", 1, whole=True))
        offline.hears(book_of_bybit("AAUSD", 2))
        assert not offline.exchange.orderbooks
        before = len(offline.sent)
        offline.hears(book_of_bybit("AAUSD", 4))
        await asyncio.sleep(0.05)
        assert [each["op"] for each in offline.sent[before:]] == ["unsubscribe", "subscribe"]
        offline.hears(book_of_bybit("AAUSD", 9, whole=True))
    assert [event.reason for event in offline.of(Reset)] == ["reconnect", "gap"]
    assert [event.seq for event in offline.of(BookSnapshot)] == [1, 9]


@on_loop
async def test_a_frame_that_says_nothing_is_read_too():
    """ccxt trips over it."""
    async with at_work(Offline("coinbase", ["AA-USD"], parsed=True)) as offline:
        frame = {"channel": "market_trades", "timestamp": "2024-01-01T00:00:00Z", "sequence_num": 0}
        offline.hears({**frame, "events": [{"type": "snapshot", "trades": []}]})
        assert offline.stats.of(metrics.BAD_FRAMES) == 0
        seen: list[str] = []
        [client] = offline.exchange.clients.values()
        client.on_message_callback = lambda _client, message: seen.append(message["channel"])
        offline.hears({**frame, "channel": "status", "sequence_num": 1, "events": []})
    assert seen == ["status"], "what our parser does not know is ccxt's"


@on_loop
async def test_our_own_requests_follow_the_first_answer():
    async with at_work(Offline("bitfinex", ["tAAUSD"], parsed=True, channels=("orderbook",))) as offline:
        answer = {"event": "subscribed", "channel": "book", "chanId": 7, "symbol": "tAAUSD", "prec": "P0"}
        offline.hears(answer)
        await offline.until_sent(b'"event":"conf","flags":196608')
        assert "7" in next(iter(offline.exchange.clients.values())).subscriptions, "ccxt has seen the answer"


def test_symbols_are_dealt_out_by_what_a_connection_carries():
    markets = dict.fromkeys("abcdefg", None)
    assert [len(share) for share in deal(markets, 3, Limit(9, 1, ""))] == [3, 2, 2]
    assert [len(share) for share in deal(markets, 3, Limit(0, 1, ""))] == [7]
    assert [len(share) for share in deal(markets, 3, Limit(1, 1, ""))] == [1] * 7
    assert sorted(name for share in deal(markets, 3, Limit(9, 1, "")) for name in share) == list("abcdefg")


def test_how_a_book_comes_is_found_in_ccxt_s_source():
    assert all(keeps_changes(exchange) for exchange in ("kucoin", "gate", "bitget", "htx", "cryptocom"))
    assert not any(keeps_changes(exchange) for exchange in ("upbit", "hyperliquid", "bitrue"))
    upbit, kraken = capability("upbit"), capability("kraken")
    assert (upbit.parser, upbit.sampling, upbit.book) == (False, "conflated", "snapshots")
    assert (kraken.parser, kraken.sampling, kraken.checksum, kraken.consecutive) == (True, "event", True, True)
    assert capability("binance").native


def test_audits_are_spread_and_without_an_interval_there_is_none():
    assert schedule("abcd", 100.0, 60.0, 80.0) == {
        "a": (160.0, 140.0),
        "b": (160.0, 150.0),
        "c": (160.0, 160.0),
        "d": (160.0, 170.0),
    }
    assert schedule("a", 100.0, 60.0, 0.0) == {"a": (160.0, inf)}
