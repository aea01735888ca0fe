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
    found: dict[tuple[str | None, int | None], _Found] = {}
    errors: list[tuple[TopicPartition, KafkaError]] = []
    name: tuple[str | None, int | None] | None = None
    one = _NOWHERE
    for message in messages:
        topic, partition = message.topic(), message.partition()
        if name is None or partition != name[1] or topic != name[0]:
            name = (topic, partition)
            known = found.get(name)
            if known is None:
                tp = TopicPartition(topic or "", -1 if partition is None else partition)
                known = found[name] = _Found(tp, positions.get(tp))
            one = known
        error = message.error()
        if error is not None and error.code() != KafkaError._PARTITION_EOF:
            if error.code() not in _PASSING or error.fatal():
                errors.append((one.tp, error))
            continue
        offset = message.offset()
        if one.at is None or offset is None or offset < one.at:
            continue
        if error is None:
            headers = message.headers()
            one.records.append(
                Record(
                    one.tp.partition,
                    offset,
                    message.timestamp()[1],
                    message.key(),
                    message.value() or b"",
                    _headers(headers) if headers else (),
                )
            )
            offset += 1
        if offset > one.at:
            one.at = offset
            one.moved = True
    made = []
    for one in found.values():
        if one.moved and one.at is not None:
            positions[one.tp] = one.at
            made.append(Batch(one.tp, one.records, one.at))
    return made, errors


class _Found:
    """What a poll has brought of one partition."""

    __slots__ = ("at", "moved", "records", "tp")

    def __init__(self, tp: TopicPartition, at: int | None) -> None:
        self.tp, self.at, self.moved = tp, at, False
        self.records: list[Record] = []


_NOWHERE = _Found(TopicPartition("", -1), None)
_KNOWN_HEADERS: dict[Any, Headers] = {}
_CACHED = 4096


def _headers(headers: Any) -> Headers:
    """As tuples; the same few headers come again and again, so they are shared."""
    given = tuple(headers)
    known = _KNOWN_HEADERS.get(given)
    if known is None:
        if len(_KNOWN_HEADERS) >= _CACHED:
            _KNOWN_HEADERS.clear()
        known = _KNOWN_HEADERS[given] = tuple((name, value or b"") for name, value in given)
    return known
