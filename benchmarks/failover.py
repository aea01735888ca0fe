"""One of three brokers is killed under a whole pipeline: how long nothing comes, and whether anything is lost.

`fluxforge up` runs on three nodes of Apache Kafka (three copies, two acknowledge) with a simulated exchange, 4 markets
and 200 messages/s. After 20 quiet seconds one node is killed with kill -9, the one that leads the most partitions, and
stays away. Everything shares this machine's cores, which stretches every time-out. Beside the longest pauses of raw
events and feature rows before and after, what must be: every raw event is in Bronze, and the live lake is what
`fluxforge etl` makes of that Bronze, to the last bit.
"""

from __future__ import annotations

import collections
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
from benchmarks.history import REPOSITORY
from benchmarks.pipeline import Pipeline, exchange
from confluent_kafka.admin import AdminClient

from benchmarks import report
from fluxforge.errors import LogUnavailable
from fluxforge.log import Log, TopicPartition, open_log
from fluxforge.topics import Topics

RATE = 50
QUIET_S, AFTER_S, MOST_S = 20.0, 40.0, 180.0
FLOWING_S = 3.0
TOPICS = Topics()


class Pauses(NamedTuple):
    """Longest s without a new record, and records, by topic."""

    longest: dict[str, float]
    records: dict[str, int]


def run() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix="fluxforge-failover-") as folder, brokers() as nodes, exchange(RATE) as url:
        bootstrap = ",".join(node.bootstrap for node in nodes)
        root = Path(folder) / "up"
        pipeline = Pipeline(root, url, settings={"broker": {"url": f"kafka://{bootstrap}"}})
        try:
            pipeline.wait_running()
            log = open_log(f"kafka://{bootstrap}")
            watch = Watch(log)
            quiet = watch.run(QUIET_S, QUIET_S)
            leaders = leading(bootstrap)
            victim = max(nodes, key=lambda node: leaders[node.bootstrap])
            victim.kill()
            after = watch.run(AFTER_S, MOST_S)
            watch.close()
            summary = pipeline.stop()
            events = events_in(log)
            log.close()
        finally:
            pipeline.kill()
        stored = sum(
            pq.ParquetFile(path).metadata.num_rows for path in (root / "data" / "raw" / "ready").rglob("*.parquet")
        )
        same = agrees(root / "data", Path(folder) / "batch")
    tell(quiet, after, leaders, victim.bootstrap, {"events": events, "stored": stored, "same": same, **summary})


class Watch:
    """Reads what comes new into the two topics."""

    def __init__(self, log: Log) -> None:
        self._readers = [
            (name, log.reader(tp, log.bounds(tp).next))
            for name in (TOPICS.raw, TOPICS.features)
            for tp in partitions(log, name)
        ]
        self._last = dict.fromkeys((TOPICS.raw, TOPICS.features), time.monotonic())

    def run(self, least: float, most: float) -> Pauses:
        """For `least` s, and until both topics flow again, at most `most` s."""
        longest = dict.fromkeys(self._last, 0.0)
        records: collections.Counter[str] = collections.Counter()
        began = time.monotonic()
        flowing = False
        while time.monotonic() < began + (least if flowing else most):
            for name, reader in self._readers:
                count = len(reader.read(5000).records)
                now = time.monotonic()
                longest[name] = max(longest[name], now - self._last[name])
                if count:
                    self._last[name] = now
                    records[name] += count
            flowing = now - min(self._last.values()) < FLOWING_S
            time.sleep(0.01)
        return Pauses(longest, dict(records))

    def close(self) -> None:
        for _, reader in self._readers:
            reader.close()


def partitions(log: Log, topic: str) -> list[TopicPartition]:
    return [TopicPartition(topic, partition) for partition in range(log.partitions(topic))]


def events_in(log: Log) -> int:
    """Of the raw topic. A client may ask the dead broker for a while; raises LogUnavailable when it goes on so."""
    deadline = time.monotonic() + MOST_S
    while True:
        try:
            found = [log.bounds(tp) for tp in partitions(log, TOPICS.raw)]
        except LogUnavailable:
            if time.monotonic() > deadline:
                raise
        else:
            return sum(bounds.next - bounds.first for bounds in found)


def leading(bootstrap: str) -> collections.Counter[str]:
    """Partitions that each broker leads, by its address."""
    told = AdminClient({"bootstrap.servers": bootstrap}).list_topics(timeout=10)
    address = {broker.id: f"{broker.host}:{broker.port}" for broker in told.brokers.values()}
    return collections.Counter(
        address[partition.leader] for topic in told.topics.values() for partition in topic.partitions.values()
    )


def agrees(data: Path, batch: Path) -> bool:
    """Whether a lake made in one batch has the live one's rows, bit for bit."""
    fluxforge = (sys.executable, "-c", "from fluxforge_cli.main import main; main()")
    made = subprocess.run(
        [*fluxforge, "etl", "--data-dir", str(data), "--output", str(batch)],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        raise RuntimeError(made.stderr)
    found = subprocess.run(
        [*fluxforge, "diff-lake", str(data), str(batch)], capture_output=True, text=True, check=False
    )
    if found.returncode:
        print(found.stdout[-3000:], found.stderr[-2000:], file=sys.stderr)
    return found.returncode == 0


def tell(quiet: Pauses, after: Pauses, leaders: collections.Counter[str], victim: str, result: dict[str, Any]) -> None:
    """Print tables and the JSON line."""
    report.table(
        f"one of three brokers killed, leader of {leaders[victim]} of {leaders.total()} partitions",
        ["topic", "longest pause before, s", "after, s", "records before", "after"],
        [
            [name, quiet.longest[name], after.longest[name], quiet.records.get(name, 0), after.records.get(name, 0)]
            for name in quiet.longest
        ],
    )
    report.result(
        "failover",
        {
            "raw_pause_s": after.longest[TOPICS.raw],
            "features_pause_s": after.longest[TOPICS.features],
            "raw_pause_before_s": quiet.longest[TOPICS.raw],
            "features_pause_before_s": quiet.longest[TOPICS.features],
            "events": result["events"],
            "bronze_rows": result["stored"],
            "live_equals_batch": result["same"],
            "gaps": result["gaps"],
        },
    )


@contextmanager
def brokers() -> Iterator[list[Any]]:
    """The tests' three nodes, on ports of benchmarks."""
    sys.path.insert(0, str(REPOSITORY / "tests"))
    import kafka_broker  # noqa: PLC0415  lies with the tests
    import kafka_trio  # noqa: PLC0415

    kafka_broker.PORTS = range(19200, 19300)
    with kafka_trio.trio() as nodes:
        yield nodes
