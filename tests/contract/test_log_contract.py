"""What both logs promise about records, topics and offsets."""

from __future__ import annotations

import os
import time
import uuid
from contextlib import suppress

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from contract.log_drive import Child, read_all, read_topic, until
from fluxforge.errors import LogError, OffsetOutOfRange, RecordsLost, UnknownTopic
from fluxforge.log import Batch, Bounds, Log, Output, Record, RecordColumns, TopicPartition, columns, open_log
from fluxforge.topics import Topics, TopicSpec, partition_of


@pytest.fixture
def topic(log: Log, topics: Topics) -> str:
    log.create([TopicSpec(topics.raw, 4)])
    return topics.raw


def append(log: Log, *outputs: Output) -> None:
    appender = log.appender()
    for output in outputs:
        appender.append(output)
    appender.close()


def test_records_of_a_partition_are_read_in_the_order_appended(log: Log, topic: str) -> None:
    keys = [f"exchange|S{number}/USDT".encode() for number in range(23)]
    sent = [Output(topic, keys[number % 23], str(number).encode()) for number in range(3000)]
    append(log, *sent)
    read = read_topic(log, topic)
    for partition, records in read.items():
        expected = [(o.key, o.value) for o in sent if partition_of(o.key or b"", 4) == partition]
        assert [(record.key, record.value) for record in records] == expected
    assert sum(map(len, read.values())) == 3000


HEADER_NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=8)
"""librdkafka takes header names as C strings."""

ROWS = st.lists(
    st.tuples(
        st.none() | st.binary(max_size=20),
        st.binary(max_size=300),
        st.lists(st.tuples(HEADER_NAMES, st.binary(max_size=8)), max_size=3).map(tuple),
        st.integers(1, 1_700_000_000_000),
        st.integers(0, 3),
    ),
    min_size=1,
    max_size=20,
)


def test_key_value_headers_and_timestamp_come_back_byte_for_byte(log: Log, topic: str) -> None:
    appender = log.appender()
    readers = [log.reader(TopicPartition(topic, number), 0) for number in range(4)]

    @settings(max_examples=25, deadline=None, phases=[Phase.explicit, Phase.generate])
    @given(ROWS)
    def comes_back(rows: list[tuple[bytes | None, bytes, tuple[tuple[str, bytes], ...], int, int]]) -> None:
        for key, value, headers, timestamp, partition in rows:
            appender.append(Output(topic, key, value, headers, timestamp, partition))
        appender.flush()
        for number, reader in enumerate(readers):
            expected = [row for row in rows if row[4] == number]
            records: list[Record] = []
            while len(records) < len(expected) and (more := reader.read(1000, 5.0).records):
                records += more
                by_column = RecordColumns.of(more)
                assert list(zip(*by_column, strict=True)) == list(more)
                assert columns(more) == (list(by_column.values), list(by_column.offsets))
            assert [(r.key, r.value, r.headers, r.timestamp, r.partition) for r in records] == expected

    comes_back()
    appender.close()
    for reader in readers:
        reader.close()


def test_a_record_without_a_timestamp_gets_the_time_of_its_storing(log: Log, topic: str) -> None:
    before = time.time_ns() // 1_000_000
    append(log, Output(topic, b"k", b"v", partition=0))
    (record,) = read_all(log, TopicPartition(topic, 0))
    assert before <= record.timestamp <= time.time_ns() // 1_000_000


def test_what_was_flushed_survives_kill_9(log: Log, log_url: str, topic: str) -> None:
    with Child("append", log_url, topic, "0", "5000") as child:
        child.expect("flushed")
        child.kill()
    numbers = [int(record.value) for records in read_topic(log, topic).values() for record in records]
    assert len(numbers) == len(set(numbers))
    assert set(range(5000)) <= set(numbers)
    for records in read_topic(log, topic).values():
        assert [int(record.value) for record in records] == sorted(int(record.value) for record in records)


def test_two_processes_append_to_one_partition(log: Log, log_url: str, topic: str) -> None:
    with (
        Child("append", log_url, topic, "0", "2000") as one,
        Child("append", log_url, topic, "1000000", "1002000") as two,
    ):
        one.expect("flushed")
        two.expect("flushed")
        one.kill()
        two.kill()
    for records in read_topic(log, topic).values():
        numbers = [int(record.value) for record in records]
        for mine in (
            [number for number in numbers if number < 1_000_000],
            [number for number in numbers if number >= 1_000_000],
        ):
            assert mine == sorted(set(mine))
    flushed = {int(r.value) for records in read_topic(log, topic).values() for r in records}
    assert {*range(2000), *range(1_000_000, 1_002_000)} <= flushed


def test_a_reader_waits_for_what_is_appended_later(log: Log, topic: str) -> None:
    tp = TopicPartition(topic, 1)
    reader = log.reader(tp, 0)
    assert reader.read(10, 0.05) == Batch(tp, (), 0)
    append(log, Output(topic, b"k", b"later", partition=1))
    batch = reader.read(10, 10.0)
    assert [record.value for record in batch.records] == [b"later"]
    reader.close()


def test_a_reader_takes_no_more_than_asked_and_goes_where_it_is_sent(log: Log, topic: str) -> None:
    tp = TopicPartition(topic, 2)
    append(log, *(Output(topic, b"k", str(number).encode(), partition=2) for number in range(100)))
    reader = log.reader(tp, 90)
    got: list[bytes] = []
    while len(got) < 10:
        batch = reader.read(3, 5.0)
        assert 0 < len(batch.records) <= 3
        got += [record.value for record in batch.records]
    assert got == [str(number).encode() for number in range(90, 100)]
    reader.seek(7)
    assert reader.read(1, 5.0).records[0].value == b"7"
    reader.close()


def test_bounds_and_offset_at_follow_offsets_and_timestamps(log: Log, topic: str) -> None:
    tp = TopicPartition(topic, 0)
    assert log.bounds(tp) == Bounds(0, 0)
    assert log.offset_at(tp, 5) == 0
    stamps = [1000 * (number // 3) + 1_600_000_000_000 for number in range(3000)]
    append(log, *(Output(topic, b"k", b"v", timestamp=stamp, partition=0) for stamp in stamps))
    assert log.bounds(tp) == Bounds(0, 3000)
    assert log.offset_at(tp, 0) == 0
    for asked in (stamps[0], stamps[1500], stamps[1500] + 1, stamps[2999] - 1, stamps[2999]):
        assert log.offset_at(tp, asked) == next(at for at, stamp in enumerate(stamps) if stamp >= asked)
    assert log.offset_at(tp, stamps[2999] + 1) == 3000


def test_offset_at_finds_the_first_of_unordered_timestamps(log: Log, topic: str) -> None:
    base, tp = 1_600_000_000_000, TopicPartition(topic, 3)
    stamps = [base + offset for offset in (50, 10, 70, 20, 90, 5)]
    append(log, *(Output(topic, b"k", b"v", timestamp=stamp, partition=3) for stamp in stamps))
    for asked in range(base, base + 100, 5):
        found = next((at for at, stamp in enumerate(stamps) if stamp >= asked), 6)
        assert log.offset_at(tp, asked) == found


def test_reading_past_retention_says_so(log: Log, topics: Topics) -> None:
    log.create([TopicSpec(topics.raw, 1, retention_ms=1000)])
    tp = TopicPartition(topics.raw, 0)
    old = time.time_ns() // 1_000_000 - 3_600_000
    append(log, *(Output(topics.raw, b"k", b"old", timestamp=old) for _ in range(10)))

    def swept() -> bool:
        append(log, Output(topics.raw, b"k", b"new"))
        return log.bounds(tp).first >= 10

    until(swept)
    first, end = log.bounds(tp)
    reader = log.reader(tp, 3)
    with pytest.raises(OffsetOutOfRange) as caught:
        for _ in range(50):
            assert not reader.read(10, 0.2).records
    assert (caught.value.topic, caught.value.partition, caught.value.offset) == (topics.raw, 0, 3)
    assert caught.value.first >= first
    assert caught.value.next >= end
    reader.seek(caught.value.first)
    assert all(record.value == b"new" for record in reader.read(10, 5.0).records)
    reader.close()


def test_reading_beyond_the_end_says_so(log: Log, topic: str) -> None:
    reader = log.reader(TopicPartition(topic, 0), 77)
    with pytest.raises(OffsetOutOfRange):
        for _ in range(50):
            reader.read(10, 0.2)
    reader.close()


def test_old_timestamps_stay_where_nothing_expires(log: Log, topic: str) -> None:
    append(log, *(Output(topic, b"k", b"v", timestamp=86_400_000 + number, partition=0) for number in range(50)))
    time.sleep(1.5)  # longer than the broker's and the file's sweeps take to come round
    append(log, Output(topic, b"k", b"v", partition=0))
    assert len(read_all(log, TopicPartition(topic, 0))) == 51


def test_compaction_keeps_the_newest_record_of_each_key(log: Log, topics: Topics) -> None:
    spec = TopicSpec(topics.features_state, 2, compact=True)
    log.create([spec])
    newest: dict[bytes, bytes] = {}
    appender = log.appender()
    for version in range(5):
        outputs = [Output(spec.name, f"k{key}".encode(), f"{key}-{version}".encode()) for key in range(20 + version)]
        newest |= {output.key or b"": output.value for output in outputs}
        for output in outputs:
            appender.append(output)
        appender.flush()
    appender.close()
    read = [record for records in read_topic(log, spec.name).values() for record in records]
    assert {record.key: record.value for record in read} == newest
    with pytest.raises(LogError):
        append(log, Output(spec.name, None, b"v", partition=0))


def test_topics_are_created_once_and_never_changed(log: Log, topics: Topics) -> None:
    log.create(topics.specs(3))
    log.create(topics.specs(3))
    assert all(log.partitions(spec.name) == spec.partitions for spec in topics.specs(3))
    with pytest.raises(UnknownTopic, match="3 partitions, not 5"):
        log.create([TopicSpec(topics.raw, 5)])
    assert log.partitions(topics.raw) == 3


def test_a_topic_id_is_the_topics_own(log: Log, log_url: str, topics: Topics) -> None:
    log.create(topics.specs(1))
    names = [spec.name for spec in topics.specs(1)]
    ids = {log.topic_id(name) for name in names}
    assert len(ids) == len(names)
    assert all(each.replace("-", "").replace("_", "").isalnum() for each in ids)
    again = open_log(log_url)
    assert again.topic_id(topics.raw) == log.topic_id(topics.raw)
    again.close()


def test_an_unknown_topic_or_partition_is_named(log: Log, topic: str) -> None:
    nowhere = f"nowhere-{uuid.uuid4().hex}"
    appender = log.appender()
    for call in (
        lambda: log.partitions(nowhere),
        lambda: log.topic_id(nowhere),
        lambda: log.reader(TopicPartition(nowhere, 0), 0),
        lambda: log.bounds(TopicPartition(nowhere, 0)),
        lambda: appender.append(Output(nowhere, b"k", b"v")),
    ):
        with pytest.raises(UnknownTopic, match=nowhere):
            call()
    with pytest.raises(UnknownTopic, match="no partition 9"):
        log.bounds(TopicPartition(topic, 9))
    with pytest.raises(UnknownTopic, match="no partition 9"):
        appender.append(Output(topic, b"k", b"v", partition=9))
    appender.append(Output(topic, b"k", b"the next good one"))
    appender.close()
    assert sum(map(len, read_topic(log, topic).values())) == 1


def test_a_record_that_can_never_be_stored_is_refused_and_the_next_one_is_not(log: Log, topics: Topics) -> None:
    log.create([TopicSpec(topics.raw, 1, max_message_bytes=10_000)])
    appender = log.appender()
    with pytest.raises(LogError):
        appender.append(Output(topics.raw, b"k", os.urandom(20_000)))
        appender.flush()
    with suppress(RecordsLost):  # told ever after, where the record was queued before it was refused
        appender.close()
    appender = log.appender()
    with pytest.raises(LogError):
        appender.append(Output(topics.raw, None, b"no key and no partition"))
    appender.append(Output(topics.raw, b"k", b"good"))
    appender.flush()
    assert appender.pending() == 0
    appender.close()
    assert [record.value for record in read_all(log, TopicPartition(topics.raw, 0))] == [b"good"]
