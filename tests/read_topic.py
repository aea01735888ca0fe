"""What a topic holds for a reader of committed records."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing

from fluxforge.errors import UnknownTopic
from fluxforge.log import Log, Record, TopicPartition


def of_partition(log: Log, tp: TopicPartition) -> Iterator[Record]:
    """Every record of a partition, up to where it ends now."""
    at, end = log.bounds(tp)
    with closing(log.reader(tp, at, follow=False)) as reader:
        while at < end:
            batch = reader.read(5000, 1.0)
            yield from batch.records
            at = batch.next_offset


def records(log: Log, topic: str) -> list[Record]:
    """All of them, partition by partition."""
    return [one for p in range(log.partitions(topic)) for one in of_partition(log, TopicPartition(topic, p))]


def wait_for(log: Log, topic: str, count: int, seconds: float = 60.0) -> None:
    """Until there are so many; more are an error at once."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            there = len(records(log, topic))
        except UnknownTopic:
            there = 0
        assert there <= count, f"{topic} holds {there} records, expected {count}"
        if there == count:
            return
        assert time.monotonic() < deadline, f"{topic} holds {there} records after {seconds:g} s, expected {count}"
        time.sleep(0.1)
