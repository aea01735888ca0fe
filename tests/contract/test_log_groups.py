"""Members of a group: what they are told, and what they can do, on both logs."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from contract.log_drive import Follower, join, poll_until, until
from fluxforge.errors import OffsetOutOfRange
from fluxforge.log import Batch, Consumer, Log, Output, TopicPartition, Transactor
from fluxforge.topics import Topics, TopicSpec


@pytest.fixture
def topic(log: Log, topics: Topics) -> str:
    """Two partitions of a hundred records each."""
    log.create([TopicSpec(topics.raw, 2), TopicSpec(topics.features, 2)])
    appender = log.appender()
    for number in range(200):
        appender.append(Output(topics.raw, b"k", str(number // 2).encode(), partition=number % 2))
    appender.close()
    return topics.raw


def count(batches: list[Batch]) -> int:
    return sum(len(batch.records) for batch in batches)


def values(batches: list[Batch], partition: int) -> list[int]:
    return [int(record.value) for batch in batches if batch.tp.partition == partition for record in batch.records]


def test_a_member_is_assigned_before_it_reads_and_revoked_when_it_leaves(log: Log, topic: str) -> None:
    consumer, follower = join(log, f"g-{topic}", topic, "m")
    assert consumer.assignment() == set()
    batches = poll_until(consumer, lambda batches: count(batches) >= 200)
    both = (TopicPartition(topic, 0), TopicPartition(topic, 1))
    assert follower.heard == [("assigned", both)]
    assert consumer.assignment() == set(both)
    for partition in range(2):
        assert values(batches, partition) == list(range(100))
    consumer.close()
    assert follower.heard == [("assigned", both), ("revoked", both)]
    consumer.close()
    assert len(follower.heard) == 2


def test_a_poll_takes_no_more_than_asked(log: Log, topic: str) -> None:
    consumer, _ = join(log, f"g-{topic}", topic, "m")
    taken = 0
    while taken < 200:
        batches = consumer.poll(7, 1.0)
        assert count(batches) <= 7
        taken += count(batches)
    consumer.close()


def test_a_member_goes_where_it_seeks(log: Log, topic: str) -> None:
    consumer, _ = join(log, f"g-{topic}", topic, "m")
    poll_until(consumer, lambda batches: count(batches) >= 200)
    consumer.seek(TopicPartition(topic, 1), 90)
    again = poll_until(consumer, lambda batches: count(batches) >= 10)
    assert values(again, 1) == list(range(90, 100))
    assert values(again, 0) == []
    consumer.close()


def test_a_paused_partition_is_left_out_and_loses_nothing(log: Log, topic: str) -> None:
    consumer, _ = join(log, f"g-{topic}", topic, "m")
    paused = TopicPartition(topic, 0)
    first = poll_until(consumer, lambda batches: count(batches) >= 1)
    consumer.pause([paused])
    before = values(first, 0)
    rest = poll_until(consumer, lambda batches: len(values(first + batches, 1)) >= 100)
    for _ in range(5):
        rest += consumer.poll(1000, 0.1)
    assert values(rest, 0) == []
    consumer.resume([paused])
    rest += poll_until(consumer, lambda batches: len(before) + count(batches) >= 100)
    assert before + values(rest, 0) == list(range(100))
    assert values(first + rest, 1) == list(range(100))
    consumer.close()


def test_group_offsets_are_the_groups_own(log: Log, topic: str) -> None:
    consumer, _ = join(log, f"g-{topic}", topic, "m")
    poll_until(consumer, lambda batches: count(batches) >= 200)
    zero, one = TopicPartition(topic, 0), TopicPartition(topic, 1)
    assert consumer.committed([zero, one]) == {zero: None, one: None}
    consumer.commit({zero: 11})
    assert consumer.committed([zero, one]) == {zero: 11, one: None}
    consumer.commit({zero: 12, one: 34})
    assert log.group_offsets(f"g-{topic}", topic) == {0: 12, 1: 34}
    assert log.group_offsets(f"other-{topic}", topic) == {}
    consumer.close()
    again, _ = join(log, f"g-{topic}", topic, "m")
    batches = poll_until(again, lambda batches: count(batches) >= 88 + 66)
    assert values(batches, 0)[0] == 12
    assert values(batches, 1)[0] == 34
    again.close()


def test_two_groups_read_the_same_records(log: Log, topic: str) -> None:
    one, _ = join(log, f"one-{topic}", topic, "m")
    two, _ = join(log, f"two-{topic}", topic, "m")
    for consumer in (one, two):
        batches = poll_until(consumer, lambda batches: count(batches) >= 200)
        assert values(batches, 0) == values(batches, 1) == list(range(100))
        consumer.close()


class LastCommit(Follower):
    """Commits what it has read when a partition is taken from it."""

    transactor: Transactor
    read: dict[TopicPartition, int]

    def revoked(self, tps: Sequence[TopicPartition]) -> None:
        super().revoked(tps)
        assert self.consumer is not None
        self.transactor.commit({tp: self.read[tp] for tp in tps}, self.consumer)


def last_committer(log: Log, topic: str, member: str) -> tuple[Consumer, LastCommit]:
    follower = LastCommit(log, f"g-{topic}")
    follower.consumer = log.consumer(f"g-{topic}", [topic], member, follower)
    follower.transactor, follower.read = log.transactor(f"{topic}-{member}"), {}
    return follower.consumer, follower


def test_a_last_commit_is_possible_when_revoked(log: Log, topic: str, topics: Topics) -> None:
    consumer, follower = last_committer(log, topic, "a")

    def read(batches: list[Batch]) -> bool:
        follower.read |= {batch.tp: batch.next_offset for batch in batches}
        return count(batches) >= 200

    poll_until(consumer, read)
    follower.transactor.append(Output(topics.features, b"k", b"pending", partition=0))
    joiner, heard = join(log, f"g-{topic}", topic, "b")
    until(lambda: (consumer.poll(1, 0.05), joiner.poll(1, 0.05), len(joiner.assignment()) == 1)[2])
    (moved,) = joiner.assignment()
    assert follower.heard[1:] == [("revoked", (moved,))]
    assert log.group_offsets(f"g-{topic}", topic) == {moved.partition: 100}
    assert consumer.assignment() == {TopicPartition(topic, 1 - moved.partition)}
    until(lambda: log.bounds(TopicPartition(topics.features, 0)).next > 0)
    consumer.close()
    assert log.group_offsets(f"g-{topic}", topic) == {0: 100, 1: 100}
    assert [what for what, _ in heard.heard] == ["assigned"]
    joiner.close()
    follower.transactor.close()


def test_a_member_past_retention_is_told_so_and_can_go_on(log: Log, topics: Topics) -> None:
    log.create([TopicSpec(topics.raw, 1)])
    tp = TopicPartition(topics.raw, 0)
    appender = log.appender()
    for number in range(10):
        appender.append(Output(topics.raw, b"k", str(number).encode()))
    appender.close()
    consumer, follower = join(log, f"g-{topics.raw}", topics.raw, "m")
    poll_until(consumer, lambda batches: count(batches) >= 10)
    consumer.seek(tp, 50)
    with pytest.raises(OffsetOutOfRange) as caught:
        poll_until(consumer, lambda _: False, 10.0)
    assert (caught.value.topic, caught.value.partition, caught.value.offset) == (*tp, 50)
    assert (caught.value.first, caught.value.next) == (0, 10)
    consumer.seek(tp, 8)
    assert values(poll_until(consumer, lambda batches: count(batches) >= 2), 0) == [8, 9]
    consumer.close()
    assert [what for what, _ in follower.heard] == ["assigned", "revoked"]


class Stumbling(Follower):
    """Fails at its first assignment."""

    failed = False

    def assigned(self, tps: Sequence[TopicPartition]) -> None:
        if not self.failed:
            self.failed = True
            raise RuntimeError("could not restore")
        super().assigned(tps)


def test_what_a_listener_raises_comes_out_of_poll(log: Log, topic: str) -> None:
    follower = Stumbling(log, f"g-{topic}")
    follower.consumer = log.consumer(f"g-{topic}", [topic], "m", follower)
    with pytest.raises(RuntimeError, match="could not restore"):
        poll_until(follower.consumer, lambda _: False)
    follower.consumer.close()


def test_a_member_has_joined_once_it_is_dealt_in_be_its_share_empty(log: Log, topic: str) -> None:
    members = [join(log, f"g-{topic}", topic, f"m{number}", static=False)[0] for number in range(3)]
    assert not any(member.joined for member in members)

    def dealt() -> bool:
        for member in members:
            member.poll(10, 0.05)
        return all(member.joined for member in members)

    until(dealt)
    until(lambda: dealt() and sorted(len(member.assignment()) for member in members) == [0, 1, 1])
    for member in members:
        member.close()
