"""Rows as they are published."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from typing import Literal

from fluxforge import rows
from fluxforge.client.tables import Row, TableName, Wanted, topic_of
from fluxforge.errors import OffsetOutOfRange
from fluxforge.log import Log, Reader, Record, TopicPartition, open_log
from fluxforge.settings import Settings, load

Start = Literal["latest", "earliest"] | int

IDLE_S = 0.02


class Feed:
    """The rows of a live `stream`, polled; use as a context manager."""

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
        self._wanted = Wanted.of(symbols, exchanges)
        topic = topic_of(settings.topic_names(), table)
        self._log = open_log(url or settings.broker.url, settings.broker.librdkafka())
        self._readers = [
            _reader(self._log, TopicPartition(topic, p), start) for p in range(self._log.partitions(topic))
        ]

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
                time.sleep(IDLE_S)

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
            found += [rows.decode(record.value) for record in batch.records if self._wanted.market(*market_of(record))]
        return found

    def close(self) -> None:
        for reader in self._readers:
            reader.close()
        self._log.close()


def market_of(record: Record) -> tuple[str, str]:
    """Exchange and symbol, as the key tells them."""
    exchange, _, symbol = (record.key or b"").decode().partition("|")
    return exchange, symbol


def _reader(log: Log, tp: TopicPartition, start: Start) -> Reader:
    bounds = log.bounds(tp)
    if start == "latest":
        return log.reader(tp, bounds.next)
    if start == "earliest":
        return log.reader(tp, bounds.first)
    return log.reader(tp, log.offset_at(tp, start // 1_000_000))
