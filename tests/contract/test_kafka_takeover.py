"""A member that dies in the middle of a commit: who gets its partitions does not wait for the broker's time-out."""

from __future__ import annotations

import threading
from typing import Any

import confluent_kafka as ck
import pytest

from contract.log_drive import join, read_topic, until
from fluxforge.errors import Fenced
from fluxforge.log import Consumer, Output, TopicPartition, open_log
from fluxforge.log.kafka import client
from fluxforge.log.kafka.takeover import mark
from fluxforge.topics import Topics, TopicSpec

pytestmark = pytest.mark.kafka


class Writer:
    """A member with one commit made (offset 3 of `last`) and another one (5 of `now`) sent and not yet decided."""

    def __init__(self, url: str, topics: Topics, member: str, last: int, now: int) -> None:
        self.log = open_log(url)
        self.log.create([TopicSpec(topics.raw, 2), TopicSpec(topics.features, 1)])
        self.last, self.now = TopicPartition(topics.raw, last), TopicPartition(topics.raw, now)
        self.group = f"g-{topics.raw}"
        joined, _ = join(self.log, self.group, topics.raw, member, static=False)
        self.consumer: Any = joined
        until(lambda: bool(joined.poll(1, 0.1)) or bool(joined.assignment()))
        name = f"{self.group}.{member}"
        self.transactor: Any = self.log.transactor(name)
        self.transactor.append(Output(topics.features, b"k", b"committed", partition=0))
        self.transactor.commit({self.last: 3}, joined)
        self.transactor.append(Output(topics.features, b"k", b"undecided", partition=0))
        offsets = [ck.TopicPartition(*self.now, 5, mark(member, name))]
        self.transactor._producer.send_offsets_to_transaction(offsets, self.consumer.group_metadata(), 5.0)

    def leave(self) -> None:
        """Out of the group, with the commit as it is: what the group sees of a death once the session has ended."""
        self.consumer._consumer.close()


@pytest.mark.parametrize("last", [0, 1])
def test_the_next_owner_ends_a_dead_members_commit(
    last: int, kafka_url: str, topics: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also the first one of a partition, where others name its writer."""
    monkeypatch.setattr(client, "TRANSACTION_MS", 600_000)
    writer = Writer(kafka_url, topics, "a", last, 0)
    writer.leave()
    log = open_log(kafka_url)
    heir, _ = join(log, writer.group, topics.raw, "b", static=False)
    assert heir.committed([writer.now]) == {writer.now: 3 if last == 0 else None}
    with pytest.raises(Fenced):
        writer.transactor.commit({}, writer.consumer)
    assert [record.value for record in read_topic(log, topics.features)[0]] == [b"committed"]
    heir.close()
    writer.log.close()
    log.close()


def test_a_living_members_commit_is_waited_for(kafka_url: str, topics: Topics, monkeypatch: pytest.MonkeyPatch) -> None:
    from fluxforge.log.kafka import consumer as module

    asked = threading.Event()
    end = module.end_undecided

    def and_say(*args: Any) -> None:
        end(*args)
        asked.set()

    monkeypatch.setattr(module, "end_undecided", and_say)
    writer = Writer(kafka_url, topics, "a", 0, 0)
    found: list[object] = []

    def ask(consumer: Consumer) -> None:
        found.append(consumer.committed([writer.now]))

    asking = threading.Thread(target=ask, args=[writer.consumer])
    asking.start()
    assert asked.wait(30.0)
    writer.transactor.commit({writer.now: 5}, writer.consumer)
    asking.join()
    assert found == [{writer.now: 5}]
    writer.consumer.close()
    writer.log.close()
