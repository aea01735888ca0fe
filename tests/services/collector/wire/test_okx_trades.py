"""OKX joins fills in one trade and says how many: so a trade that is lost shows in the ids."""

from __future__ import annotations

from pathlib import Path

from collector.trade_line import TradeLine
from collector.wire import Void
from collector.wire.okx import OkxParser
from fluxforge.events import Reset, Trade
from fluxforge.recordings import read_cryptofeed

FRAME = (
    b'{"arg":{"channel":"trades","instId":"BTC-USDT"},"data":[{"instId":"BTC-USDT","tradeId":"130639474","px":"42219.9",'
    b'"sz":"0.12060306","side":"buy","ts":"1630048897897","count":"%d","source":"0","seqId":1234}]}'
)


def no_reset(*_: object) -> Reset:
    raise AssertionError("nothing is missing")


def test_the_fills_of_a_joined_trade_use_up_ids() -> None:
    parser = OkxParser("okx", collector="c1", connection="x", symbols={"BTC-USDT": "BTC/USDT"})
    *fills, trade = parser.parse(FRAME % 3, 0)
    assert fills == [Void("BTC-USDT", 130639472), Void("BTC-USDT", 130639473)]
    assert isinstance(trade, Trade)
    assert trade.id == "130639474"
    assert [type(each) for each in parser.parse(FRAME % 1, 0)] == [Trade]


def test_no_id_is_missing_in_recorded_trades(recordings: Path) -> None:
    lines: dict[str, TradeLine] = {}
    for line in read_cryptofeed(recordings / "cryptofeed" / "OKX.ws.1.0.txt.zst"):
        if line.kind != "frame" or b'"channel":"trades"' not in line.body or b'"data"' not in line.body:
            continue
        native = line.body.split(b'"instId":"')[1].split(b'"')[0].decode()
        parser = OkxParser("okx", collector="c1", connection="x", symbols={native: native})
        for each in parser.parse(line.body, 0):
            assert isinstance(each, Void | Trade)
            lines.setdefault(native, TradeLine(no_reset)).take(each, 0)
    assert lines
    for own in lines.values():
        assert own.missing_from is None
        assert own.counts["gaps"] == own.counts["duplicates"] == 0
