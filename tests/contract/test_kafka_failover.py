"""One of three brokers dies: questions and transactions go on once another has taken its place."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

import pytest
from confluent_kafka.admin import AdminClient

from contract.log_drive import join, read_topic
from fluxforge.errors import Fenced, LogUnavailable
from fluxforge.log import Log, Output, TopicPartition, open_log
from fluxforge.log.protocol import MOVE_SECONDS
from fluxforge.topics import Topics, TopicSpec
from kafka_trio import Node, trio

PARTITIONS = 6
PATIENCE_S = 120.0
pytestmark = [pytest.mark.kafka, pytest.mark.slow]


@pytest.fixture
def nodes() -> Iterator[list[Node]]:
    with trio() as three:
        yield three
        for node in three:
            node.kill()  # a clean stop waits for a majority


def fill(log: Log, topic: str) -> None:
    appender = log.appender()
    for partition in range(PARTITIONS):
        appender.append(Output(topic, b"k", b"v", partition=partition))
    appender.close()


def leader(nodes: list[Node], topic: str, partition: int) -> Node:
    told = AdminClient({"bootstrap.servers": nodes[0].bootstrap}).list_topics(topic, timeout=10)
    broker = told.brokers[told.topics[topic].partitions[partition].leader]
    return next(node for node in nodes if node.bootstrap == f"{broker.host}:{broker.port}")


def test_bounds_are_told_once_another_leads(nodes: list[Node], topics: Topics) -> None:
    url = "kafka://" + ",".join(node.bootstrap for node in nodes)
    log = open_log(url)
    log.create([TopicSpec(topics.raw, PARTITIONS)])
    fill(log, topics.raw)
    tps = [TopicPartition(topics.raw, partition) for partition in range(PARTITIONS)]
    assert {tuple(log.bounds(tp)) for tp in tps} == {(0, 1)}
    leader(nodes, topics.raw, 0).kill()
    assert {bounds_of(log, tp) for tp in tps} == {(0, 1)}
    fresh = open_log(url)
    assert {bounds_of(fresh, tp) for tp in tps} == {(0, 1)}
    fresh.close()
    for node in nodes:
        node.kill()
    with pytest.raises(LogUnavailable):
        log.bounds(tps[0])
    log.close()


def bounds_of(log: Log, tp: TopicPartition) -> tuple[int, int]:
    """Given up only after the time a cluster may take, and asked again where its brokers get no time themselves."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        began = time.monotonic()
        try:
            return tuple(log.bounds(tp))
        except LogUnavailable:
            assert time.monotonic() - began >= MOVE_SECONDS
            if time.monotonic() > deadline:
                raise


def test_a_groups_transactions_go_on_when_its_coordinator_dies(nodes: list[Node], topics: Topics) -> None:
    """Copies records in transactions, as a processor does: each arrives once, soon after the broker's death."""
    log = open_log("kafka://" + ",".join(node.bootstrap for node in nodes))
    log.create([TopicSpec(topics.raw, 1), TopicSpec(topics.features, 1)])
    group, appender, sent, copied = f"{topics.prefix}.copy", log.appender(), 0, 0
    copier, dies_at, deadline = Copier(log, topics, group), time.monotonic() + 3, time.monotonic() + PATIENCE_S
    while copied < sent or dies_at < math.inf or sent < 400:
        assert time.monotonic() < deadline, f"{copied} of {sent} records"
        if sent < 400:
            appender.append(Output(topics.raw, b"k", str(sent).encode()))
            sent += 1
        if time.monotonic() > dies_at:
            coordinator(nodes, group).kill()
            dies_at = math.inf
        try:
            copied = copier.turn()
        except (Fenced, LogUnavailable):
            copier.close()
            copier = Copier(log, topics, group)
    copier.close()
    appender.close()
    records = read_topic(log, topics.features)[0]
    assert [int(record.value) for record in records] == list(range(sent))
    log.close()


class Copier:
    """A member of `group` that copies raw records into the features topic."""

    def __init__(self, log: Log, topics: Topics, group: str) -> None:
        self._topic, self._at = topics.features, 0
        self._transactor = log.transactor("copier")
        self._consumer, _ = join(log, group, topics.raw, "copier", static=False)

    def turn(self) -> int:
        """Copy what is there, in one transaction; the offset up to which it is done."""
        for batch in self._consumer.poll(100, 0.05):
            for record in batch.records:
                self._transactor.append(Output(self._topic, b"k", record.value))
            self._transactor.commit({batch.tp: batch.next_offset}, self._consumer)
            self._at = batch.next_offset
        return self._at

    def close(self) -> None:
        self._consumer.close()
        self._transactor.close()


def coordinator(nodes: list[Node], group: str) -> Node:
    client = AdminClient({"bootstrap.servers": nodes[0].bootstrap})
    told = client.describe_consumer_groups([group])[group].result(10).coordinator
    return next(node for node in nodes if node.bootstrap == f"{told.host}:{told.port}")
