"""Reading a stretch of a partition, outside any group."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

from fluxforge.log.protocol import Log, Record, TopicPartition


def records_between(log: Log, tp: TopicPartition, start: int, end: int) -> Iterator[Record]:
    """Those of [start, end); where nothing more comes within 5 s, those before."""
    with closing(log.reader(tp, start, follow=False)) as reader:
        while start < end:
            batch = reader.read(min(2000, end - start), timeout=5.0)
            if batch.next_offset == start:
                return
            start = batch.next_offset
            yield from batch.records
