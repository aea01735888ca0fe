"""The sink writes to a bucket whose store fails in every way: every record of the log is there once."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bronze_sink.partition import Rolling
from bronze_sink.sink import BronzeSink
from fluxforge import bronze, codec
from fluxforge.events import Trade
from fluxforge.files import ChainId, Tree, commits
from fluxforge.files.s3 import S3Storage
from fluxforge.log import Log, Output, Record, TopicPartition, open_log
from fluxforge.topics import TopicSpec
from s3_faults import FaultyStore, impatient, seeded
from s3_server import S3Server

TOPIC = "market.raw"
PARTITIONS = 2
EVENTS = 600
RECOVERS = 200
"""Turn from which the store is sound again."""
PLANS = int(os.environ.get("S3_FAULT_PLANS", "2"))


class ManualClock:
    """Time that the test moves."""

    seconds = 0.0

    def now(self) -> int:
        return time.time_ns()

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    log = open_log(f"sqlite:///{tmp_path / 'log.db'}")
    log.create([TopicSpec(TOPIC, PARTITIONS)])
    appender = log.appender()
    for number in range(EVENTS):
        made = Trade(
            exchange="sim", symbol=f"S{number % 7}/USDT", native="S", source="sim", collector="c", connection="x",
            ts=number, capture_ts=number, id=str(number), price=number / 3, size=0.1, side=-1, raw=b"{}",
        )  # fmt: skip
        appender.append(Output(TOPIC, made.key.encode(), codec.encode(made), codec.headers(made)))
    appender.flush()
    appender.close()
    yield log
    log.close()


def logged(log: Log, tp: TopicPartition) -> list[Record]:
    first, end = log.bounds(tp)
    reader, found = log.reader(tp, first), list[Record]()
    while not found or found[-1].offset < end - 1:
        found += reader.read(1000, 5.0).records
    reader.close()
    return found


@pytest.mark.parametrize("seed", range(PLANS))
def test_every_record_once_under_seeded_faults(log: Log, s3_server: S3Server, seed: int) -> None:
    proxy, bucket = FaultyStore(s3_server.endpoint), s3_server.bucket()
    shaky = Tree(S3Storage(bucket, "raw", s3_server.options(proxy.endpoint)), mirror=True)
    true = Tree(S3Storage(bucket, "raw", s3_server.options()), mirror=True)
    tps = [TopicPartition(TOPIC, number) for number in range(PARTITIONS)]
    chains = {tp: ChainId(log.topic_id(TOPIC), *tp) for tp in tps}
    clock = ManualClock()
    try:
        with impatient():
            sink = BronzeSink(
                log, [TOPIC], shaky, group="bronze", member="one", rolling=Rolling(max_age=2.0), clock=clock
            )
            proxy.plan = seeded(seed)
            ends = {tp: log.bounds(tp).next for tp in tps}
            for turn in range(400):
                clock.seconds += 1.0
                if turn == RECOVERS:
                    proxy.plan = lambda _: None
                sink.step(0.02, 40)
                stored = {tp: max((c.next_offset for c in commits(true, chains[tp])), default=0) for tp in tps}
                offsets = log.group_offsets("bronze", TOPIC)
                assert all(offsets.get(tp.partition, 0) <= stored[tp] for tp in tps), "acknowledged, and not stored"
                if stored == ends:
                    break
            assert stored == ends
            assert proxy.given
            proxy.plan = lambda _: None
            sink.close()
        for tp in tps:
            assert list(bronze.read(true, chains[tp])) == logged(log, tp)
            found = list(commits(true, chains[tp]))
            assert [c.start for c in found[1:]] == [c.next_offset for c in found[:-1]]
    finally:
        proxy.close()
