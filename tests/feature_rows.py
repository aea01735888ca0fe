"""Feature rows as the feature engine publishes them, made up."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from typing import Any

import pyarrow as pa

from fluxforge import rows
from fluxforge.log import Log, Output
from fluxforge.settings import Settings
from fluxforge.settings.models import Broker
from fluxforge.topics import Topics, partition_of

START = 1_700_000_000_000_000_000
MS = 1_000_000
SECOND = 1000 * MS
PARTITIONS = 2
_SCHEMA = rows.hf_table(Settings().feature_config()).schema


def settings_of(topics: Topics) -> Settings:
    return Settings(broker=Broker(prefix=topics.prefix))


def feature_row(number: int, symbol: str = "S0/USDT", exchange: str = "sim", **more: Any) -> dict[str, Any]:
    """The number-th row of a market, a second after the one before it; floats of every size, null now and then."""
    rng = Random(number)
    made: dict[str, Any] = {"exchange": exchange, "symbol": symbol, "source": "sim"}
    for field in _SCHEMA:
        if pa.types.is_floating(field.type):
            made[field.name] = None if rng.random() < 0.1 else rng.gauss(0, 10.0 ** rng.randint(-9, 9))
        else:
            made[field.name] = "event" if pa.types.is_string(field.type) else rng.randint(0, 5)
    at = START + number * SECOND
    place = {"source_partition": 0, "source_offset": number}
    return {**made, "timestamp": at - 5 * MS, "capture_ts": at, **place, **more}


def output(topics: Topics, row: dict[str, Any], fmt: str = "json") -> Output:
    """Published half a second after its capture."""
    key = f"{row['exchange']}|{row['symbol']}".encode()
    published = (row["capture_ts"] + SECOND // 2) // MS
    return Output(topics.features, key, rows.encode(row, fmt), timestamp=published)


def make_topics(log: Log, topics: Topics) -> None:
    """Without a retention, for the rows are old."""
    specs = topics.specs(PARTITIONS, raw_retention_ms=-1)
    log.create([spec.__class__(spec.name, spec.partitions, any_time=True) for spec in specs])


def publish(log: Log, topics: Topics, found: Iterable[dict[str, Any]], fmt: str = "json") -> None:
    appender = log.appender()
    for row in found:
        appender.append(output(topics, row, fmt))
    appender.close()


def symbols_of_both_partitions() -> tuple[str, str]:
    """A symbol of each partition."""
    names = [f"S{n}/USDT" for n in range(20)]
    return tuple(next(n for n in names if partition_of(f"sim|{n}".encode(), PARTITIONS) == p) for p in range(2))  # type: ignore[return-value]
