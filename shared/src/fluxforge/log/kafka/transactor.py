"""Kafka transactions: outputs and input offsets together, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress

import confluent_kafka as ck
from confluent_kafka import KafkaError, KafkaException

from fluxforge.errors import Fenced, FluxForgeError, LogError, LogUnavailable
from fluxforge.log.kafka.admin import Admin
from fluxforge.log.kafka.appender import Sender
from fluxforge.log.kafka.client import Cluster
from fluxforge.log.kafka.consumer import KafkaConsumer
from fluxforge.log.kafka.takeover import TRY_SECONDS, mark, retry, take_over
from fluxforge.log.protocol import NO_OFFSETS, Consumer, Output, RecordColumns, TopicPartition

COMMIT_SECONDS = 20.0


class KafkaTransactor:
    """One producer with a stable transactional id.

    After Fenced or LogUnavailable it is of no more use: open a new one and read where things stand. (librdkafka lets a
    producer go on after an aborted transaction; now and then its next records are then out of sequence.)
    """

    def __init__(self, cluster: Cluster, admin: Admin, transactional_id: str) -> None:
        self._cluster, self._id = cluster, transactional_id
        self._open = self._closed = False
        self._producer = take_over(cluster, transactional_id)
        self._sender = Sender(self._producer, cluster, admin)

    def append(self, output: Output) -> None:
        """Add a record to the open transaction. Raises Fenced, LogUnavailable."""
        self._add(lambda: self._sender.send(output))

    def extend(self, topic: str, records: RecordColumns) -> None:
        """Add records as they were elsewhere. Raises Fenced, LogUnavailable."""
        self._add(lambda: self._sender.send_all(topic, records))

    def _add(self, send: Callable[[], None]) -> None:
        self._begin()
        try:
            send()
        except LogUnavailable:
            self.abort()  # raises Fenced where that is why: `produce` only says that all is over
            raise

    def commit(self, offsets: Mapping[TopicPartition, int] = NO_OFFSETS, consumer: Consumer | None = None) -> None:
        """Make the records and the offsets visible together. The transaction is over whatever happens."""
        if consumer is not None or offsets:
            if not isinstance(consumer, KafkaConsumer):
                raise LogError("offsets in a transaction on Kafka need a consumer of the same log")
            try:
                consumer.check_held(offsets)
            except Fenced:
                self.abort()
                raise
        self._begin()
        try:
            if offsets and isinstance(consumer, KafkaConsumer):
                whose, metadata = mark(consumer.member, self._id), consumer.group_metadata()
                native = [ck.TopicPartition(tp.topic, tp.partition, offset, whose) for tp, offset in offsets.items()]
                retry(lambda: self._producer.send_offsets_to_transaction(native, metadata, TRY_SECONDS), COMMIT_SECONDS)
            retry(lambda: self._producer.commit_transaction(TRY_SECONDS), COMMIT_SECONDS)
        except KafkaException as error:
            raise self._failed(error) from error
        self._open = False

    def abort(self) -> None:
        """Drop the open transaction. Raises Fenced, LogUnavailable."""
        if not self._open:
            return
        self._open = False
        try:
            retry(lambda: self._producer.abort_transaction(TRY_SECONDS), COMMIT_SECONDS)
        except KafkaException as error:
            raise self._cluster.error(f"aborting a transaction of {self._id}", error) from error

    def close(self) -> None:
        """Drop what is open and release."""
        if self._closed:
            return
        self._closed = True
        with suppress(FluxForgeError, KafkaException):  # the broker drops it when the transaction times out
            self.abort()
        del self._producer, self._sender  # librdkafka's threads end with the last reference

    def _begin(self) -> None:
        if not self._open:
            try:
                self._producer.begin_transaction()
            except KafkaException as error:
                raise self._failed(error) from error
            self._open = True

    def _failed(self, error: KafkaException) -> FluxForgeError:
        """End the transaction after `error`; the error to raise."""
        cause: KafkaError = error.args[0]
        failure = self._cluster.error(f"committing as {self._id}", error)
        if cause.txn_requires_abort():
            with suppress(FluxForgeError):  # fenced, or out of reach: nothing of it will be committed
                self.abort()
        self._open = False
        return failure
