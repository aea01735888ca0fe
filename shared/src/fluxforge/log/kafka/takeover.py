"""Taking over a transactional id: its holder is shut out, and what it left open is aborted at once."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable

import confluent_kafka as ck
from confluent_kafka import Consumer, KafkaException, Producer

from fluxforge.log.kafka.admin import Admin
from fluxforge.log.kafka.client import ANSWER_SECONDS, UNSETTLED, Cluster, library_log
from fluxforge.log.protocol import TopicPartition

INIT_SECONDS = 30.0
TRY_SECONDS = 5.0

_log = logging.getLogger(__name__)


def take_over(cluster: Cluster, transactional_id: str) -> Producer:
    """A producer under the id. Raises LogUnavailable."""
    try:
        producer = Producer(cluster.transactor(transactional_id), logger=library_log())
        retry(lambda: producer.init_transactions(TRY_SECONDS), INIT_SECONDS)
    except KafkaException as error:
        raise cluster.error(f"taking over the transactional id {transactional_id}", error) from error
    return producer


def retry(call: Callable[[], object], seconds: float) -> None:
    """Call again while librdkafka says that this goes on where it stopped."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            call()
            return
        except KafkaException as error:
            if not error.args[0].retriable() or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def mark(member: str, transactional_id: str) -> str:
    """The metadata of an offset in a transaction: whose it is."""
    return f"{transactional_id}\n{member}"


def end_undecided(cluster: Cluster, admin: Admin, group: str, topics: Iterable[str]) -> None:
    """End the commits in whose middle a member died, or was shut out: brokers would wait for them to time out.

    Their writers have marked the offset before, or that of another partition. One that is still of the group will end
    its commit itself.
    """
    tps = [TopicPartition(topic, number) for topic in topics for number in range(admin.partitions(topic))]
    for marked in _marks(cluster, group, tps):
        transactional_id, _, member = marked.partition("\n")
        if member and member not in admin.members(group):
            _log.warning("%s: %s left a commit undecided, ending it", group, member)
            take_over(cluster, transactional_id)


def _marks(cluster: Cluster, group: str, tps: Iterable[TopicPartition]) -> set[str]:
    """Who committed last, as far as the group's coordinator answers."""
    outsider = Consumer(cluster.outsider(group, "read_uncommitted"), logger=library_log())
    try:
        found = outsider.committed([ck.TopicPartition(*tp) for tp in tps], timeout=ANSWER_SECONDS)
    except KafkaException as error:
        if error.args[0].code() in UNSETTLED:
            return set()
        raise cluster.error(f"offsets of {group}", error) from error
    finally:
        outsider.close()
    return {tp.metadata for tp in found if tp.metadata}
