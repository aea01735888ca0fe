"""What is the cluster's alone: its address, its absence, its death and return."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from typing import Any

import confluent_kafka as ck
import pytest
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource

from contract.log_drive import join, poll_until, read_topic, until
from fluxforge.errors import ConfigError, Fenced, LogUnavailable, RecordsLost
from fluxforge.log import Output, TopicPartition, open_log
from fluxforge.log.kafka import admin, client
from fluxforge.topics import Topics, TopicSpec
from kafka_broker import ApacheKafka, Broker

pytestmark = pytest.mark.kafka


def test_a_broker_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin, "ANSWER_SECONDS", 1.0)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        start = time.monotonic()
        with pytest.raises(LogUnavailable, match=rf"127\.0\.0\.1:{port}"):
            open_log(f"kafka://127.0.0.1:{port}")
        assert time.monotonic() - start < 5


def test_no_secret_gets_into_a_message(kafka_url: str) -> None:
    secret = uuid.uuid4().hex
    for properties in (
        {"sasl.passwort": secret, "sasl.password": secret},
        {"security.protocol": secret, "ssl.key.password": secret},
        {"ssl.key.pem": secret, "security.protocol": "ssl"},
    ):
        with pytest.raises((ConfigError, LogUnavailable)) as caught:
            open_log(kafka_url, properties)
        assert secret not in str(caught.value)
        assert secret not in repr(caught.value)


def test_properties_reach_librdkafka(kafka_url: str) -> None:
    with pytest.raises(ConfigError, match=r"no\.such\.property"):
        open_log(kafka_url, {"no.such.property": "1"})
    open_log(kafka_url, {"client.id": "ours", "socket.keepalive.enable": "true"}).close()


def test_group_offsets_wait_for_a_dead_writers_transaction_to_end(
    kafka_url: str, topics: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "TRANSACTION_MS", 1000)
    log = open_log(kafka_url)
    log.create([TopicSpec(topics.raw, 1), TopicSpec(topics.features, 1)])
    consumer, _ = join(log, f"g-{topics.raw}", topics.raw, "m")
    until(lambda: bool(consumer.poll(1, 0.1)) or bool(consumer.assignment()))
    native: Any = consumer
    transactor: Any = log.transactor(f"t-{topics.raw}")
    transactor.append(Output(topics.features, b"k", b"never committed"))
    offsets = [ck.TopicPartition(topics.raw, 0, 5)]
    transactor._producer.send_offsets_to_transaction(offsets, native.group_metadata(), 5.0)
    assert log.group_offsets(f"g-{topics.raw}", topics.raw) == {}
    assert read_topic(log, topics.features) == {0: []}
    with pytest.raises(Fenced):
        transactor.commit({TopicPartition(topics.raw, 0): 5}, consumer)
    transactor.close()
    consumer.close()
    log.close()


@pytest.fixture
def mortal(kafka_broker: Broker) -> Iterator[ApacheKafka]:
    """A broker of one's own, to be killed."""
    if not isinstance(kafka_broker, ApacheKafka):
        pytest.skip("BROKER DEATH NOT TESTED: only a broker on the Java at hand may be killed")
    broker = ApacheKafka()
    yield broker
    broker.stop()


def test_groups_of_a_new_broker_have_no_offsets(mortal: ApacheKafka) -> None:
    """Their coordinator is not there yet; in a process of its own, for a client could crash at that."""
    program = (
        "from fluxforge.log import open_log\n"
        "from fluxforge.topics import TopicSpec\n"
        f"log = open_log('kafka://{mortal.bootstrap}')\n"
        "log.create([TopicSpec('x', 1)])\n"
        "assert not any(log.group_offsets(f'g{k}', 'x') for k in range(20))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_records_that_are_refused_for_good_are_told_ever_after(
    kafka_broker: Broker, kafka_url: str, topics: Topics
) -> None:
    """A broker that will not have a record's time; who appends must not go on as if it were there."""
    log = open_log(kafka_url)
    log.create([TopicSpec(topics.raw, 1)])
    entry = ConfigEntry("message.timestamp.before.max.ms", "60000", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, topics.raw, incremental_configs=[entry])
    cluster = AdminClient({"bootstrap.servers": kafka_broker.bootstrap})
    cluster.incremental_alter_configs([resource])[resource].result(30)
    appender = log.appender()
    appender.append(Output(topics.raw, b"k", b"now"))
    appender.flush()
    for _ in range(3):
        appender.append(Output(topics.raw, b"k", b"old", timestamp=1_000))
    with pytest.raises(RecordsLost, match=r"3 queued records were refused .*failed to validate"):
        appender.flush()
    with pytest.raises(RecordsLost):
        appender.append(Output(topics.raw, b"k", b"now"))
    with pytest.raises(RecordsLost):
        appender.close()
    assert log.bounds(TopicPartition(topics.raw, 0)).next == 1
    log.close()


def test_kill_9_of_the_broker_loses_and_repeats_nothing(mortal: ApacheKafka, topics: Topics) -> None:
    log = open_log(f"kafka://{mortal.bootstrap}")
    log.create([TopicSpec(topics.raw, 2), TopicSpec(topics.features, 1)])
    tp = TopicPartition(topics.raw, 0)
    consumer, _ = join(log, "g", topics.raw, "m")
    appender, transactor = log.appender(), log.transactor("t")

    def send(numbers: range) -> None:
        for number in numbers:
            appender.append(Output(topics.raw, f"k{number % 5}".encode(), str(number).encode()))

    send(range(2000))
    appender.flush()
    poll_until(consumer, lambda batches: sum(len(batch.records) for batch in batches) >= 2000)
    transactor.append(Output(topics.features, b"k", b"before"))
    transactor.commit({tp: 5}, consumer)
    assert log.group_offsets("g", topics.raw) == {0: 5}
    send(range(2000, 4000))
    mortal.kill()
    send(range(4000, 6000))
    with pytest.raises(LogUnavailable, match=rf"{mortal.bootstrap}: .*not acknowledged within"):
        appender.flush(0.5)
    assert appender.pending() > 0
    mortal.start()
    appender.flush(60.0)
    committed = False
    deadline = time.monotonic() + 120
    while not committed:  # the session may have ended meanwhile: then the member joins anew, as the protocol says
        assert time.monotonic() < deadline
        try:
            consumer.poll(1000, 0.2)
        except Fenced:  # the broker died after it had taken a joining in and before it could answer
            consumer.close()
            consumer, _ = join(log, "g", topics.raw, "m")
            continue
        try:
            transactor.append(Output(topics.features, b"k", b"after"))
            transactor.commit({tp: 7}, consumer)
            committed = True
        except (Fenced, LogUnavailable):
            transactor.close()
            transactor = log.transactor("t")
    until(lambda: [record.value for record in read_topic(log, topics.features)[0]] == [b"before", b"after"])
    assert log.group_offsets("g", topics.raw) == {0: 7}
    read = read_topic(log, topics.raw)
    numbers = [int(record.value) for records in read.values() for record in records]
    assert sorted(numbers) == list(range(6000))
    for records in read.values():
        assert [int(r.value) for r in records] == sorted(int(r.value) for r in records)
    for one in (appender, transactor, consumer):
        one.close()
    log.close()
