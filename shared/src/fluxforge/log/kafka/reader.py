"""Reading one partition without a group."""

from __future__ import annotations

import time

import confluent_kafka as ck
from confluent_kafka import Consumer, KafkaError, KafkaException

from fluxforge.log.kafka.admin import Admin
from fluxforge.log.kafka.client import Cluster, library_log
from fluxforge.log.kafka.records import batches, fetch
from fluxforge.log.protocol import Batch, TopicPartition


class KafkaReader:
    """Reads one partition; read_committed."""

    def __init__(self, cluster: Cluster, admin: Admin, tp: TopicPartition, offset: int, *, follow: bool = True) -> None:
        self._cluster, self._admin, self._tp = cluster, admin, tp
        try:
            self._consumer = Consumer(cluster.reader(follow=follow), logger=library_log())
        except KafkaException as error:
            raise cluster.error("reader", error) from error
        self._positions = {tp: offset}
        self._errors: list[tuple[TopicPartition, KafkaError]] = []
        self.seek(offset)

    def read(self, max_records: int = 1000, timeout: float = 0.0) -> Batch:
        """The next records; empty after `timeout` seconds without any. Raises OffsetOutOfRange."""
        deadline = time.monotonic() + timeout
        while not self._errors:
            left = deadline - time.monotonic()
            try:
                messages = fetch(self._consumer, max_records, max(left, 0.0))
            except KafkaException as error:
                raise self._cluster.error(f"reading {self._tp.topic}", error) from error
            found, self._errors = batches(messages, self._positions)
            if found:
                return found[0]
            if left <= 0:
                break
        if self._errors:
            _, failure = self._errors.pop(0)
            if failure.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
                raise self._admin.out_of_range(self._tp, self._positions[self._tp])
            raise self._cluster.error(f"reading {self._tp.topic}[{self._tp.partition}]", failure)
        return Batch(self._tp, (), self._positions[self._tp])

    def seek(self, offset: int) -> None:
        self._positions[self._tp] = offset
        self._errors.clear()
        self._consumer.assign([ck.TopicPartition(self._tp.topic, self._tp.partition, offset)])

    def close(self) -> None:
        self._consumer.close()
