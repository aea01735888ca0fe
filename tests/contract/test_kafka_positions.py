"""Where a consumer on Kafka reads on after its listener has sought in the middle of a poll."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest

import fluxforge.log.kafka.consumer as module
from fluxforge.log import TopicPartition
from fluxforge.log.kafka.admin import Admin
from fluxforge.log.kafka.client import Cluster
from fluxforge.log.kafka.consumer import KafkaConsumer

TP = TopicPartition("t", 0)


class Message:
    """What librdkafka's message answers."""

    def __init__(self, offset: int) -> None:
        self._offset = offset

    def topic(self) -> str:
        return TP.topic

    def partition(self) -> int:
        return TP.partition

    def offset(self) -> int:
        return self._offset

    def error(self) -> None:
        return None

    def headers(self) -> None:
        return None

    def key(self) -> bytes:
        return b"k"

    def value(self) -> bytes:
        return b"v"

    def timestamp(self) -> tuple[int, int]:
        return 1, 0


class Native:
    """A client whose fetch position is all it has."""

    def __init__(self, *_: object, **__: object) -> None:
        self.at = 0

    def subscribe(self, *_: object, **__: object) -> None: ...

    def incremental_assign(self, partitions: Sequence[Any]) -> None:
        self.at = partitions[0].offset

    def seek(self, partition: Any) -> None:
        self.at = partition.offset

    def take(self, count: int) -> list[Message]:
        self.at += count
        return [Message(offset) for offset in range(self.at - count, self.at)]


class Listener:
    def __init__(self) -> None:
        self.consumer: KafkaConsumer

    def assigned(self, tps: Sequence[TopicPartition]) -> None:
        self.consumer.seek(tps[0], 100)

    def revoked(self, tps: Sequence[TopicPartition]) -> None: ...

    def lost(self, tps: Sequence[TopicPartition]) -> None: ...


def test_messages_gathered_before_a_seek_of_the_listener_are_not_a_jump(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some come in before the callback, some behind it: none may be passed over."""
    monkeypatch.setattr(module, "Consumer", Native)
    listener = Listener()
    consumer = KafkaConsumer(
        Cluster("nowhere:1", {}), cast(Admin, None), group="g", topics=["t"], member="m", listener=listener
    )
    listener.consumer = consumer
    native = cast(Native, consumer._consumer)
    calls = 0

    def fetch(_: object, count: int, __: float) -> list[Message]:
        nonlocal calls
        calls += 1
        if calls == 1:
            consumer._on_assign(consumer._consumer, [module.ck.TopicPartition(*TP)])
            return []
        if calls == 2:
            return native.take(10)
        if calls == 3:
            before = native.take(5)
            consumer.seek(TP, 102)  # as `lost` and `assigned` do when they go back to the last commit
            return before + native.take(5)
        return native.take(3)

    monkeypatch.setattr(module, "fetch", fetch)
    seen = [record.offset for _ in range(4) for batch in consumer.poll(10, 1.0) for record in batch.records]
    assert seen[:10] == list(range(100, 110))
    assert seen[10:] == list(range(102, 102 + len(seen) - 10))
    assert len(seen) > 10
