"""The history as raw topics: diffs, trades and minute-wise refreshes, for any number of keys."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator, Sequence
from functools import cache

import msgspec
from benchmarks.history import History, Levels, Print, Update

from benchmarks import history
from fluxforge import codec
from fluxforge.events import AnyEvent, BookDelta, BookSnapshot, Trade
from fluxforge.log import Log, Output
from fluxforge.topics import Topics

MS = 1_000_000


def names(symbol: str) -> dict[str, str]:
    """What every event of a symbol carries."""
    native = symbol.replace("/", "")
    return {
        **{"exchange": "bench", "symbol": symbol, "native": native, "source": "bench"},
        **{"collector": "c1", "connection": "c1#1"},
    }


def blob(levels: Levels) -> bytes:
    return struct.pack(f"<{2 * len(levels)}d", *itertools.chain.from_iterable(levels))


@cache
def template() -> list[AnyEvent]:
    """One key's whole history."""
    return events_of(history.load())


def events_of(market: History) -> list[AnyEvent]:
    """A market as events of one key: its book, then diffs and trades."""
    of = names("BTC/USDT")
    start = market.start_ms * MS - 1
    events: list[AnyEvent] = [
        BookSnapshot(**of, ts=start, capture_ts=start, bids=blob(market.bids), asks=blob(market.asks))
    ]
    for number, event in enumerate(market.events):
        at = event.time_ms * MS
        if isinstance(event, Update):
            events.append(BookDelta(**of, ts=at, capture_ts=at, bids=blob(event.bids), asks=blob(event.asks)))
        elif isinstance(event, Print):
            side = 1 if event.sign > 0 else -1
            events.append(
                Trade(**of, ts=at, capture_ts=at, id=str(number), price=event.price, size=event.size, side=side)
            )
    return events


def keyed(symbol: str, count: int | None = None, levels: int | None = None) -> Iterator[AnyEvent]:
    """The first `count` events under another symbol; a book of at most `levels` a side to start with."""
    of = names(symbol)
    for event in template()[:count]:
        fields = {name: getattr(event, name) for name in event.__struct_fields__}
        if levels is not None and isinstance(event, BookSnapshot):
            fields["bids"], fields["asks"] = event.bids[: 16 * levels], event.asks[: 16 * levels]
        yield type(event)(**{**fields, **of})


def record(topics: Topics, event: AnyEvent, partition: int | None = None, timestamp: int | None = None) -> Output:
    """An event as a collector would append it."""
    return Output(
        topics.raw, event.key.encode(), codec.encode(event), codec.headers(event), timestamp, partition=partition
    )


def fill(log: Log, topics: Topics, symbols: int, events: int, partitions: int, levels: int | None = None) -> int:
    """`events` in all, dealt out to `symbols` keys in turn, over `partitions`; returns how many there are."""
    log.create(topics.specs(partitions, raw_retention_ms=-1))
    streams = [keyed(f"S{k:04d}/USDT", max(1, events // symbols), levels) for k in range(symbols)]
    return append(log, topics, streams, partitions)


def fill_laps(log: Log, topics: Topics, symbols: int, laps: range, events: int, partitions: int, levels: int) -> int:
    """The first `events` of the history as laps of a course, for each key the same; returns how many there are.

    A lap begins with a BookSnapshot and lies behind the one before it in time, so a key has the same events per second
    of market time in all of them, however many keys there are.
    """
    course = template()[:events]
    length = course[-1].capture_ts - course[0].capture_ts + MS

    def laps_of(symbol: str) -> Iterator[AnyEvent]:
        for lap in laps:
            for event in keyed(symbol, events, levels):
                ts = event.capture_ts + lap * length
                yield msgspec.structs.replace(event, ts=ts, capture_ts=ts)

    return append(log, topics, [laps_of(f"S{k:04d}/USDT") for k in range(symbols)], partitions)


def append(log: Log, topics: Topics, streams: Sequence[Iterator[AnyEvent]], partitions: int) -> int:
    """One event of each stream in turn, stream k to partition k modulo `partitions`; returns how many there are."""
    appender = log.appender()
    count = 0
    for row in itertools.zip_longest(*streams):
        for k, event in enumerate(row):
            if event is not None:
                appender.append(record(topics, event, k % partitions))
                count += 1
    appender.close()
    return count
