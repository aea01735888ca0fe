"""Frames of the exchanges read on the ccxt road: what each carries, and that nothing but that ever comes out."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.book_sync import BookSync
from collector.identity import Identity
from collector.text_book import Summing
from collector.wire import Beat, Checksum, Found, Gap, Reply, Void, WireParser
from collector.wire.bitfinex import BitfinexParser
from collector.wire.bitstamp import BitstampParser
from collector.wire.bybit import BybitParser
from collector.wire.deribit import DeribitParser
from collector.wire.gemini import GeminiParser
from collector.wire.kraken import KrakenParser
from collector.wire.kraken_v1 import KrakenV1Parser
from collector.wire.krakenfutures import KrakenFuturesParser
from collector.wire.okx import OkxParser
from fluxforge import codec
from fluxforge.errors import FrameError
from fluxforge.events import BookDelta, BookSnapshot, Event, Reset, Ticker, Trade
from fluxforge.recordings import read_cryptofeed

NOW = 1_723_161_253_937_085_768


class Everything(dict[str, str]):
    """Unifies any name to itself."""

    def __missing__(self, native: str) -> str:
        return native


def new(parser: type[WireParser]) -> WireParser:
    made = parser("x", collector="c", connection="1")
    made.symbols = Everything()
    return made


def sides(event: BookSnapshot | BookDelta) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return tuple(struct.unpack(f"<{len(side) // 8}d", side) for side in (event.bids, event.asks))  # type: ignore[return-value]


EXAMPLES: dict[type[WireParser], list[tuple[bytes, list[type]]]] = {
    OkxParser: [
        (
            b'{"arg":{"channel":"books","instId":"BTC-USDT"},"action":"snapshot","data":[{"asks":[["8476.98","415","0","13"]],'
            b'"bids":[["8475.55","101","0","1"]],"ts":"1597026383085","checksum":-855196043,"prevSeqId":-1,"seqId":123456}]}',
            [BookSnapshot, Checksum],
        ),
        (
            b'{"arg":{"channel":"books","instId":"BTC-USDT"},"action":"update","data":[{"asks":[["8476.98","0","0","0"]],'
            b'"bids":[],"ts":"1597026383095","checksum":77,"prevSeqId":123456,"seqId":123457}]}',
            [BookDelta, Checksum],
        ),
        (
            b'{"arg":{"channel":"trades","instId":"BTC-USDT"},"data":[{"instId":"BTC-USDT","tradeId":"130639474",'
            b'"px":"42219.9","sz":"0.12060306","side":"buy","ts":"1630048897897","count":"3"}]}',
            [Void, Void, Trade],
        ),
        (
            b'{"arg":{"channel":"tickers","instId":"LTC-USDT"},"data":[{"instType":"SPOT","instId":"LTC-USDT","last":"9999.99",'
            b'"lastSz":"0.1","askPx":"9999.99","askSz":"11","bidPx":"","bidSz":"5","open24h":"9000","high24h":"10000",'
            b'"low24h":"8888.88","volCcy24h":"2222","vol24h":"2222","ts":"1597026383085"}]}',
            [Ticker],
        ),
        (b'{"event":"subscribe","arg":{"channel":"books","instId":"BTC-USDT"}}', [Reply]),
        (b'{"event":"error","msg":"channel doesn\'t exist","code":"60018"}', [Reply]),
        (b"pong", [Beat]),
    ],
    KrakenParser: [
        (
            b'{"channel":"book","type":"snapshot","data":[{"symbol":"MATIC/USD","bids":[{"price":0.5666,"qty":4831.75496356}],'
            b'"asks":[{"price":0.5668,"qty":4410.79769741}],"checksum":2439117997}]}',
            [BookSnapshot, Checksum],
        ),
        (
            b'{"channel":"book","type":"update","data":[{"symbol":"MATIC/USD","bids":[{"price":0.5657,"qty":1098.3947558}],'
            b'"asks":[],"checksum":2114181697,"timestamp":"2023-10-06T17:35:55.440295Z"}]}',
            [BookDelta, Checksum],
        ),
        (
            b'{"channel":"trade","type":"update","data":[{"symbol":"MATIC/USD","side":"sell","price":0.5117,"qty":40.0,'
            b'"ord_type":"market","trade_id":4665906,"timestamp":"2023-09-25T07:49:37.708706Z"}]}',
            [Trade],
        ),
        (
            b'{"channel":"ticker","type":"update","data":[{"symbol":"ALGO/USD","bid":0.10025,"bid_qty":740.0,"ask":0.10036,'
            b'"ask_qty":1361.44813783,"last":0.10035,"volume":997038.98383185,"vwap":0.10148,"low":0.09979,"high":0.10285}]}',
            [Ticker],
        ),
        (
            b'{"method":"subscribe","result":{"channel":"book","depth":25,"snapshot":true,"symbol":"ALGO/USD"},"success":true}',
            [Reply],
        ),
        (b'{"channel":"heartbeat"}', [Beat]),
    ],
    KrakenV1Parser: [
        (
            b'[1920,{"as":[["0.0433","4506.95","1618678133.489870"]],"bs":[["0.0428","2332.634","1618678133.370507"]]},'
            b'"book-10","SC/EUR"]',
            [BookSnapshot, Checksum],
        ),
        (
            b'[1920,{"a":[["0.0433","0.0","1618678134.5"]]},{"b":[["0.0428","1.0","1618678134.5"]],"c":"974947235"},'
            b'"book-10","SC/EUR"]',
            [BookDelta, Checksum],
        ),
        (b'[0,[["5541.20000","0.15850568","1534614057.321597","s","l",""]],"trade","XBT/USD"]', [Trade]),
        (b'{"event":"heartbeat"}', [Beat]),
    ],
    KrakenFuturesParser: [
        (
            b'{"feed":"book_snapshot","product_id":"PI_XBTUSD","timestamp":1612269825817,"seq":326072249,"tickSize":null,'
            b'"bids":[{"price":34892.5,"qty":6385.0}],"asks":[{"price":34911.5,"qty":20598.0}]}',
            [BookSnapshot],
        ),
        (
            b'{"feed":"book","product_id":"PI_XBTUSD","side":"sell","seq":326072250,"price":34981.0,"qty":0.0,'
            b'"timestamp":1612269953629}',
            [BookDelta],
        ),
        (
            b'{"feed":"trade","product_id":"PI_XBTUSD","uid":"05af78ac","side":"sell","type":"fill","seq":653355,'
            b'"time":1612266317519,"qty":15000,"price":34969.5}',
            [Trade],
        ),
        (b'{"event":"subscribed","feed":"book","product_ids":["PI_XBTUSD"]}', [Reply]),
        (b'{"time":1676393235406,"product_id":"PF_XBTUSD","feed":"ticker","bid":21978.5,"ask":21987.0}', [Ticker]),
    ],
    BitstampParser: [
        (
            b'{"data":{"timestamp":"1641343691","microtimestamp":"1641343691468521","bids":[["0.00002756","7752.76"]],'
            b'"asks":[["0.00002920","0.00000000"]]},"channel":"diff_order_book_batbtc","event":"data"}',
            [BookDelta],
        ),
        (
            b'{"data":{"id":216000477,"timestamp":"1641343699","amount":0.0792,"amount_str":"0.07920000","price":3805.44,'
            b'"price_str":"3805.44","type":0,"microtimestamp":"1641343699596000"},"channel":"live_trades_ethusd","event":"trade"}',
            [Trade],
        ),
        (b'{"event":"bts:subscription_succeeded","channel":"live_trades_sgbeur","data":{}}', [Reply]),
    ],
    BitfinexParser: [
        (b'{"event":"subscribed","channel":"book","chanId":7,"symbol":"tETHUSD","prec":"P0","len":"25"}', [Reply]),
        (b'{"event":"subscribed","channel":"trades","chanId":8,"symbol":"tETHUSD","pair":"ETHUSD"}', [Reply]),
        (b"[7,[[283460,2,1.5],[283510,1,-0.3]],1]", [BookSnapshot, Checksum]),
        (b"[7,[283510,0,-1],2]", [BookDelta, Checksum]),
        (b'[7,"cs",-123,3]', [Checksum]),
        (b'[8,"te",[401597395,1574694478808,-0.005,7245.3],4]', [Trade]),
        (b'[8,"hb",6]', [Gap, Beat]),
    ],
    GeminiParser: [
        (
            b'{"type":"l2_updates","symbol":"BTCUSD","changes":[["buy","9122.04","0.00121425"],["sell","9122.07","0.98"]],'
            b'"trades":[{"type":"trade","symbol":"BTCUSD","event_id":169841458,"timestamp":1560976400428,"price":"9122.04",'
            b'"quantity":"0.0073173","side":"sell"}],"auction_events":[]}',
            [BookSnapshot, Trade],
        ),
        (b'{"type":"l2_updates","symbol":"BTCUSD","changes":[["sell","9122.07","0"]]}', [BookDelta]),
        (
            b'{"type":"trade","symbol":"FILUSD","event_id":45465842999,"timestamp":1624493681030,"price":"58.4998",'
            b'"quantity":"15.4053","side":"buy"}',
            [Trade],
        ),
        (b'{"type":"heartbeat","timestamp":1547742998508}', [Beat]),
    ],
    DeribitParser: [
        (
            b'{"jsonrpc":"2.0","method":"subscription","params":{"channel":"book.BTC-PERPETUAL.100ms","data":{"type":"snapshot",'
            b'"timestamp":1554373962454,"instrument_name":"BTC-PERPETUAL","change_id":297217,"bids":[["new",5042.34,30.0]],'
            b'"asks":[["new",5042.64,40.0]]}}}',
            [BookSnapshot],
        ),
        (
            b'{"jsonrpc":"2.0","method":"subscription","params":{"channel":"book.BTC-PERPETUAL.100ms","data":{"type":"change",'
            b'"timestamp":1554373911330,"prev_change_id":297217,"instrument_name":"BTC-PERPETUAL","change_id":297218,'
            b'"bids":[["delete",5042.34,0.0]],"asks":[]}}}',
            [BookDelta],
        ),
        (
            b'{"jsonrpc":"2.0","method":"subscription","params":{"channel":"trades.BTC-PERPETUAL.100ms","data":[{"trade_seq":'
            b'30289442,"trade_id":"48079269","timestamp":1590484512188,"price":8950,"instrument_name":"BTC-PERPETUAL",'
            b'"direction":"sell","amount":10}]}}',
            [Trade],
        ),
        (b'{"jsonrpc":"2.0","id":3,"result":["book.BTC-PERPETUAL.100ms"]}', [Reply]),
        (b'{"jsonrpc":"2.0","method":"heartbeat","params":{"type":"test_request"}}', [Beat]),
    ],
    BybitParser: [
        (
            b'{"topic":"orderbook.50.BTCUSDT","type":"snapshot","ts":1672304484978,"data":{"s":"BTCUSDT","b":[["16493.50","0.006"]],'
            b'"a":[["16611.00","0.029"]],"u":18521288,"seq":7961638724},"cts":1672304484976}',
            [BookSnapshot],
        ),
        (
            b'{"topic":"orderbook.50.BTCUSDT","type":"delta","ts":1687940967466,"data":{"s":"BTCUSDT","b":[["30245.40","0"]],'
            b'"a":[],"u":18521289,"seq":66544703342},"cts":1687940967464}',
            [BookDelta],
        ),
        (
            b'{"topic":"publicTrade.BTCUSDT","type":"snapshot","ts":1672304486868,"data":[{"T":1672304486865,"s":"BTCUSDT",'
            b'"S":"Buy","v":"0.001","p":"16578.50","L":"PlusTick","i":"20f43950","BT":false}]}',
            [Trade],
        ),
        (
            b'{"topic":"tickers.BTCUSDT","type":"snapshot","data":{"symbol":"BTCUSDT","bid1Price":"17215.50","bid1Size":"84.489",'
            b'"ask1Price":"17216.00","lastPrice":"17216.00"},"cs":24987956059,"ts":1673272861686}',
            [Ticker],
        ),
        (b'{"success":true,"ret_msg":"subscribe","conn_id":"2324d924","req_id":"10001","op":"subscribe"}', [Reply]),
        (b'{"success":true,"ret_msg":"pong","conn_id":"0970e817","req_id":"100001","op":"ping"}', [Beat]),
    ],
}  # fmt: skip


@pytest.mark.parametrize("parser", EXAMPLES, ids=lambda parser: parser.__name__)
def test_every_example_says_what_it_should(parser: type[WireParser]):
    ours = new(parser)
    for frame, kinds in EXAMPLES[parser]:
        assert [type(each) for each in ours.parse(frame, NOW)] == kinds, frame
    assert not ours.skipped


def test_numbers_chain_as_the_contract_says():
    def numbers(parser: type[WireParser]) -> list[tuple[int | None, int | None]]:
        ours = new(parser)
        found = [each for frame, _ in EXAMPLES[parser] for each in ours.parse(frame, NOW)]
        return [
            (getattr(each, "first_seq", None), each.seq) for each in found if isinstance(each, BookSnapshot | BookDelta)
        ]

    assert numbers(OkxParser) == [(None, 123456), (123457, 123457)]
    assert numbers(DeribitParser) == [(None, 297217), (297218, 297218)]
    assert numbers(BybitParser) == [(None, 18521288), (18521289, 18521289)]
    assert numbers(KrakenFuturesParser) == [(None, 326072249), (326072250, 326072250)]
    assert numbers(BitstampParser) == [(1641343691468521, 1641343691468521)]
    for silent in (KrakenParser, KrakenV1Parser, GeminiParser, BitfinexParser):
        assert numbers(silent) == [(None, None), (None, None)]


def test_takers_and_prices():
    def trade(parser: type[WireParser]) -> tuple[str, float, float, int]:
        ours = new(parser)
        found = [each for frame, _ in EXAMPLES[parser] for each in ours.parse(frame, NOW) if isinstance(each, Trade)]
        return found[-1].id, found[-1].price, found[-1].size, found[-1].side

    assert trade(OkxParser) == ("130639474", 42219.9, 0.12060306, 1)
    assert trade(KrakenParser) == ("4665906", 0.5117, 40.0, -1)
    assert trade(BitstampParser) == ("216000477", 3805.44, 0.0792, 1)
    assert trade(BitfinexParser) == ("401597395", 7245.3, 0.005, -1)
    assert trade(GeminiParser) == ("45465842999", 58.4998, 15.4053, 1)
    assert trade(DeribitParser) == ("48079269", 8950.0, 10.0, -1)
    assert trade(BybitParser) == ("20f43950", 16578.5, 0.001, 1)
    assert trade(KrakenFuturesParser) == ("05af78ac", 34969.5, 15000.0, -1)


def test_an_ask_of_bitfinex_is_below_zero_on_the_wire_alone():
    ours = new(BitfinexParser)
    for frame, _ in EXAMPLES[BitfinexParser][:2]:
        ours.parse(frame, NOW)
    book, texts = ours.parse(b"[7,[[283460,2,1.5],[283510,1,-0.3]],1]", NOW)
    assert isinstance(book, BookSnapshot)
    assert sides(book) == ((283460.0, 1.5), (283510.0, 0.3))
    assert texts == Checksum("tETHUSD", None, [("283460", "1.5")], [("283510", "-0.3")])


def test_a_depth_is_learnt_from_the_answer():
    ours = new(KrakenParser)
    assert ours.depth == 10
    for frame, _ in EXAMPLES[KrakenParser]:
        ours.parse(frame, NOW)
    assert ours.depth == 25


def test_kraken_s_documented_checksum():
    asks = [
        "0.05005 0.00000500",
        "0.05010 0.00000500",
        "0.05015 0.00000500",
        "0.05020 0.00000500",
        "0.05025 0.00000500",
    ]
    asks += [
        "0.05030 0.00000500",
        "0.05035 0.00000500",
        "0.05040 0.00000500",
        "0.05045 0.00000500",
        "0.05050 0.00000500",
    ]
    bids = [
        "0.05000 0.00000500",
        "0.04995 0.00000500",
        "0.04990 0.00000500",
        "0.04980 0.00000500",
        "0.04975 0.00000500",
    ]
    bids += [
        "0.04970 0.00000500",
        "0.04965 0.00000500",
        "0.04960 0.00000500",
        "0.04955 0.00000500",
        "0.04950 0.00000500",
    ]
    split = [[tuple(level.split()) for level in side] for side in (bids, asks)]
    assert KrakenParser.checksum(*split) == 974947235  # type: ignore[arg-type]


@st.composite
def damaged(draw: st.DrawFn) -> tuple[type[WireParser], list[bytes]]:
    parser = draw(st.sampled_from(list(EXAMPLES)))
    frames = [frame for frame, _ in EXAMPLES[parser]]
    frame = bytearray(draw(st.sampled_from(frames)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(frame) - 1))
        match draw(st.sampled_from(["flip", "cut", "insert", "double"])):
            case "flip":
                frame[at] = draw(st.integers(0, 255))
            case "cut":
                del frame[at : at + draw(st.integers(1, 20))]
            case "insert":
                frame[at:at] = draw(st.sampled_from([b"9" * 25, b"-", b"1e400", b"null", b'"', b"[", b"NaN", b"\xff"]))
            case _:
                frame[at:at] = frame[at : at + 10]
        if not frame:
            break
    return parser, [*frames, bytes(frame), draw(st.binary(max_size=40))]


@given(damaged())
def test_fuzzed_frames_give_storable_events_or_frame_errors(case: tuple[type[WireParser], list[bytes]]):
    parser, frames = case
    ours = new(parser)
    for frame in frames:
        found: Sequence[Found] = ()
        try:
            found = ours.parse(frame, NOW)
        except FrameError as error:
            assert error.frame == frame
        for each in found:
            if isinstance(each, Event):
                assert codec.decode(codec.encode(each)) == each


@pytest.mark.recordings
@pytest.mark.parametrize(
    ("name", "parser", "books", "checksums"),
    [
        ("OKX.ws.1.0", OkxParser, 290, 290),
        ("KRAKEN.ws.48.0", KrakenV1Parser, 0, 0),
        ("KRAKEN.ws.50.0", KrakenV1Parser, 4279, 4269),
        ("KRAKEN_FUTURES.ws.1.0", KrakenFuturesParser, 7024, 0),
        ("BITFINEX.ws.11.0", BitfinexParser, 1600, 0),
        ("GEMINI.ws.1.0", GeminiParser, 655, 0),
        ("DERIBIT.ws.1.0", DeribitParser, 46, 0),
    ],
)
def test_recorded_books_hold_their_numbers_and_checksums(
    recordings: Path, name: str, parser: type[WireParser], books: int, checksums: int
):
    ours = new(parser)
    summing = Summing(parser.checksum_levels, parser.checksum) if parser.checksum_levels else None
    syncs: dict[str, BookSync] = {}
    verified = counted = 0
    for line in read_cryptofeed(recordings / "cryptofeed" / f"{name}.txt.zst"):
        if line.kind != "frame":
            continue
        for each in ours.parse(line.body, line.receive_ns):
            if not isinstance(each, BookSnapshot | BookDelta | Checksum):
                continue
            if each.native not in syncs:
                syncs[each.native] = BookSync(_identity(each.native), summing=summing, streamed=True)
            sync = syncs[each.native]
            sync.depth = ours.depth
            if isinstance(each, Checksum):
                out = sync.checksum(each, line.receive_ns)
                verified += each.value is not None
            else:
                counted += 1
                out = sync.whole(each) if isinstance(each, BookSnapshot) else sync.diff(each)
            assert not [event for event in out if isinstance(event, Reset)]
    assert (counted, verified) == (books, checksums)
    assert not any(sync.book.crossed() or sync.wants_snapshot for sync in syncs.values())


def _identity(native: str) -> Identity:
    return {
        "exchange": "x",
        "symbol": native,
        "native": native,
        "source": "x",
        "collector": "c",
        "connection": "1",
    }
