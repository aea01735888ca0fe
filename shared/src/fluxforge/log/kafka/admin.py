"""Questions and orders to the cluster: topics, bounds, offsets of groups."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

import confluent_kafka as ck
from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec
from confluent_kafka.cimpl import NewTopic

from fluxforge.errors import FluxForgeError, LogUnavailable, OffsetOutOfRange, UnknownTopic
from fluxforge.log.kafka.client import ANSWER_SECONDS, SETTLE_SECONDS, UNSETTLED, Cluster, library_log
from fluxforge.log.protocol import MOVE_SECONDS, Bounds, TopicPartition
from fluxforge.topics import TopicSpec

CREATE_SECONDS = 30.0
FIRST_SECONDS = 1.0
"""How long a partition's leader may take at first: librdkafka asks one that has died until the time is over."""

_offsets: Any = OffsetSpec
_ALWAYS = str(2**63 - 1)
_MOVING = frozenset(
    {
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError._TIMED_OUT,
        KafkaError._NOENT,  # librdkafka, where none of the partitions asked for has a leader yet
    }
)
"""What a new, moving or just written partition answers for a moment."""


class Admin:
    """One admin client of the cluster; safe to share between threads."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}
        self._outsiders: dict[str, Consumer] = {}
        try:
            self._client = AdminClient(cluster.admin(), logger=library_log())
            self.cluster_id = self._client.list_topics(timeout=ANSWER_SECONDS).cluster_id or ""
        except KafkaException as error:
            raise cluster.error("no answer", error) from error

    def topic_id(self, topic: str) -> str:
        """A digest of the cluster's id and the topic's own; brokers that give topics no id have the name stand in."""
        own = str(self._describe([topic])[topic].topic_id or "")
        if not own or not own.strip("A"):  # a broker without topic ids answers with zeros
            own = topic
        return hashlib.sha256(f"{self.cluster_id}/{own}/{topic}".encode()).hexdigest()[:32]

    def partitions(self, topic: str) -> int:
        """Raises UnknownTopic."""
        count = self._counts.get(topic)
        if count is None:
            count = self._counts[topic] = len(self._describe([topic])[topic].partitions)
        return count

    def check(self, tp: TopicPartition) -> None:
        """Raises UnknownTopic."""
        count = self.partitions(tp.topic)
        if not 0 <= tp.partition < count:
            raise UnknownTopic(f"{tp.topic} has no partition {tp.partition}", hint=f"it has {count}")

    def create(self, specs: Sequence[TopicSpec]) -> None:
        """Create what is missing; raises UnknownTopic for another partition count."""
        missing = [spec for spec in specs if not self._exists(spec)]
        if not missing:
            return
        topics = [NewTopic(spec.name, num_partitions=spec.partitions, config=_config(spec)) for spec in missing]
        for name, future in self._client.create_topics(topics, request_timeout=CREATE_SECONDS).items():
            try:
                future.result()
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise self._cluster.error(f"creating {name}", error) from error
        for spec in missing:
            self._await(spec)

    def delete(self, topics: Sequence[str]) -> None:
        """Remove what is there of them, and wait until it is gone."""
        for name in topics:
            self._counts.pop(name, None)
        if not topics:
            return
        for name, future in self._client.delete_topics(list(topics), request_timeout=CREATE_SECONDS).items():
            with suppress(UnknownTopic):
                self._result(f"deleting {name}", future)
        deadline = time.monotonic() + CREATE_SECONDS
        while set(topics) & set(self.topics()):
            if time.monotonic() > deadline:
                raise LogUnavailable(f"{', '.join(topics)}: still there {CREATE_SECONDS:g} s after they were deleted")
            time.sleep(0.02)

    def topics(self) -> list[str]:
        """The names of all topics, sorted, without Kafka's own."""
        try:
            known = self._client.list_topics(timeout=ANSWER_SECONDS).topics
        except KafkaException as error:
            raise self._cluster.error("listing topics", error) from error
        return sorted(name for name in known if not name.startswith("__"))

    def bounds(self, tp: TopicPartition, within: float = MOVE_SECONDS) -> Bounds:
        """What a read_committed reader can read: an open transaction ends it."""
        return Bounds(self._offset(tp, _offsets.earliest(), within), self._offset(tp, _offsets.latest(), within))

    def ends(self, tps: Iterable[TopicPartition], within: float) -> dict[TopicPartition, int]:
        """Where each ends for a read_committed reader, in one request to each leader."""
        return self._offsets(list(tps), _offsets.latest(), within)

    def offset_at(self, tp: TopicPartition, timestamp: int) -> int:
        offset = self._offset(tp, _offsets.for_timestamp(timestamp))
        return self._offset(tp, _offsets.latest()) if offset < 0 else offset

    def out_of_range(self, tp: TopicPartition, offset: int) -> FluxForgeError:
        """The error for a reader at an offset that the log does not hold."""
        try:
            first, next_ = self.bounds(tp)
        except FluxForgeError as error:
            return error
        return OffsetOutOfRange(tp.topic, tp.partition, offset, first, next_)

    def group_offsets(self, group: str, topic: str) -> dict[int, int]:
        """Committed offsets by partition.

        Waits for what a transaction has decided and not yet written, or, at the worst, for one to time out.
        """
        tps = [ck.TopicPartition(topic, partition) for partition in range(self.partitions(topic))]
        deadline = time.monotonic() + SETTLE_SECONDS
        while True:
            try:
                found = self._outsider(group).committed(tps, timeout=ANSWER_SECONDS)
                return {tp.partition: tp.offset for tp in found if tp.offset >= 0}
            except KafkaException as error:
                if error.args[0].code() not in UNSETTLED or time.monotonic() > deadline:
                    raise self._cluster.error(f"offsets of {group}", error) from error
            self._describe([topic])  # raises where it is the broker that does not answer
            time.sleep(0.02)

    def members(self, group: str) -> set[str]:
        """The client ids of a group's members."""
        described = self._client.describe_consumer_groups([group], request_timeout=ANSWER_SECONDS)
        return {member.client_id for member in self._result(f"group {group}", described[group]).members}

    def _offset(self, tp: TopicPartition, spec: OffsetSpec, within: float = MOVE_SECONDS) -> int:
        return self._offsets([tp], spec, within)[tp]

    def _offsets(
        self, tps: Sequence[TopicPartition], spec: OffsetSpec, within: float = MOVE_SECONDS
    ) -> dict[TopicPartition, int]:
        left = dict.fromkeys(tps)
        for tp in left:
            self.check(tp)
        found: dict[TopicPartition, int] = {}
        deadline = time.monotonic() + within
        patience = min(FIRST_SECONDS, within)
        while left:
            futures = self._client.list_offsets(
                {ck.TopicPartition(*tp): spec for tp in left},
                isolation_level=IsolationLevel.READ_COMMITTED,
                request_timeout=patience,
            )
            for asked, future in futures.items():
                tp = TopicPartition(asked.topic, asked.partition)
                try:
                    offset = int(self._result(f"offsets of {tp.topic}[{tp.partition}]", future).offset)
                    if offset != ck.OFFSET_INVALID:  # a broker under load may answer without one
                        found[tp] = offset
                        del left[tp]
                    elif time.monotonic() > deadline:
                        raise LogUnavailable(f"no broker tells the offsets of {tp.topic}[{tp.partition}]")
                except FluxForgeError as error:
                    if _code(error) not in _MOVING or time.monotonic() > deadline:
                        raise
            if left:
                time.sleep(0.05)
                for topic in {tp.topic for tp in left}:
                    self._refresh(topic, min(ANSWER_SECONDS, max(FIRST_SECONDS, deadline - time.monotonic())))
                patience = min(2 * patience, ANSWER_SECONDS)
        return found

    def _outsider(self, group: str) -> Consumer:
        """librdkafka's admin client could be asked too, but crashes when the coordinator moves (2.15 still does)."""
        with self._lock:
            if group not in self._outsiders:
                self._outsiders[group] = Consumer(self._cluster.outsider(group), logger=library_log())
            return self._outsiders[group]

    def _refresh(self, topic: str, timeout: float) -> None:
        """Learn the leaders anew: librdkafka's admin client does not when a partition has moved.

        Raises LogUnavailable where no broker at all answers.
        """
        try:
            self._client.list_topics(topic, timeout=timeout)
        except KafkaException as error:
            raise self._cluster.error(f"leaders of {topic}", error) from error

    def _describe(self, topics: Iterable[str]) -> dict[str, Any]:
        futures = self._client.describe_topics(ck.TopicCollection(list(topics)), request_timeout=ANSWER_SECONDS)
        return {name: self._result(f"topic {name}", future) for name, future in futures.items()}

    def _exists(self, spec: TopicSpec) -> bool:
        try:
            count = len(self._describe([spec.name])[spec.name].partitions)
        except UnknownTopic:
            return False
        if count != spec.partitions:
            raise UnknownTopic(
                f"{spec.name} has {count} partitions, not {spec.partitions}",
                hint="partition counts are set once; use another prefix, or the count it has",
            )
        return True

    def _await(self, spec: TopicSpec) -> None:
        """Wait until the new topic's partitions have leaders."""
        deadline = time.monotonic() + CREATE_SECONDS
        while time.monotonic() < deadline:
            try:
                described = self._describe([spec.name])[spec.name]
                if len(described.partitions) == spec.partitions and all(part.leader for part in described.partitions):
                    return
            except UnknownTopic:
                pass
            time.sleep(0.02)
        raise LogUnavailable(f"{spec.name} was created, but has no leaders after {CREATE_SECONDS:g} s")

    def _result(self, doing: str, future: Future[Any]) -> Any:
        try:
            return future.result(ANSWER_SECONDS + 2)
        except (KafkaException, TimeoutError) as error:
            raise self._cluster.error(doing, error) from error


def _code(error: FluxForgeError) -> int | None:
    cause = error.__cause__
    return cause.args[0].code() if isinstance(cause, KafkaException) else None


def _config(spec: TopicSpec) -> dict[str, str]:
    config = {
        "retention.ms": str(spec.retention_ms),
        "retention.bytes": str(spec.retention_bytes),
        "max.message.bytes": str(spec.max_message_bytes),
        "cleanup.policy": "compact" if spec.compact else "delete",
        "compression.type": "producer",
        "message.timestamp.type": "CreateTime",
    }
    if spec.any_time:
        config |= {"message.timestamp.before.max.ms": _ALWAYS, "message.timestamp.after.max.ms": _ALWAYS}
    if spec.compact:  # a segment is only compacted once it is closed
        config |= {"segment.ms": "3600000", "min.cleanable.dirty.ratio": "0.1"}
    return config
