"""OKX v5's messages, built byte by byte. Shapes: the exchange's published v5 documentation, and recorded frames."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, zip_longest
from zlib import crc32

import orjson

from simulator.market import Depth, Instrument, Level, Top, plain
from simulator.tape import Print, Stats

CHECKED_LEVELS = 25


def checksum(bids: Sequence[Level], asks: Sequence[Level]) -> int:
    """Signed CRC32 over `bid:size:ask:size:…`, the best 25 of each side in turn, texts as they are sent.

    The shorter side ends early. Takes levels as sent, best first.
    """
    pairs = zip_longest(bids[:CHECKED_LEVELS], asks[:CHECKED_LEVELS])
    texts = (f"{level[0]}:{level[1]}" for level in chain.from_iterable(pairs) if level is not None)
    unsigned = crc32(":".join(texts).encode())
    return unsigned - (1 << 32) if unsigned >= 1 << 31 else unsigned


def book(name: str, action: str, ms: int, depth: Depth, previous: int, check: int) -> bytes:
    """`{"arg":{"channel":"books","instId":"BTC-USDT"},"action":"update","data":[{"asks":[["8476.98","415","0","13"]],
    "bids":[…],"ts":"1597026383085","checksum":-855196043,"seqId":123456,"prevSeqId":123450}]}`

    A level is price, size, 0 and its number of orders; size 0 is gone. A snapshot's `prevSeqId` is -1.
    """
    return (
        b'{"arg":{"channel":"books","instId":"%b"},"action":"%b","data":[{"asks":[%b],"bids":[%b],"ts":"%d",'
        b'"checksum":%d,"seqId":%d,"prevSeqId":%d}]}'
        % (
            name.encode(),
            action.encode(),
            _levels(depth.asks),
            _levels(depth.bids),
            ms,
            check,
            depth.last_id,
            previous,
        )
    )


def top_book(channel: str, name: str, ms: int, depth: Depth) -> bytes:
    """`books5` and `bbo-tbt`: the best levels, whole each time."""
    return b'{"arg":{"channel":"%b","instId":"%b"},"data":[{"asks":[%b],"bids":[%b],"ts":"%d","seqId":%d}]}' % (
        channel.encode(),
        name.encode(),
        _levels(depth.asks),
        _levels(depth.bids),
        ms,
        depth.last_id,
    )


def _levels(levels: Sequence[Level]) -> bytes:
    return ",".join([f'["{price}","{size}","0","{0 if size == "0" else 1}"]' for price, size in levels]).encode()


def trade(channel: str, name: str, print_: Print, count: int) -> bytes:
    """`{"arg":{"channel":"trades","instId":"BTC-USDT"},"data":[{"instId":"BTC-USDT","tradeId":"130639474",
    "px":"42219.9","sz":"0.12060306","side":"buy","ts":"1630048897897","count":"3","source":"0","seqId":1234}]}`

    `trades` folds the fills of one order at one price: `count` of them, of which `tradeId` is the last.
    `trades-all` carries each by itself, without `count`.
    """
    row = record(name, print_)
    if channel == "trades":
        row["count"] = str(count)
    row["source"] = "0"
    return orjson.dumps({"arg": {"channel": channel, "instId": name}, "data": [row | {"seqId": print_.id}]})


def record(name: str, print_: Print) -> dict[str, object]:
    """One public trade; `side` is the taker's."""
    return {
        "instId": name,
        "tradeId": str(print_.id),
        "px": plain(print_.price),
        "sz": plain(print_.size),
        "side": "sell" if print_.maker else "buy",
        "ts": str(print_.time),
    }


def ticker_record(name: str, ms: int, stats: Stats | None, top: Top | None) -> dict[str, str]:
    """The `tickers` channel's row, and REST's; empty texts before the first trade."""
    best = top or Top("", "", "", "")
    return {
        "instType": "SPOT",
        "instId": name,
        "last": plain(stats.last) if stats else "",
        "lastSz": plain(stats.last_size) if stats else "",
        "askPx": plain(best.ask),
        "askSz": plain(best.ask_size),
        "bidPx": plain(best.bid),
        "bidSz": plain(best.bid_size),
        "open24h": plain(stats.open) if stats else "",
        "high24h": plain(stats.high) if stats else "",
        "low24h": plain(stats.low) if stats else "",
        "sodUtc0": plain(stats.open) if stats else "",
        "sodUtc8": plain(stats.open) if stats else "",
        "volCcy24h": plain(f"{stats.quote_volume:f}") if stats else "0",
        "vol24h": plain(f"{stats.volume:f}") if stats else "0",
        "ts": str(ms),
    }


def ticker(name: str, ms: int, stats: Stats | None, top: Top | None) -> bytes:
    """The `tickers` channel."""
    return orjson.dumps({"arg": {"channel": "tickers", "instId": name}, "data": [ticker_record(name, ms, stats, top)]})


def event(kind: str, arg: object, connection: str) -> bytes:
    """`{"event":"subscribe","arg":{"channel":"books","instId":"BTC-USDT"},"connId":"a4d3ae55"}`"""
    return orjson.dumps({"event": kind, "arg": arg, "connId": connection})


def error(code: int, text: str, connection: str) -> bytes:
    """`{"event":"error","code":"60012","msg":"Illegal request: …","connId":"a4d3ae55"}`"""
    return orjson.dumps({"event": "error", "code": str(code), "msg": text, "connId": connection})


def answer(data: object, code: int = 0, text: str = "") -> bytes:
    """Every REST answer: `{"code":"0","msg":"","data":[…]}`"""
    return orjson.dumps({"code": str(code), "msg": text, "data": data})


def instrument(name: str, listed: Instrument) -> dict[str, object]:
    """One element of `GET /api/v5/public/instruments`."""
    names = ("alias", "ctMult", "ctType", "ctVal", "ctValCcy", "expTime", "instFamily", "optType", "settleCcy", "stk")
    return {
        "instType": "SPOT",
        "instId": name,
        "baseCcy": listed.base,
        "quoteCcy": listed.quote,
        "state": "live",
        "tickSz": plain(listed.tick),
        "lotSz": plain(listed.step),
        "minSz": plain(listed.step),
        "lever": "10",
        "listTime": "1548133413000",
        "category": "1",
        "ruleType": "normal",
        "maxLmtSz": "9999999999",
        "maxMktSz": "1000000",
        "maxLmtAmt": "20000000",
        "maxMktAmt": "1000000",
        "uly": "",
        **dict.fromkeys(names, ""),
    }
