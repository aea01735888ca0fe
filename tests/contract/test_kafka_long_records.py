"""Records near the limits of a topic, and a producer's queue that is full."""

from __future__ import annotations

import os

import pytest

from contract.log_drive import read_all, until
from feature_engine.processor import FeatureProcessor
from fluxforge import codec, rows
from fluxforge.dead_letter import LETTER_BYTES
from fluxforge.kernels.config import FeatureConfig
from fluxforge.log import Output, TopicPartition, open_log
from fluxforge.log.kafka import appender, client
from fluxforge.processor import Runtime
from fluxforge.topics import Topics, TopicSpec
from seeded_market import MS, market

pytestmark = pytest.mark.kafka


def test_a_record_too_long_for_its_letter_does_not_stop_the_partition(
    kafka_url: str, topics: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Junk that the raw topic just takes, and junk that no producer of ours could send again; events on either side."""
    log = open_log(kafka_url)
    log.create(topics.specs(1, raw_retention_ms=-1))
    junk = {
        "random": os.urandom(8_388_608 - 200),
        "zeros": bytes(24 * 1024 * 1024),  # compressed it fits anywhere, but a producer counts before it compresses
    }
    events = list(market("S/USDT", 1, 60))
    with monkeypatch.context() as another_program:
        another_program.setitem(client._PRODUCER, "message.max.bytes", 64 * 1024 * 1024)
        sending = log.appender()
    for n, (at, event) in enumerate(events):
        if n in (100, 200):
            sending.append(Output(topics.raw, b"junk", b"\xc1" + junk["random" if n == 100 else "zeros"]))
        sending.append(Output(topics.raw, event.key.encode(), codec.encode(event), codec.headers(event), at // MS))
    sending.close()
    runtime = Runtime(log, FeatureProcessor(FeatureConfig(), topics), topics.raw, f"g-{topics.prefix}", "1")
    end = log.bounds(TopicPartition(topics.raw, 0)).next
    for _ in range(200):
        runtime.turn(0.1)
        runtime.commit()
        if log.group_offsets(f"g-{topics.prefix}", topics.raw) == {0: end}:
            break
    runtime.close()
    assert log.group_offsets(f"g-{topics.prefix}", topics.raw) == {0: end}, "the partition stands still"
    letters = {
        int(dict(record.headers)["source-offset"]): record
        for record in read_all(log, TopicPartition(topics.dlq, 0))
        if record.key == b"junk"
    }
    assert [letter.value[:1] for letter in letters.values()] == [b"\xc1", b"\xc1"]
    for (_, letter), whole in zip(sorted(letters.items()), junk.values(), strict=True):
        assert int(dict(letter.headers)["cut-from"]) == len(whole) + 1
        assert LETTER_BYTES * 0.99 < len(letter.value) < LETTER_BYTES
        assert whole.startswith(letter.value[1:])
    last = rows.decode(read_all(log, TopicPartition(topics.features, 0))[-1].value)
    assert last["source_offset"] > max(letters)
    log.close()


def test_append_waits_while_the_queue_is_full(kafka_url: str, topics: Topics, monkeypatch: pytest.MonkeyPatch) -> None:
    """Appender and transaction alike: all of it is stored, in order, and never more is queued than was allowed."""
    waits: list[str] = []
    wait = appender.Sender._wait_for_room

    def counted(sender: appender.Sender, topic: str, *rest: object) -> None:
        waits.append(topic)
        wait(sender, topic, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(appender.Sender, "_wait_for_room", counted)
    monkeypatch.setitem(client._PRODUCER, "queue.buffering.max.messages", 100)
    log = open_log(kafka_url)
    log.create([TopicSpec(topics.raw, 1), TopicSpec(topics.features, 1)])
    sending = log.appender()
    most = 0
    for number in range(3000):
        sending.append(Output(topics.raw, b"k", str(number).encode()))
        most = max(most, sending.pending())
    sending.close()
    assert 0 < most <= 100
    assert [int(record.value) for record in read_all(log, TopicPartition(topics.raw, 0))] == list(range(3000))

    transactor = log.transactor(f"t-{topics.raw}")
    for number in range(3000):
        transactor.append(Output(topics.features, b"k", str(number).encode()))
    consumer = log.consumer(f"g-{topics.raw}", [topics.raw], "m", Nobody())
    transactor.commit({}, consumer)
    stored = TopicPartition(topics.features, 0)
    until(lambda: len(read_all(log, stored)) == 3000)
    assert [int(record.value) for record in read_all(log, stored)] == list(range(3000))
    assert set(waits) == {topics.raw, topics.features}
    transactor.close()
    consumer.close()
    log.close()


class Nobody:
    """A listener of a member that is assigned nothing."""

    def assigned(self, tps: object) -> None: ...

    def revoked(self, tps: object) -> None: ...

    def lost(self, tps: object) -> None: ...
