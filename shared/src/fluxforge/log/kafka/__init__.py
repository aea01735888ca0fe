"""The log on Apache Kafka, Redpanda, or whatever else speaks the protocol."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from fluxforge.log.kafka.admin import Admin
from fluxforge.log.kafka.appender import KafkaAppender
from fluxforge.log.kafka.client import Cluster
from fluxforge.log.kafka.consumer import KafkaConsumer
from fluxforge.log.kafka.reader import KafkaReader
from fluxforge.log.kafka.transactor import KafkaTransactor
from fluxforge.log.protocol import MOVE_SECONDS, Bounds, Listener, TopicPartition
from fluxforge.topics import TopicSpec

__all__ = ["KafkaLog"]


class KafkaLog:
    """The cluster at `address` (`host:port[,host:port…]`).

    `properties` are librdkafka's (SASL, TLS…); they never appear in a message. Raises LogUnavailable, with the address,
    where no broker answers within 8 s, and ConfigError for a property librdkafka does not know.
    """

    def __init__(self, address: str, properties: Mapping[str, str] | None = None) -> None:
        self.url = f"kafka://{address}"
        self._cluster = Cluster(address, properties or {})
        self._admin = Admin(self._cluster)

    def topic_id(self, topic: str) -> str:
        """An id that changes when the topic is recreated or lives in another cluster."""
        return self._admin.topic_id(topic)

    def create(self, specs: Sequence[TopicSpec]) -> None:
        """Create what is missing; an existing topic with another partition count raises UnknownTopic."""
        self._admin.create(specs)

    def delete(self, topics: Sequence[str]) -> None:
        """Remove topics with all their records; one that is not there is no error."""
        self._admin.delete(topics)

    def topics(self) -> list[str]:
        """The names of all topics, sorted, without Kafka's own."""
        return self._admin.topics()

    def partitions(self, topic: str) -> int:
        """Raises UnknownTopic."""
        return self._admin.partitions(topic)

    def bounds(self, tp: TopicPartition, *, within: float = MOVE_SECONDS) -> Bounds:
        """What a read_committed reader can read."""
        return self._admin.bounds(tp, within)

    def ends(self, tps: Iterable[TopicPartition], *, within: float = MOVE_SECONDS) -> dict[TopicPartition, int]:
        """Where each partition ends for a read_committed reader, all asked at once."""
        return self._admin.ends(tps, within)

    def offset_at(self, tp: TopicPartition, timestamp: int) -> int:
        """The first offset whose timestamp (ms) is ≥ `timestamp`; the end where there is none."""
        return self._admin.offset_at(tp, timestamp)

    def appender(self) -> KafkaAppender:
        return KafkaAppender(self._cluster, self._admin)

    def reader(self, tp: TopicPartition, offset: int, *, follow: bool = True) -> KafkaReader:
        self._admin.check(tp)
        return KafkaReader(self._cluster, self._admin, tp, offset, follow=follow)

    def consumer(
        self, group: str, topics: Sequence[str], member: str, listener: Listener, *, static: bool = True
    ) -> KafkaConsumer:
        """Join `group` as `member` (stable over restarts)."""
        for topic in topics:
            self._admin.partitions(topic)
        return KafkaConsumer(
            self._cluster, self._admin, group=group, topics=topics, member=member, listener=listener, static=static
        )

    def transactor(self, transactional_id: str) -> KafkaTransactor:
        """Fences the previous holder of the id."""
        return KafkaTransactor(self._cluster, self._admin, transactional_id)

    def group_offsets(self, group: str, topic: str) -> dict[int, int]:
        """Committed offsets of a group by partition, without joining it."""
        return self._admin.group_offsets(group, topic)

    def close(self) -> None:
        """Nothing is held: the admin client ends with the object."""
