"""Topics come and go, on both logs; a transaction may stand without a consumer."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

import pytest

from contract.log_drive import read_topic, until
from fluxforge.errors import Fenced, FluxForgeError, LogError, UnknownTopic
from fluxforge.log import Log, Output, TopicPartition, open_log
from fluxforge.topics import Topics, TopicSpec

DAY_MS = 86_400_000


def put(log: Log, topic: str, *values: bytes, at: int | None = None) -> None:
    with closing(log.appender()) as appender:
        for value in values:
            appender.append(Output(topic, b"k", value, timestamp=at))


def values(log: Log, topic: str) -> list[bytes]:
    return [record.value for records in read_topic(log, topic).values() for record in records]


def test_a_deleted_topic_is_gone_and_may_come_again(log: Log, topics: Topics) -> None:
    log.create([TopicSpec(topics.raw, 2), TopicSpec(topics.bars, 1)])
    put(log, topics.raw, b"old")
    put(log, topics.bars, b"kept")
    before = log.topic_id(topics.raw)
    assert {topics.raw, topics.bars} <= set(log.topics())
    log.delete([topics.raw, topics.late])
    assert topics.raw not in log.topics() and topics.bars in log.topics()
    with pytest.raises(UnknownTopic):
        log.partitions(topics.raw)
    until(lambda: _created(log, TopicSpec(topics.raw, 3)))
    assert log.partitions(topics.raw) == 3 and log.topic_id(topics.raw) != before
    put(log, topics.raw, b"new")
    until(lambda: len(values(log, topics.raw)) == 1)
    assert values(log, topics.raw) == [b"new"]
    assert values(log, topics.bars) == [b"kept"]


def _created(log: Log, spec: TopicSpec) -> bool:
    """Kafka may still be at work on the deletion."""
    try:
        log.create([spec])
    except FluxForgeError:
        return False
    return True


def test_a_writer_left_over_writes_into_no_other_topic(tmp_path: Path, topics: Topics) -> None:
    """Where SQLite gave a deleted topic's place out again, a process that remembers it would write there."""
    log = open_log(f"sqlite:///{tmp_path / 'log.db'}")
    log.create([TopicSpec(topics.raw, 1)])
    transactor = log.transactor("left-over")
    transactor.append(Output(topics.raw, b"k", b"lost"))
    log.delete([topics.raw])
    log.create([TopicSpec(topics.bars, 1)])
    with pytest.raises(UnknownTopic):
        transactor.commit()
    assert values(log, topics.bars) == []
    transactor.close()
    log.close()


def test_a_transaction_without_a_consumer(log: Log, topics: Topics) -> None:
    log.create([TopicSpec(topics.raw, 1), TopicSpec(topics.bars, 1)])
    first = log.transactor(f"alone-{topics.prefix}")
    first.append(Output(topics.raw, b"k", b"1"))
    first.append(Output(topics.bars, b"k", b"1"))
    assert values(log, topics.raw) == []
    first.commit()
    until(lambda: len(values(log, topics.raw)) == len(values(log, topics.bars)) == 1)
    with pytest.raises(LogError, match="consumer"):
        first.commit({TopicPartition(topics.raw, 0): 1})
    first.append(Output(topics.raw, b"k", b"2"))
    second = log.transactor(f"alone-{topics.prefix}")
    with pytest.raises(Fenced):
        first.commit()
    second.append(Output(topics.raw, b"k", b"3"))
    second.commit()
    until(lambda: len(values(log, topics.raw)) == 2)
    assert values(log, topics.raw) == [b"1", b"3"]
    first.close()
    second.close()


def test_old_records_stay_where_nothing_expires(log: Log, topics: Topics) -> None:
    """And go within moments under a retention, which is why a replay's topic has none."""
    month_ago = time.time_ns() // 1_000_000 - 30 * DAY_MS
    log.create([TopicSpec(topics.raw, 1, any_time=True), TopicSpec(topics.bars, 1, retention_ms=7 * DAY_MS)])
    put(log, topics.raw, b"old", at=month_ago)
    put(log, topics.raw, b"to come", at=month_ago + 400 * DAY_MS)
    put(log, topics.bars, b"old", at=month_ago)
    transactor = log.transactor(f"sweep-{topics.prefix}")

    def swept() -> bool:
        transactor.append(Output(topics.raw, b"k", b"now"))
        transactor.commit()
        return log.bounds(TopicPartition(topics.bars, 0)).first > 0

    until(swept)
    transactor.close()
    assert values(log, topics.raw)[:2] == [b"old", b"to come"]


def test_ends_are_those_of_the_bounds(log: Log, topics: Topics) -> None:
    log.create([TopicSpec(topics.raw, 3), TopicSpec(topics.bars, 1)])
    put(log, topics.raw, b"1", b"2")
    with closing(log.transactor(f"{topics.prefix}-ends")) as transactor:
        transactor.append(Output(topics.bars, b"k", b"3", partition=0))
        transactor.commit()
    tps = [*(TopicPartition(topics.raw, n) for n in range(3)), TopicPartition(topics.bars, 0)]
    until(lambda: log.bounds(tps[3]).next >= 1)
    ends = log.ends(iter(tps))
    assert ends == {tp: log.bounds(tp).next for tp in tps}
    assert sorted(ends[tp] for tp in tps[:3]) == [0, 0, 2]
    assert log.ends([]) == {}
    with pytest.raises(UnknownTopic):
        log.ends([TopicPartition(topics.raw, 3)])
