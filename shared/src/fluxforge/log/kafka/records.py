"""Messages of librdkafka to batches of ours: the one place that knows both."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping, Sequence
from itertools import groupby, islice
from operator import itemgetter, lt, methodcaller
from typing import Any, overload

from confluent_kafka import Consumer, KafkaError, Message

from fluxforge.log.protocol import Batch, Columns, Headers, Record, TopicPartition

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


_topic, _partition, _offset, _value, _error = map(methodcaller, ("topic", "partition", "offset", "value", "error"))
_timestamp, _key, _named = map(methodcaller, ("timestamp", "key", "headers"))


def fetch(consumer: Consumer, max_records: int, timeout: float) -> list[Message]:
    """Up to `max_records` messages: the first within `timeout`, the rest only if they are here already.

    `consume(n, timeout)` alone would wait out its timeout for a full batch.
    """
    messages: list[Message] = consumer.consume(1, timeout)
    if messages and max_records > 1:
        messages += consumer.consume(max_records - 1, 0)
    return messages


def batches(
    messages: Sequence[Message], positions: MutableMapping[TopicPartition, int]
) -> tuple[list[Batch], list[tuple[TopicPartition, KafkaError]]]:
    """Batches by partition, and the errors that do not pass by themselves; moves `positions` on.

    Messages of partitions without a position, or from before it, are left-overs of an earlier assignment and dropped.
    """
    records: dict[TopicPartition, list[Message]] = {}
    ends: dict[TopicPartition, int] = {}
    errors: list[tuple[TopicPartition, KafkaError]] = []
    faults = list(map(_error, messages))
    if any(faults):
        for message, fault in zip(messages, faults, strict=True):
            if fault is not None:
                tp = TopicPartition(message.topic() or "", _known(message.partition()))
                if fault.code() == KafkaError._PARTITION_EOF:
                    ends[tp] = max(ends.get(tp, 0), _known(message.offset()))
                elif fault.code() not in _PASSING or fault.fatal():
                    errors.append((tp, fault))
        messages = [message for message, fault in zip(messages, faults, strict=True) if fault is None]
    start = 0
    for name, run in groupby(zip(map(_topic, messages), map(_partition, messages), strict=True)):
        stop = start + len(list(run))
        records.setdefault(TopicPartition(name[0] or "", _known(name[1])), []).extend(messages[start:stop])
        start = stop
    made = []
    for tp in {**records, **ends}:
        at = positions.get(tp)
        if at is None:
            continue
        found = Messages(records.get(tp, ())).since(at)
        next_offset = max(at, ends.get(tp, 0), found.offsets[-1] + 1 if found else 0)
        if next_offset > at:
            positions[tp] = next_offset
            made.append(Batch(tp, found, next_offset))
    return made, errors


class Messages(Columns):
    """Messages of one partition as records. A record is made when it is looked at: who wants columns makes none."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self._messages = messages
        self._offsets: list[int] = list(map(_offset, messages))

    @property
    def partitions(self) -> list[int]:
        return [_known(self._messages[0].partition())] * len(self._messages) if self._messages else []

    @property
    def offsets(self) -> list[int]:
        return self._offsets

    @property
    def timestamps(self) -> list[int]:
        return list(map(itemgetter(1), map(_timestamp, self._messages)))

    @property
    def keys(self) -> list[bytes | None]:
        return list(map(_key, self._messages))

    @property
    def headers(self) -> list[Headers]:
        named = list(map(_named, self._messages))
        given = [tuple(headers or ()) for headers in named] if None in named else list(map(tuple, named))
        found = list(map(_KNOWN_HEADERS.get, given))
        return list(map(_headers, given)) if None in found else found  # type: ignore[return-value]

    @property
    def values(self) -> list[bytes]:
        """Theirs in order."""
        found: list[Any] = list(map(_value, self._messages))
        return [value or b"" for value in found] if None in found else found

    def since(self, offset: int) -> Messages:
        """Those at `offset` or behind, without any that does not lie behind all before it."""
        offsets = self.offsets
        if not offsets or (offsets[0] >= offset and all(map(lt, offsets, islice(offsets, 1, None)))):
            return self
        kept = []
        for message, at in zip(self._messages, offsets, strict=True):
            if at >= offset:
                kept.append(message)
                offset = at + 1
        return Messages(kept)

    def __len__(self) -> int:
        return len(self._messages)

    def __iter__(self) -> Iterator[Record]:
        return map(_record, self._messages)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> Messages: ...
    def __getitem__(self, index: int | slice) -> Record | Messages:
        return Messages(self._messages[index]) if isinstance(index, slice) else _record(self._messages[index])


def _record(message: Message) -> Record:
    headers = message.headers()
    return Record(
        _known(message.partition()),
        _known(message.offset()),
        message.timestamp()[1],
        message.key(),
        message.value() or b"",
        _headers(tuple(headers)) if headers else (),
    )


def _known(number: int | None) -> int:
    return -1 if number is None else number


_KNOWN_HEADERS: dict[Any, Headers] = {}
_CACHED = 4096


def _headers(given: tuple[Any, ...]) -> Headers:
    """The same few headers come again and again, so they are shared."""
    known = _KNOWN_HEADERS.get(given)
    if known is None:
        if len(_KNOWN_HEADERS) >= _CACHED:
            _KNOWN_HEADERS.clear()
        known = _KNOWN_HEADERS[given] = tuple((name, value or b"") for name, value in given)
    return known
