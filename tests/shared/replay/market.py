"""A small market in Bronze, and topics held against it."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fluxforge import bronze, codec
from fluxforge.bronze.writer import RawFormat
from fluxforge.clock import MS, NS
from fluxforge.errors import CodecError
from fluxforge.events import AnyEvent, BookDelta, BookSnapshot, Heartbeat, Ticker, Trade, Wire
from fluxforge.files import Chain, ChainId, Gap, Tree
from fluxforge.log import Headers, Log, Record, TopicPartition, open_log
from fluxforge.replay import Replay
from fluxforge.storage import Root
from read_topic import of_partition

FIRST = 1_700_000_000 * NS
STEP = 100 * MS
SYMBOLS = ("BTC/USDT", "ETH/USDT", "SOL/USDT")
TOPIC = "market.raw"


def event(number: int, symbol: str | None = None, at: int | None = None) -> AnyEvent:
    """The number-th event of a market: all kinds in turn, each symbol's on its way."""
    symbol = symbol or SYMBOLS[number % len(SYMBOLS)]
    at = FIRST + number * STEP if at is None else at
    who: dict[str, Any] = {
        "exchange": "binance" if symbol != "SOL/USDT" else "coinbase", "symbol": symbol, "native": symbol,
        "source": "ccxt", "collector": "c", "connection": "x", "ts": at - MS, "capture_ts": at,
    }  # fmt: skip
    match number // len(SYMBOLS) % 5:
        case 0:
            return Trade(**who, id=str(number), price=100 + number / 8, size=0.5, side=1, raw=b'{"t":%d}' % number)
        case 1:
            return BookSnapshot(**who, bids=struct.pack("<2d", 99.5, 1.0), asks=struct.pack("<2d", 100.5, 2.0))
        case 2:
            return BookDelta(**who, seq=number, bids=struct.pack("<4d", 99.5, 0.0, 1 / 3, number), asks=b"")
        case 3:
            return Ticker(**{**who, "ts": None}, bid=99.5, ask=100.5, last=None)
        case _:
            return Heartbeat(**who)


def record(number: int, partition: int = 0, offset: int | None = None, **more: Any) -> Record:
    """Its record: most as our codec writes it, some otherwise, a few no event at all."""
    made, offset = event(number, **more), number if offset is None else offset
    value, headers, key = codec.encode(made), codec.headers(made), made.key.encode()
    own: Headers = headers
    if number % 41 == 40:
        value = codec.encode(made, "json")
    if number % 37 == 36:
        own = (*headers, ("note", b"\x00\xff"))
    if number % 53 == 52:
        key, value, own = b"odd", b"\xc1" * (number % 3), ()
    return Record(partition, offset, made.capture_ts // MS, key, value, own)


def store(
    tree: Tree, records: Sequence[Record], log_id: str = "log-1", topic: str = TOPIC, form: RawFormat = "parquet",
    batch: int = 100,
) -> ChainId:  # fmt: skip
    """The records of one partition, `batch` to a commit; the chain they are in."""
    id_ = ChainId(log_id, topic, records[0].partition)
    with Chain.open(tree, id_, first=0) as chain:
        writer = bronze.BronzeWriter(chain, form, group_bytes=4_000)
        for at in range(0, len(records), batch):
            writer.append(records[at : at + batch])
            writer.commit(records[min(at + batch, len(records)) - 1].offset + 1)
    return id_


def fill(data: Root, count: int = 600, partitions: int = 3, form: RawFormat = "parquet") -> dict[int, list[Record]]:
    """A market over partitions, with holes in the offsets; its records by partition."""
    tree = bronze.tree(data)
    found = {
        partition: [
            record(number, partition, offset=2 * place)
            for place, number in enumerate(range(partition, count, partitions))
        ]
        for partition in range(partitions)
    }
    for records in found.values():
        store(tree, records, form=form)
    return found


def read(log: Log, topic: str) -> dict[int, list[Record]]:
    """Everything in a topic by partition."""
    there = ((p, list(of_partition(log, TopicPartition(topic, p)))) for p in range(log.partitions(topic)))
    return {partition: records for partition, records in there if records}


def bare(records: Sequence[Record]) -> list[tuple[Any, ...]]:
    """The records without offsets and without what a replay adds."""
    return [
        (one.partition, one.timestamp, one.key, one.value, tuple(h for h in one.headers if h[0][:7] != "source-"))
        for one in records
    ]


def header(record: Record, name: str) -> str | None:
    return next((value.decode() for key, value in reversed(record.headers) if key == name), None)


def meant(one: Record, which: str) -> bool:
    """What a selection of the tests takes."""
    try:
        made: Any = codec.decode(one.value)
    except CodecError:
        made = None
    at = one.timestamp * MS
    match which:
        case "symbol":
            return made is not None and made.symbol == "BTC/USDT"
        case "exchange":
            return made is not None and made.exchange == "coinbase"
        case "both":
            return made is not None and made.symbol == "ETH/USDT"
        case "channel":
            return made is None or isinstance(made, Trade | Heartbeat)
        case "time":
            return FIRST + 29 * NS <= at < FIRST + 45 * NS
        case _:
            return True


def wire(number: int) -> Record:
    at = FIRST + number * STEP
    made = Wire(
        exchange="binance", symbol="", native="", source="ccxt", collector="c", connection="x", ts=None,
        capture_ts=at, data=b'{"n":%d}' % number,
    )  # fmt: skip
    return Record(0, number, at // MS, made.key.encode(), codec.encode(made), codec.headers(made))


def with_gap(data: Path) -> list[Record]:
    """A chain that begins with a gap, and lacks offsets 90 to 120; its records.

    Behind that one symbol comes late, and one that was not there before comes last.
    """
    tree, id_ = bronze.tree(data), ChainId("log-1", TOPIC, 0)
    records = [record(n) for n in range(5, 300) if not 90 <= n < 120]
    records = [
        one for one in records if one.offset != 5 and not (120 <= one.offset < 250 and one.key == b"coinbase|SOL/USDT")
    ]
    records.append(record(300, symbol="NEW/USDT"))
    with Chain.open(tree, id_, first=0) as chain:
        chain.commit(6, gap=Gap(0, 6))
        writer = bronze.BronzeWriter(chain)
        writer.append([one for one in records if one.offset < 90])
        writer.commit(90)
        chain.commit(120, gap=Gap(90, 120))
        writer.append([one for one in records if one.offset >= 120])
        writer.commit(301)
    return records


def decoded(one: Record) -> Any:
    return codec.decode(one.value)


def sqlite(folder: Path) -> Log:
    return open_log(f"sqlite:///{folder / 'log.db'}")


class Watch:
    """A clock that goes only while somebody waits, and notes after each wait what can be read."""

    def __init__(self, log: Log) -> None:
        self.seconds = 0.0
        self.seen: list[tuple[float, int]] = []
        self.run: Replay | None = None
        self._log = log
        self._due: list[tuple[float, Callable[[], None]]] = []

    def now(self) -> int:
        return FIRST

    def monotonic(self) -> float:
        return self.seconds

    def at(self, seconds: float, call: Callable[[], None]) -> None:
        self._due.append((seconds, call))

    def wait(self, seconds: float) -> None:
        assert self.run is not None and self.seconds < 1_000
        written = sum(map(len, read(self._log, self.run.state.target).values()))
        self.seen.append((self.seconds, written))
        self.seconds += seconds
        for due in [each for each in self._due if each[0] <= self.seconds]:
            self._due.remove(due)
            due[1]()
