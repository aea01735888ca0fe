"""Messages of librdkafka to batches of ours: the one place that knows both."""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from typing import Any

from confluent_kafka import Consumer, KafkaError, Message

from fluxforge.log.protocol import Batch, Headers, Record, TopicPartition

_PASSING = frozenset(
    {
        KafkaError._TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._TIMED_OUT,
        KafkaError._RESOLVE,
        KafkaError._MAX_POLL_EXCEEDED,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError.REBALANCE_IN_PROGRESS,
    }
)
"""What librdkafka mends by itself; a commit, or a look at the bounds, says so if it does not."""


def fetch(consumer: Consumer, max_records: int, timeout: float) -> list[Message]:
    """Up to `max_records` messages: the first within `timeout`, the rest only if they are here already.

    `consume(n, timeout)` alone would wait out its timeout for a full batch.
    """
    messages: list[Message] = consumer.consume(1, timeout)
    if messages and max_records > 1:
        messages += consumer.consume(max_records - 1, 0)
    return messages


def batches(
    messages: Iterable[Message], positions: MutableMapping[TopicPartition, int]
) -> tuple[list[Batch], list[tuple[TopicPartition, KafkaError]]]:
    """Batches by partition, and the errors that do not pass by themselves; moves `positions` on.

    Messages of partitions without a position, or from before it, are left-overs of an earlier assignment and dropped.
    """
    found: dict[TopicPartition, list[Record]] = {}
    moved: dict[TopicPartition, int] = {}
    tps: dict[tuple[str | None, int | None], TopicPartition] = {}
    errors: list[tuple[TopicPartition, KafkaError]] = []
    for message in messages:
        name = (message.topic(), message.partition())
        tp = tps.get(name)
        if tp is None:
            tp = tps[name] = TopicPartition(name[0] or "", -1 if name[1] is None else name[1])
        error = message.error()
        if error is not None and error.code() != KafkaError._PARTITION_EOF:
            if error.code() not in _PASSING or error.fatal():
                errors.append((tp, error))
            continue
        at, offset = positions.get(tp), message.offset()
        if at is None or offset is None or offset < at:
            continue
        if error is None:
            records = found.get(tp)
            if records is None:
                records = found[tp] = []
            key, value, timestamp = message.key(), message.value() or b"", message.timestamp()[1]
            records.append(Record(tp.partition, offset, timestamp, key, value, _headers(message)))
            offset += 1
        if offset > at:
            positions[tp] = moved[tp] = offset
    return [Batch(tp, found.get(tp, ()), next_offset) for tp, next_offset in moved.items()], errors


def _headers(message: Message) -> Headers:
    headers: Any = message.headers()
    if not headers:
        return ()
    return tuple((name, value or b"") for name, value in headers)
