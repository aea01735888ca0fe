"""Rows as they are published, for strategy code.

    async for row in stream("features", symbols=["BTC/USDT"]):
        if row["ofi_sum_5s"] > 10:
            ...

A row is a dict: `exchange`, `symbol`, `source`, `timestamp` (ns) and the columns of its table; null values are None.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Iterator
from typing import Any, Literal

from fluxforge import rows
from fluxforge.errors import ConfigError, OffsetOutOfRange
from fluxforge.log import Log, Reader, TopicPartition, open_log
from fluxforge.settings import Settings, load
from fluxforge.topics import Topics

TableName = Literal["features", "bars", "trades", "ticker"]
Start = Literal["latest", "earliest"] | int
Row = dict[str, Any]

_IDLE_S = 0.02


async def stream(
    table: TableName = "features",
    *,
    symbols: Collection[str] | None = None,
    exchanges: Collection[str] | None = None,
    start: Start = "latest",
    url: str | None = None,
    settings: Settings | None = None,
) -> AsyncIterator[Row]:
    """Rows of a table, for ever, in order per symbol.

    symbols, exchanges  None takes all
    start               `latest`, `earliest`, or ns since 1970 UTC of publication
    url                 of the log; None takes the configuration's

    Raises LogUnavailable when the log cannot be reached, UnknownTopic when nothing was ever published to it.
    """
    with Feed(table, symbols=symbols, exchanges=exchanges, start=start, url=url, settings=settings) as feed:
        while True:
            found = await asyncio.to_thread(feed.poll)
            for row in found:
                yield row
            if not found:
                await asyncio.sleep(_IDLE_S)


class Feed:
    """The same, polled; use as a context manager."""

    def __init__(
        self,
        table: TableName = "features",
        *,
        symbols: Collection[str] | None = None,
        exchanges: Collection[str] | None = None,
        start: Start = "latest",
        url: str | None = None,
        settings: Settings | None = None,
    ) -> None:
        settings = settings or load()
        self._symbols = None if symbols is None else frozenset(symbols)
        self._exchanges = None if exchanges is None else frozenset(exchanges)
        self._topic = _topic(settings.topic_names(), table)
        self._log = open_log(url or settings.broker.url, settings.broker.librdkafka())
        partitions = range(self._log.partitions(self._topic))
        self._readers = [_reader(self._log, TopicPartition(self._topic, p), start) for p in partitions]

    def __enter__(self) -> Feed:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Row]:
        """Rows for ever; waits where there are none."""
        while True:
            found = self.poll()
            yield from found
            if not found:
                time.sleep(_IDLE_S)

    def poll(self) -> list[Row]:
        """Rows published since the last poll; empty where there are none."""
        found: list[Row] = []
        for reader in self._readers:
            try:
                batch = reader.read(1000)
            except OffsetOutOfRange as error:
                # A reader that slept past the retention goes on with what is left; the error names the hole.
                reader.seek(error.first)
                raise
            for record in batch.records:
                exchange, _, symbol = (record.key or b"").decode().partition("|")
                if self._symbols is not None and symbol not in self._symbols:
                    continue
                if self._exchanges is not None and exchange not in self._exchanges:
                    continue
                found.append(rows.decode(record.value))
        return found

    def close(self) -> None:
        for reader in self._readers:
            reader.close()
        self._log.close()


def _topic(topics: Topics, table: str) -> str:
    names = {"features": topics.features, "bars": topics.bars, "trades": topics.trades, "ticker": topics.ticker}
    if table not in names:
        raise ConfigError(f"there is no table {table!r}", hint=f"one of {', '.join(names)}")
    return names[table]


def _reader(log: Log, tp: TopicPartition, start: Start) -> Reader:
    bounds = log.bounds(tp)
    if start == "latest":
        return log.reader(tp, bounds.next)
    if start == "earliest":
        return log.reader(tp, bounds.first)
    return log.reader(tp, log.offset_at(tp, start // 1_000_000))
