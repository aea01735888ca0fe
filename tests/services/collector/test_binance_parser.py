"""Binance's frames: what each carries, and that nothing but events or FrameError ever comes out."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.symbols import listing, native_of, unify
from collector.venues.binance import streams
from collector.wire import Reply, RestBook, Void
from collector.wire.binance import BinanceParser, rest_book
from fluxforge import codec
from fluxforge.errors import FrameError, UnknownSymbol
from fluxforge.events import BookDelta, Event, Ticker, Trade
from fluxforge.recordings import read_lines

NOW = 1_723_161_253_937_085_768
DEPTH = (
    b'{"e":"depthUpdate","E":1723161255208,"s":"BTCUSDT","U":50093239189,"u":50093239202,'
    b'"b":[["61737.63000000","0.00000000"],["61730.17000000","0.10000000"]],"a":[["61837.64000000","1.54698000"]]}'
)
TRADE = (
    b'{"e":"trade","E":1723161255343,"s":"BTCUSDT","t":3735683259,"p":"61837.63000000","q":"0.02000000",'
    b'"T":1723161255342,"m":true,"M":true}'
)
BOOK_TICKER = (
    b'{"u":50093239212,"s":"BTCUSDT","b":"61837.63000000","B":"3.78826000","a":"61837.64000000","A":"1.54698000"}'
)
DAY_TICKER = (
    b'{"e":"24hrTicker","E":1672515782136,"s":"BNBBTC","p":"0.0015","P":"250.00","w":"0.0018","x":"0.0009",'
    b'"c":"0.0025","Q":"10","b":"0.0024","B":"10","a":"0.0026","A":"100","o":"0.0010","h":"0.0025","l":"0.0010",'
    b'"v":"10000","q":"18","O":0,"C":1675216573749,"F":0,"L":18150,"n":18151}'
)


def parser(exchange: str = "binance") -> BinanceParser:
    return BinanceParser(exchange, collector="c1", connection="c1-0", symbols={"BTCUSDT": "BTC/USDT"})


def combined(record: bytes, stream: str = "btcusdt@depth@100ms") -> bytes:
    return b'{"stream":"%s","data":%s}' % (stream.encode(), record)


@pytest.mark.parametrize("wrap", [combined, bytes])
def test_a_diff_keeps_ids_time_and_levels(wrap):
    [event] = parser().parse(wrap(DEPTH), NOW)
    assert isinstance(event, BookDelta)
    assert (event.exchange, event.symbol, event.native, event.source) == ("binance", "BTC/USDT", "BTCUSDT", "binance")
    assert (event.first_seq, event.seq, event.ts) == (50093239189, 50093239202, 1723161255208 * 10**6)
    assert struct.unpack("<4d", event.bids) == (61737.63, 0.0, 61730.17, 0.1)
    assert struct.unpack("<2d", event.asks) == (61837.64, 1.54698)
    assert event.capture_ts == NOW
    assert event.skew == event.ts - NOW


@pytest.mark.parametrize("wrap", [combined, bytes])
def test_a_trade_keeps_the_exchanges_own_bytes(wrap):
    [event] = parser().parse(wrap(TRADE), NOW)
    assert isinstance(event, Trade)
    assert (event.id, event.price, event.size, event.side) == ("3735683259", 61837.63, 0.02, -1)
    assert event.ts == 1723161255342 * 10**6
    assert event.raw == TRADE


def test_the_taker_bought_where_the_buyer_was_not_the_maker():
    [event] = parser().parse(TRADE.replace(b'"m":true', b'"m":false'), NOW)
    assert isinstance(event, Trade)
    assert event.side == 1


def test_a_book_ticker_has_no_time_on_spot_and_one_on_futures():
    [event] = parser().parse(combined(BOOK_TICKER), NOW)
    assert isinstance(event, Ticker)
    assert (event.bid, event.bid_size, event.ask, event.ask_size) == (61837.63, 3.78826, 61837.64, 1.54698)
    assert (event.ts, event.seq, event.raw) == (None, 50093239212, BOOK_TICKER)
    future = b'{"e":"bookTicker",' + BOOK_TICKER[1:-1] + b',"T":1723161256313,"E":1723161256314}'
    [event] = parser("binanceusdm").parse(combined(future), NOW)
    assert isinstance(event, Ticker)
    assert event.ts == 1723161256313 * 10**6


def test_day_statistics():
    [event] = parser().parse(combined(DAY_TICKER), NOW)
    assert isinstance(event, Ticker)
    assert (event.symbol, event.ts) == ("BNB/BTC", 1672515782136 * 10**6)
    assert (event.last, event.open, event.high, event.low) == (0.0025, 0.0010, 0.0025, 0.0010)
    assert (event.bid, event.ask, event.volume, event.quote_volume) == (0.0024, 0.0026, 10000.0, 18.0)


def test_the_field_order_is_no_matter():
    shuffled = json.dumps(dict(reversed(json.loads(DEPTH).items()))).encode()
    ours, theirs = parser().parse(DEPTH, NOW), parser().parse(shuffled, NOW)
    assert ours == theirs


def test_a_futures_diff_begins_behind_its_predecessor():
    record = DEPTH[:-1] + b',"pu":50093239100}'
    [event] = parser("binanceusdm").parse(combined(record), NOW)
    assert isinstance(event, BookDelta)
    assert (event.first_seq, event.symbol) == (50093239101, "BTC/USDT")


def test_a_trade_that_is_no_market_trade_is_counted_and_skipped():
    ours = parser("binanceusdm")
    assert ours.parse(combined(TRADE[:-1] + b',"X":"INSURANCE_FUND"}'), NOW) == (Void("BTCUSDT", 3735683259),)
    assert ours.parse(combined(TRADE[:-1] + b',"X":"MARKET"}'), NOW) != ()
    assert ours.skipped == {"not-market": 1}


def test_replies_snapshots_and_strange_kinds():
    ours = parser()
    assert ours.parse(b'{"result":null,"id":7}', NOW) == (Reply(7, None),)
    [refused] = ours.parse(b'{"error":{"code":2,"msg":"Invalid request"},"id":8}', NOW)
    assert isinstance(refused, Reply)
    assert refused.id == 8
    assert "Invalid request" in (refused.error or "")
    assert ours.parse(b'{"lastUpdateId":5,"bids":[["1.0","2.0"]],"asks":[]}', NOW) == (
        RestBook(5, struct.pack("<2d", 1.0, 2.0), b""),
    )
    assert ours.parse(combined(b'{"e":"kline","E":1,"s":"BTCUSDT","k":{}}'), NOW) == ()
    assert ours.skipped == {"kline": 1}


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"17",
        b"\xff\xfe\x00",
        b'{"stream":"x","data":null}',
        b"[" * 100_000,
        combined(DEPTH[:-40]),
        combined(DEPTH.replace(b'"0.10000000"', b'"NaN"')),
        combined(DEPTH.replace(b'"0.10000000"', b'"inf"')),
        combined(DEPTH.replace(b'"0.10000000"', b'"-0.1"')),
        combined(DEPTH.replace(b'"0.10000000"', b'"a tenth"')),
        combined(DEPTH.replace(b'["61737.63000000","0.00000000"]', b'["61737.63000000"]')),
        combined(DEPTH.replace(b"1723161255208", b"99999999999999999")),
        combined(DEPTH.replace(b"50093239202", b"99999999999999999999999")),
        combined(DEPTH.replace(b'"BTCUSDT"', b'"??"')),
        combined(TRADE.replace(b'"61837.63000000"', b'"NaN"')),
        combined(TRADE.replace(b'"61837.63000000"', b'"0.0"')),
        combined(TRADE.replace(b'"0.02000000"', b'"-1"')),
        combined(BOOK_TICKER.replace(b'"61837.63000000"', b'"Infinity"')),
        combined(DAY_TICKER.replace(b'"c":"0.0025"', b'"c":"nan"')),
    ],
)
def test_a_broken_frame_is_named_and_kept(frame):
    with pytest.raises(FrameError) as caught:
        parser().parse(frame, NOW)
    assert caught.value.frame == frame


_mutable = st.sampled_from([DEPTH, TRADE, BOOK_TICKER, DAY_TICKER, combined(DEPTH), combined(TRADE)])


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    frame = bytearray(draw(_mutable))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(frame) - 1))
        match draw(st.sampled_from(["flip", "cut", "insert", "double"])):
            case "flip":
                frame[at] = draw(st.integers(0, 255))
            case "cut":
                del frame[at : at + draw(st.integers(1, 20))]
            case "insert":
                frame[at:at] = draw(st.binary(min_size=1, max_size=6))
            case _:
                frame[at:at] = frame[at : at + 10]
        if not frame:
            break
    return bytes(frame)


@given(st.one_of(damaged(), st.binary(max_size=200), st.text(max_size=100).map(str.encode)))
def test_fuzzed_frames_give_storable_events_or_frame_errors(frame):
    try:
        found = parser().parse(frame, NOW)
    except FrameError:
        return
    for one in found:
        if isinstance(one, Event):
            assert codec.decode(codec.encode(one)) == one


@given(st.floats(min_value=0, allow_nan=False, allow_infinity=False), st.decimals(0, 10**9, places=8))
def test_prices_and_sizes_are_exactly_pythons_floats(price, size):
    text = f'{{"lastUpdateId":1,"bids":[["{price!r}","{size}"]],"asks":[]}}'
    assert struct.unpack("<2d", rest_book(text.encode()).bids) == (price, float(str(size)))


def test_rest_trades_come_sorted_and_flagged():
    body = (
        b'[{"id":12,"price":"4.2","qty":"1.0","quoteQty":"4.2","time":1499865549591,"isBuyerMaker":false,'
        b'"isBestMatch":true},{"id":11,"price":"4.1","qty":"12.0","quoteQty":"48.0","time":1499865549590,'
        b'"isBuyerMaker":true,"isBestMatch":true}]'
    )
    ours = parser()
    trades = ours.trades(body, "BTCUSDT", NOW)
    assert [(t.id, t.price, t.side, t.backfilled) for t in trades] == [("11", 4.1, -1, True), ("12", 4.2, 1, True)]
    assert json.loads(trades[0].raw or b"")["quoteQty"] == "48.0"
    assert not ours.skew.known
    with pytest.raises(FrameError):
        ours.trades(b'{"code":-1121,"msg":"Invalid symbol."}', "BTCUSDT", NOW)


@pytest.mark.parametrize(
    ("native", "unified"),
    [
        ("BTCUSDT", "BTC/USDT"),
        ("ETHBTC", "ETH/BTC"),
        ("RUNEEUR", "RUNE/EUR"),
        ("OMGBUSD", "OMG/BUSD"),
        ("DOTUSD", "DOT/USD"),
        ("BTCTUSD", "BTC/TUSD"),
    ],
)
def test_symbols_are_unified_by_their_quote(native, unified):
    assert unify(native) == unified


def test_a_perpetual_names_its_settlement():
    assert unify("BTCUSDT", settled=True) == "BTC/USDT:USDT"
    [future] = BinanceParser("binanceusdm", collector="c", connection="x").parse(TRADE, NOW)
    assert isinstance(future, Trade)
    assert future.symbol == "BTC/USDT:USDT"


def test_an_unknown_symbol_names_its_neighbours():
    markets = listing(
        b'{"symbols":[{"symbol":"BTCUSDT","status":"TRADING","baseAsset":"BTC","quoteAsset":"USDT"},'
        b'{"symbol":"ETHUSDT","status":"TRADING","baseAsset":"ETH","quoteAsset":"USDT"}]}'
    )
    assert native_of("BTC/USDT", markets, "binance") == "BTCUSDT"
    assert native_of("ETHUSDT", markets, "binance") == "ETHUSDT"
    with pytest.raises(UnknownSymbol, match="BTC/USTD") as caught:
        native_of("BTC/USTD", markets, "binance")
    assert "BTC/USDT" in caught.value.hint


def test_stream_names():
    assert streams(["BTCUSDT"], ["orderbook", "trades", "ticker"]) == [
        "btcusdt@depth@100ms",
        "btcusdt@trade",
        "btcusdt@bookTicker",
        "btcusdt@ticker",
    ]


@pytest.mark.recordings
@pytest.mark.parametrize(
    ("name", "exchange", "trades", "not_market"),
    [("binance_spot/btcusdt_*.gz", "binance", 19904, 0), ("binance_usdm/btcusdt_*.gz", "binanceusdm", 21313, 0)],
)
def test_every_recorded_frame_is_an_event_with_the_numbers_of_its_json(
    recordings: Path, name: str, exchange: str, trades: int, not_market: int
):
    ours = BinanceParser(exchange, collector="c", connection="x")
    counted = 0
    for path in sorted(recordings.glob(name)):
        for line in read_lines(path):
            stamp, _, frame = line.partition(b" ")
            [event], told = ours.parse(frame, int(stamp)), json.loads(frame)
            told = told.get("data", told)
            if isinstance(event, BookDelta):
                assert struct.unpack(f"<{len(event.bids) // 8}d", event.bids) == tuple(
                    float(x) for level in told["b"] for x in level
                )
                assert (event.seq, event.ts) == (told["u"], told["E"] * 10**6)
            elif isinstance(event, Trade):
                counted += 1
                assert (event.price, event.size, event.id) == (float(told["p"]), float(told["q"]), str(told["t"]))
                assert event.ts == told["T"] * 10**6
            elif isinstance(event, Ticker):
                assert (event.bid, event.ask) == (float(told["b"]), float(told["a"]))
            else:
                assert isinstance(event, RestBook)
    assert counted == trades
    assert ours.skipped["not-market"] == not_market
