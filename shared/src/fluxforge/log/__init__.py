"""The log behind one small protocol, with two real backends."""

from __future__ import annotations

from collections.abc import Mapping

from fluxforge.errors import ConfigError
from fluxforge.log.protocol import (
    Appender,
    Batch,
    Bounds,
    Consumer,
    Headers,
    Listener,
    Log,
    Output,
    Reader,
    Record,
    RecordColumns,
    TopicPartition,
    Transactor,
    columns,
)
from fluxforge.log.reading import records_between

__all__ = [
    "Appender",
    "Batch",
    "Bounds",
    "Consumer",
    "Headers",
    "Listener",
    "Log",
    "Output",
    "Reader",
    "Record",
    "RecordColumns",
    "TopicPartition",
    "Transactor",
    "columns",
    "open_log",
    "records_between",
]


def open_log(url: str, properties: Mapping[str, str] | None = None, *, linger: float | None = None) -> Log:
    """Open `kafka://host:port[,host:port…]` or `sqlite:///path`.

    `properties` are librdkafka properties (SASL, TLS…), for Kafka alone; `linger` is how many s appended records are
    gathered before they are stored, for SQLite alone (Kafka has a property for it). Raises ConfigError for another
    scheme and LogUnavailable when nothing answers.
    """
    scheme, _, rest = url.partition("://")
    if scheme == "sqlite" and rest.startswith("/"):
        from fluxforge.log.sqlite import SqliteLog  # noqa: PLC0415  keeps librdkafka out of embedded processes

        return SqliteLog(rest[1:]) if linger is None else SqliteLog(rest[1:], linger=linger)
    if scheme == "kafka" and rest:
        from fluxforge.log.kafka import KafkaLog  # noqa: PLC0415

        return KafkaLog(rest, properties or {})
    raise ConfigError(f"broker.url {url!r} is no log", hint="use kafka://host:port or sqlite:///path/to/file.db")
