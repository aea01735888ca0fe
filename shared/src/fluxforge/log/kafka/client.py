"""What every Kafka client of ours is configured with, and what librdkafka's errors mean."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from confluent_kafka import KafkaError, KafkaException

from fluxforge.errors import ConfigError, Fenced, FluxForgeError, LogError, LogUnavailable, UnknownTopic

ANSWER_SECONDS = 8.0
"""How long a broker may take to answer a question."""
TRANSACTION_MS = 10_000
"""How long a dead writer's open transaction can hold readers up."""
SETTLE_SECONDS = TRANSACTION_MS / 1000 + 20.0
"""When a dead writer's transaction is over at the latest: brokers look for timed-out ones each 10 s by default
(`transaction.abort.timed.out.transaction.cleanup.interval.ms`)."""
SESSION_MS = 6_000
"""The shortest session brokers allow by default: a dead member's partitions are free after it."""
IDLE_MS = 10_000
"""An idle connection of a transactional producer is closed after it. librdkafka sends a transaction's offsets to the
group's coordinator, and where that broker has died waits for any connection to change before it asks for another
(confluentinc/librdkafka#5511, #5456: its time-out is not looked at): this is the change."""
MESSAGE_BYTES = 16 * 1024 * 1024

_LIBRARY_LOG = logging.getLogger("fluxforge.log.kafka.librdkafka")
_SECRET = ("password", "secret", "pem", "token", "sasl.oauthbearer.config", "sasl.jaas")

Config = dict[str, str | int | float | bool]

_PRODUCER: Config = {
    "acks": "all",
    "enable.idempotence": True,
    "compression.type": "zstd",
    "partitioner": "murmur2_random",  # Java's; librdkafka's own default would break co-partitioning
    "linger.ms": 5,
    "message.max.bytes": MESSAGE_BYTES,
    "queue.buffering.max.messages": 100_000,
    "queue.buffering.max.kbytes": 65_536,
    "delivery.report.only.error": True,
}
_READER: Config = {
    "isolation.level": "read_committed",
    "auto.offset.reset": "error",
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "enable.partition.eof": True,  # tells where reading goes on behind a trailing control record
    "allow.auto.create.topics": False,
    "fetch.queue.backoff.ms": 20,  # the default lets a full local queue idle for a second
    "fetch.message.max.bytes": 512 * 1024,
    "queued.max.messages.kbytes": 4 * 1024,  # of each partition; the default is 64 MB
    "receive.message.max.bytes": 128 * 1024 * 1024,
}


class Cluster:
    """The address and properties of one cluster: makes configurations and names errors."""

    def __init__(self, address: str, properties: Mapping[str, str]) -> None:
        self.address = address
        self._base: Config = {
            "bootstrap.servers": address,
            "client.id": "fluxforge",
            "reconnect.backoff.max.ms": 2000,
            **properties,
        }
        self._secrets = [str(value) for key, value in properties.items() if any(part in key for part in _SECRET)]

    def admin(self) -> Config:
        return dict(self._base)

    def appender(self) -> Config:
        """Records wait for a broker as long as the process lives, so an outage loses none."""
        return {**self._base, **_PRODUCER, "message.timeout.ms": 0}

    def transactor(self, transactional_id: str) -> Config:
        return {
            **self._base,
            **_PRODUCER,
            "transactional.id": transactional_id,
            "transaction.timeout.ms": TRANSACTION_MS,
            "connections.max.idle.ms": IDLE_MS,
            "compression.level": 1,  # rows are many and small: a higher one costs more than it saves
            "message.timeout.ms": TRANSACTION_MS,
            "retry.backoff.ms": 20,  # the first record waits so long again and again for the last commit to settle
        }

    def reader(self, *, follow: bool) -> Config:
        """Never joins a group; librdkafka asks for a name all the same.

        A fetch that finds only a control record waits its time out: a partition's end would cost half a second.
        """
        wait: Config = {} if follow else {"fetch.wait.max.ms": 10}
        return {**self._base, **_READER, **wait, "group.id": "fluxforge-reader"}

    def outsider(self, group: str, isolation: str = "read_committed") -> Config:
        """Asks what a group has committed, and never joins it; "read_uncommitted" does not wait for transactions."""
        return {**self._base, "group.id": group, "enable.auto.commit": False, "isolation.level": isolation}

    def consumer(self, group: str, member: str, *, static: bool) -> Config:
        """A static member gets its partitions back without a rebalance when it is restarted within the session.

        cooperative-sticky, so that a join or a leave moves only the partitions that must move.
        """
        return {
            **self._base,
            **_READER,
            "group.id": group,
            **({"group.instance.id": member} if static else {"client.id": member}),
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": SESSION_MS,
            "heartbeat.interval.ms": SESSION_MS // 12,  # a member hears with it that partitions must move
            "max.poll.interval.ms": 300_000,
        }

    def clean(self, text: str) -> str:
        """`text` without any secret of the properties."""
        for secret in self._secrets:
            if secret:
                text = text.replace(secret, "***")
        return text

    def error(self, doing: str, error: KafkaError | KafkaException | Exception) -> FluxForgeError:
        """Our error for one of librdkafka's; `doing` is what was asked for."""
        if isinstance(error, KafkaException) and error.args and isinstance(error.args[0], KafkaError):
            error = error.args[0]
        if not isinstance(error, KafkaError):
            return LogUnavailable(self.clean(f"Kafka at {self.address}: {doing}: {error}"))
        text = self.clean(f"Kafka at {self.address}: {doing}: {error.str()}")
        code = error.code()
        if code in FENCING or (code == KafkaError._FATAL and "fenced" in text.lower()):
            return Fenced(text)
        if code in _NO_TOPIC:
            return UnknownTopic(text, hint="run `fluxforge topics apply`")
        if code in (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_RECORD):
            return LogError(text)
        if code == KafkaError._INVALID_ARG:
            return ConfigError(text, hint="check broker.properties")
        return LogUnavailable(text, hint="is the broker up, and broker.url right?")


FENCING = frozenset(
    {
        KafkaError._FENCED,
        KafkaError.PRODUCER_FENCED,
        KafkaError.INVALID_PRODUCER_EPOCH,
        KafkaError.FENCED_INSTANCE_ID,
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.STALE_MEMBER_EPOCH,
        KafkaError.FENCED_MEMBER_EPOCH,
    }
)
UNSETTLED = frozenset(
    {
        KafkaError._TIMED_OUT,
        KafkaError._WAIT_COORD,
        KafkaError.UNSTABLE_OFFSET_COMMIT,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
    }
)
"""What a group's offsets answer for a while: a transaction is about to change them, or their coordinator moves."""
_NO_TOPIC = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION})


def library_log() -> logging.Logger:
    """Where librdkafka's own lines go."""
    return _LIBRARY_LOG
