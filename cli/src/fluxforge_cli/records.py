"""Records of any topic as a table: where each is, what it is called, and its value as people read it."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator, Sequence
from contextlib import closing
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from fluxforge import codec, rows, service
from fluxforge.clock import MS
from fluxforge.errors import CodecError
from fluxforge.events import AnyEvent
from fluxforge.lake.scan import time_ns
from fluxforge.log import Log, Record, TopicPartition
from fluxforge.settings import Settings

IDLE_S = 0.05
SCHEMA = pa.schema(
    [
        *(("partition", pa.int32()), ("offset", pa.int64()), ("timestamp", pa.int64())),
        *((name, pa.string()) for name in ("exchange", "symbol", "kind", "error", "value")),
    ]
)


async def tables(
    settings: Settings, topic: str, symbols: Sequence[str] | None, exchanges: Sequence[str] | None, start: str
) -> AsyncGenerator[pa.Table, None]:
    """What is published, from `latest`, `earliest` or a time of publication on; an empty table first.

    `topic` is raw, dlq, late or a whole name. Raises UnknownTopic, LogUnavailable.
    """
    yield SCHEMA.empty_table()
    names = settings.topic_names()
    whole = {"raw": names.raw, "dlq": names.dlq, "late": names.late}.get(topic, topic)
    with closing(service.open_log(settings)) as log:
        tps = [TopicPartition(whole, partition) for partition in range(log.partitions(whole))]
        readers = [log.reader(tp, _offset(log, tp, start)) for tp in tps]
        try:
            while True:
                found = [record for reader in readers for record in reader.read().records]
                made = [row for record in found if _is_of(row := _row(record), symbols, exchanges)]
                if made:
                    yield pa.Table.from_pylist(made, SCHEMA)
                await asyncio.sleep(0 if found else IDLE_S)
        finally:
            for reader in readers:
                reader.close()


def _is_of(row: dict[str, Any], symbols: Sequence[str] | None, exchanges: Sequence[str] | None) -> bool:
    return (symbols is None or row["symbol"] in symbols) and (exchanges is None or row["exchange"] in exchanges)


def _offset(log: Log, tp: TopicPartition, start: str) -> int:
    if start in ("latest", "earliest"):
        bounds = log.bounds(tp)
        return bounds.next if start == "latest" else bounds.first
    return log.offset_at(tp, (time_ns(start) or 0) // MS)


def _row(record: Record) -> dict[str, Any]:
    headers = dict(record.headers)
    exchange, _, symbol = (record.key or b"").decode(errors="replace").partition("|")
    kind, value = _read(record.value)
    return {
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": record.timestamp,
        "exchange": exchange,
        "symbol": symbol,
        "kind": kind,
        "value": value,
        "error": headers["error"].decode(errors="replace") if "error" in headers else None,
    }


def _told(event: AnyEvent) -> dict[str, Any]:
    """An event's fields; levels as pairs of price and size, the exchange's own record as text."""
    told = msgspec.structs.asdict(event)
    for name, field in told.items():
        if name in ("bids", "asks"):
            told[name] = np.frombuffer(field, "<f8").reshape(-1, 2).tolist()
        elif isinstance(field, bytes):
            told[name] = field.decode(errors="replace")
    return told


def _read(value: bytes) -> tuple[str | None, str]:
    """Kind and JSON of one of our events or rows; else the bytes themselves, as text or base64."""
    try:
        event = codec.decode(value)
    except CodecError:
        pass
    else:
        return type(event).__name__, msgspec.json.encode(_told(event)).decode()
    try:
        return None, msgspec.json.encode(rows.decode(value)).decode()
    except CodecError:
        return None, value.decode() if value.isascii() else base64.b64encode(value).decode()
