"""A small Bronze and a small lake, the same on a disk and in a bucket."""

from __future__ import annotations

import struct
from typing import Any

from fluxforge import bronze, codec, rows
from fluxforge.bronze.writer import RawFormat
from fluxforge.clock import MS, NS
from fluxforge.events import AnyEvent, BookDelta, BookSnapshot, Coverage, Heartbeat, Trade
from fluxforge.files import Chain, ChainId
from fluxforge.lake import LakeWriter, lake_tree
from fluxforge.log import Record
from fluxforge.storage import Root

DAY = 86_400 * NS
FIRST = 19_000 * DAY
"""2022-01-08."""
LOG = "cluster-1"
RAW = ChainId(LOG, "market.raw", 0)


def row(table: rows.Table, timestamp: int, offset: int, symbol: str, **more: Any) -> dict[str, Any]:
    """A row as it comes from a topic: every column null but those given."""
    own = {"exchange": "binance", "symbol": symbol, "source": "ccxt", "timestamp": timestamp, "source_offset": offset}
    return {**dict.fromkeys(table.schema.names), **own, **more}


def make_lake(root: Root, days: int = 3) -> None:
    """Each hour a bar of 60 and one of 300 s, and a ticker, of two symbols; a batch a day."""
    for table in (rows.BARS, rows.TICKER):
        chain = ChainId(LOG, f"market.{table.name}", 0)
        with LakeWriter.open(lake_tree(root), table, chain, first=0, config_hash="c0ffee") as writer:
            for day in range(days):
                add_day(writer, table, day)


def add_day(writer: LakeWriter, table: rows.Table, day: int) -> None:
    offset = writer.next_offset
    for hour in range(24):
        at = FIRST + day * DAY + hour * 3600 * NS
        for symbol in ("BTC/USDT", "ETH/USDT"):
            for more in ({"duration": 60, "close": float(hour)}, {"duration": 300, "close": -1.0}):
                if table is rows.TICKER:
                    more = {"bid": float(hour)}
                writer.add([row(table, at, offset, symbol, **more)])
                offset += 1
                if table is rows.TICKER:
                    break
    writer.commit(offset)


def events(count: int, first: int = FIRST) -> list[AnyEvent]:
    """Books with prices that have cents, and ones that no power of ten gives back; trades, heartbeats, a page."""
    found: list[AnyEvent] = []
    for i in range(count):
        who: dict[str, Any] = {
            "exchange": "binance", "symbol": ("BTC/USDT", "ETH/USDT")[i % 2], "native": ("BTCUSDT", "ETHUSDT")[i % 2],
            "source": "ccxt", "collector": "c1", "connection": "x",
        }  # fmt: skip
        at = first + i * NS
        times = {"ts": at - MS, "capture_ts": at}
        odd = 1 / 3 if i % 10 == 9 else 0.01
        found += [
            BookSnapshot(
                **who, **times, bids=struct.pack("<4d", 100.07, 1.5, 99.93, 2.0),
                asks=struct.pack("<2d", 100.1 + odd, 3.0),
            ),
            BookDelta(**who, **times, bids=struct.pack("<2d", 100.07, 0.1 * i), asks=b""),
            Trade(**who, **times, id=str(i), price=100.0 + i, size=1.0, side=1),
        ]  # fmt: skip
    who["ts"] = None
    found.append(Heartbeat(**who, capture_ts=at))
    found.append(Coverage(**who, capture_ts=at, since=first, until=at, books=count))
    return found


def make_bronze(root: Root, *, chain: ChainId = RAW, raw_format: RawFormat = "parquet", batches: int = 2) -> None:
    """Twenty books, deltas and trades, a heartbeat and a page of coverage in each batch; a batch a day."""
    with Chain.open(bronze.tree(root), chain, first=0) as opened:
        writer = bronze.BronzeWriter(opened, raw_format)
        for _ in range(batches):
            start = opened.next_offset
            made = events(20, FIRST + start // 62 * DAY)
            writer.append(
                [
                    Record(
                        chain.partition, start + n, event.capture_ts // MS, event.key.encode(), codec.encode(event),
                        codec.headers(event),
                    )
                    for n, event in enumerate(made)
                ]
            )  # fmt: skip
            writer.commit(start + len(made))
