"""Idempotent appends."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from fluxforge.errors import FluxForgeError, LogError, LogUnavailable, RecordsLost
from fluxforge.log.kafka.admin import Admin
from fluxforge.log.kafka.client import Cluster, library_log
from fluxforge.log.protocol import Output, RecordColumns, TopicPartition

QUEUE_SECONDS = 30.0
"""How long an append waits for room in the queue."""
_BY_KEY, _NOW = -1, 0  # librdkafka's partition and timestamp where none is given
_POLL_EVERY = 64


class Sender:
    """`produce` with the topic checked, the headers as librdkafka wants them, and a wait when its queue is full."""

    def __init__(self, producer: Producer, cluster: Cluster, admin: Admin) -> None:
        self._producer, self._cluster, self._admin = producer, cluster, admin
        self._produce: Callable[..., None] = producer.produce
        self._topics: dict[str, int] = {}

    def send(self, output: Output) -> None:
        """Raises UnknownTopic, LogError for a record that can never be stored, LogUnavailable when no room comes."""
        topic, key, value, headers, timestamp, partition = output
        count = self._count(topic)
        if partition is None:
            if key is None:
                raise LogError(f"{topic}: a record needs a key or a partition")
            partition = _BY_KEY
        elif not 0 <= partition < count:
            self._admin.check(TopicPartition(topic, partition))
        listed = list(headers) if headers else None
        try:
            self._produce(topic, value, key, partition, None, None, timestamp or _NOW, listed)
        except BufferError:
            self._wait_for_room(topic, value, key, partition, None, None, timestamp or _NOW, listed)
        except KafkaException as error:
            raise self._cluster.error(f"{topic}: a record of {len(value)} bytes", error) from error

    def send_all(self, topic: str, records: RecordColumns) -> None:
        """What `send` does for each, at half the cost."""
        for partition in set(records.partitions):
            if not 0 <= partition < self._count(topic):
                self._admin.check(TopicPartition(topic, partition))
        produce = self._produce
        columns = (records.partitions, records.timestamps, records.keys, records.values, records.headers)
        for partition, timestamp, key, value, headers in zip(*columns, strict=True):
            try:
                produce(topic, value, key, partition, None, None, timestamp, list(headers))
            except BufferError:
                self._wait_for_room(topic, value, key, partition, None, None, timestamp, list(headers))
            except KafkaException as error:
                raise self._cluster.error(f"{topic}: a record of {len(value)} bytes", error) from error

    def _count(self, topic: str) -> int:
        count = self._topics.get(topic)
        if count is None:
            count = self._topics[topic] = self._admin.partitions(topic)
        return count

    def _wait_for_room(self, *record: Any) -> None:
        deadline = time.monotonic() + QUEUE_SECONDS
        while True:
            self._producer.poll(0.02)
            try:
                return self._produce(*record)
            except BufferError:
                if time.monotonic() > deadline:
                    raise LogUnavailable(
                        f"Kafka at {self._cluster.address}: {len(self._producer)} records wait to be stored",
                        hint="is the broker up?",
                    ) from None


class KafkaAppender:
    """Records are kept and sent again until a broker has them; only a broker's refusal is an error."""

    def __init__(self, cluster: Cluster, admin: Admin) -> None:
        self._cluster = cluster
        self._lost = 0
        self._refusal: FluxForgeError | None = None
        config: dict[str, Any] = {**cluster.appender(), "on_delivery": self._delivered}
        try:
            self._producer = Producer(config, logger=library_log())
        except KafkaException as error:
            raise cluster.error("producer", error) from error
        self._sender = Sender(self._producer, cluster, admin)
        self._calls = 0
        self._closed = False

    def append(self, output: Output) -> None:
        """Queue one record; waits while the queue is full. Raises RecordsLost, from then on, where one was refused."""
        if self._closed:
            raise LogUnavailable("the appender is closed")
        self._calls += 1
        if self._calls % _POLL_EVERY == 0:
            self._producer.poll(0)
        if self._refusal is not None:
            raise self._records_lost(self._refusal)
        self._sender.send(output)

    def pending(self) -> int:
        """Records queued and not yet acknowledged by all replicas."""
        return 0 if self._closed else len(self._producer)

    def flush(self, timeout: float = 30.0) -> None:
        """Wait until all that was queued is acknowledged."""
        left = self._producer.flush(timeout)
        if self._refusal is not None:
            raise self._records_lost(self._refusal)
        if left:
            raise LogUnavailable(
                f"Kafka at {self._cluster.address}: {left} records not acknowledged within {timeout:g} s",
                hint="is the broker up?",
            )

    def close(self) -> None:
        """Flush and release; raises what the flush raises."""
        if not self._closed:
            try:
                self.flush()
            finally:
                self._closed = True
                del self._producer, self._sender  # librdkafka's threads end with the last reference

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._lost += 1
            if self._refusal is None:
                value = message.value() or b""
                self._refusal = self._cluster.error(f"{message.topic()}: a record of {len(value)} bytes", error)

    def _records_lost(self, refusal: FluxForgeError) -> RecordsLost:
        return RecordsLost(f"{self._lost} queued records were refused for good, first: {refusal}", hint=refusal.hint)
