"""What the replay benchmark runs as processes of their own.

    python -m benchmarks.replay_side SIDE BOOTSTRAP NAME PARTITIONS EVENTS ROOT

prints one JSON line: CPU s and wall s from the first record on, and the most MB that were resident.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from benchmarks.children import Clock
from confluent_kafka import Producer

from benchmarks import report
from fluxforge import bronze
from fluxforge.files import chains
from fluxforge.log import open_log
from fluxforge.log.kafka.client import Cluster
from fluxforge.replay import Replay
from fluxforge.replay.topics import target_spec
from fluxforge.service import spare_the_collector


def main(side: str, bootstrap: str, name: str, partitions: str, _events: str, root: str) -> None:
    """Run one side."""
    spare_the_collector()
    match side:
        case "scan":
            scan(Path(root))
        case "replay":
            replay(bootstrap, name, Path(root))
        case _:
            bare(bootstrap, f"{side}.{name}", int(partitions), Path(root), marked=side == "marked")


def scan(root: Path) -> None:
    """Every file as a table, one after the other."""
    paths = sorted((root / "raw" / "ready").rglob("*.parquet"))
    clock = Clock()
    for path in paths:
        pq.read_table(path)
    tell(clock)


def replay(bootstrap: str, name: str, root: Path) -> None:
    """As `fluxforge replay` runs it, from its first commit on."""
    log = open_log(f"kafka://{bootstrap}")
    with Replay(log, bronze.tree(root), name) as run:
        began: list[tuple[Clock, int]] = []
        run.run(lambda told: None if began else began.append((Clock(), told.records)))
        clock, first = began[0]
        tell(clock, events=run.state.written - first)
    log.close()


def bare(bootstrap: str, name: str, partitions: int, root: Path, *, marked: bool) -> None:
    """Nothing but `produce`, until all is acknowledged."""
    log = open_log(f"kafka://{bootstrap}")
    log.create([target_spec(name, partitions)])
    tree = bronze.tree(root)
    ready = [_ready(name, record, marked) for chain in chains(tree) for record in bronze.read(tree, chain)]
    producer = Producer({**Cluster(bootstrap, {}).appender(), "compression.level": 1})
    clock = Clock()
    produce = producer.produce
    for record in ready:
        while True:
            try:
                produce(*record)
                break
            except BufferError:
                producer.poll(0.02)
    producer.flush()
    tell(clock)
    log.close()


def _ready(name: str, record: Any, marked: bool) -> tuple[Any, ...]:
    """The arguments of `produce`."""
    headers = list(record.headers)
    if marked:
        headers.append(("source-offset", str(record.offset).encode()))
    return name, record.value, record.key, record.partition, None, None, record.timestamp, headers


def tell(clock: Clock, **more: float) -> None:
    clock.report(**more, rss=report.resident_mb(most=True))


if __name__ == "__main__":
    main(*sys.argv[1:])
