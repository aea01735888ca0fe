"""Two topics held against each other, record by record, in little memory."""

from __future__ import annotations

import hashlib
from collections import Counter

from fluxforge import rows
from fluxforge.log import Log, Record, TopicPartition
from read_topic import of_partition


def compare(log: Log, mine: str, theirs: str) -> int:
    """The number of records; raises AssertionError where any partition's differ in key, value, headers or order."""
    count = 0
    for partition in range(log.partitions(mine)):
        got, wanted = (TopicPartition(topic, partition) for topic in (mine, theirs))
        a, b = [[digest(record) for record in of_partition(log, tp)] for tp in (got, wanted)]
        if a != b:
            missing, extra = Counter(b) - Counter(a), Counter(a) - Counter(b)
            twice = len(a) - len(set(a))
            raise AssertionError(
                f"{mine}[{partition}] has {len(a)} records, the quiet run {len(b)}: {missing.total()} missing, "
                f"{extra.total()} not in the quiet run, {twice} twice; {difference(log, got, wanted)}"
            )
        count += len(a)
    return count


def digest(record: Record) -> bytes:
    """Of everything but where and when it was stored, and a letter's source topic: it bears the run's name."""
    headers = [header for header in record.headers if header[0] != "source-topic"]
    return hashlib.blake2b(repr((record.key, record.value, headers)).encode(), digest_size=16).digest()


def difference(log: Log, got: TopicPartition, wanted: TopicPartition) -> str:
    """Where two partitions part, and how often each field differs at equal places."""
    fields: Counter[str] = Counter()
    first = None
    for place, (a, b) in enumerate(zip(of_partition(log, got), of_partition(log, wanted), strict=False)):
        if digest(a) == digest(b):
            continue
        first = first if first is not None else (place, a.key, b.key)
        if a.value[:1] == b.value[:1] == b"{":
            left, right = rows.decode(a.value), rows.decode(b.value)
            fields.update(name for name in left | right if left.get(name) != right.get(name))
    return f"first at (place, keys) {first}, fields {fields.most_common(12)}"
