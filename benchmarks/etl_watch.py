"""`fluxforge etl --watch` beside a Bronze that grows by 2,000 events a second.

Each partition closes a batch in turn, as the Bronze sink does, only more often. A batch is in the lake once the commit
records of every table cover it; waiting is from the time of its own record to that of the last of theirs. CPU and
memory are those of the watcher's process, from its first pass over the batches that were there before.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import psutil
from benchmarks.replay import BATCH, laps_of

from benchmarks import history, report
from fluxforge import bronze, etl
from fluxforge.events import AnyEvent
from fluxforge.files import Chain, ChainId, Commit
from fluxforge.files.history import records
from fluxforge.lake import lake_tree

PARTITIONS, RATE = 4, 2_000
BATCH_S = 20.0
"""Each partition closes a batch so often."""
SECONDS = 240.0
POLL_S = 30.0


class Closed(NamedTuple):
    """A batch of Bronze: its chain, its end and when its record was made, s since 1970."""

    chain: ChainId
    end: int
    at: float


def run() -> None:
    """Measure and print."""
    measure(SECONDS, BATCH_S, POLL_S, RATE)


def measure(seconds: float, batch_s: float, poll_s: float, rate: int) -> None:
    """One run of so many s."""
    with tempfile.TemporaryDirectory(prefix="fluxforge-bench-") as scratch:
        root = Path(scratch)
        streams = [laps_of(f"S{partition}/USDT", 1_000) for partition in range(PARTITIONS)]
        size = round(rate * batch_s / PARTITIONS)
        for partition, events in enumerate(streams):
            close(root, partition, events, size)
        command = [
            str(Path(sys.executable).with_name("fluxforge")),
            "etl",
            "--data-dir",
            str(root),
            "--watch",
            "--json",
        ]
        watcher = subprocess.Popen(
            [*command, "--poll-interval", str(poll_s)], cwd=root, stdout=subprocess.PIPE, stderr=sys.stderr
        )
        try:
            assert watcher.stdout is not None
            if not watcher.stdout.readline():
                raise RuntimeError("the watcher ended")
            process = psutil.Process(watcher.pid)
            began, cpu = time.monotonic(), sum(process.cpu_times()[:2])
            backlog = grow(root, streams, size, seconds, batch_s)
            share = (sum(process.cpu_times()[:2]) - cpu) / (time.monotonic() - began)
            waits = waited(root, patience_s=10 * poll_s + 60)
            memory = report.resident_mb(watcher.pid, most=True)
        finally:
            watcher.terminate()
            watcher.wait(60)
    title = f"{rate:,} events/s of {history.load().source}, {PARTITIONS} partitions, a look each {poll_s:g} s"
    report.table(
        title,
        ("", "measured", "wanted"),
        [
            ("from closed to in the lake, most, s", max(waits), 300.0),
            ("the same, middle", sorted(waits)[len(waits) // 2], None),
            ("batches that wait, most", backlog, 10),
            ("CPU, % of one core", 100 * share, 50.0),
            ("memory, MB resident at most", memory, 2000.0),
        ],
    )
    report.result(
        "etl_watch",
        {"wait_s": max(waits), "backlog": backlog, "core_share": share, "mb": memory, "batches": len(waits)},
    )


def grow(root: Path, streams: list[Iterator[AnyEvent]], size: int, seconds: float, batch_s: float) -> int:
    """Close batches in turn for so long; the most that were ever not in the lake."""
    began, most = time.monotonic(), 0
    for number in range(round(seconds / batch_s * PARTITIONS)):
        close(root, number % PARTITIONS, streams[number % PARTITIONS], size)
        while time.monotonic() < began + (number + 1) * batch_s / PARTITIONS:
            time.sleep(0.2)
        most = max(most, sum(batch.end > _reached(root, batch.chain) for batch in closed(root)))
    return most


def close(root: Path, partition: int, events: Iterator[AnyEvent], size: int) -> None:
    """One more batch."""
    with Chain.open(bronze.tree(root), ChainId("bench", "market.raw", partition), first=0) as chain:
        writer, offset = bronze.BronzeWriter(chain), chain.next_offset
        for at in range(0, size, BATCH):
            part = list(islice(events, min(BATCH, size - at)))
            writer.append([bronze.record_of(event, offset + n, partition) for n, event in enumerate(part)])
            offset += len(part)
        writer.commit(offset)


def closed(root: Path) -> list[Closed]:
    """Every batch of Bronze."""
    tree = bronze.tree(root)
    return [
        Closed(chain, record.next_offset, _made(root / "raw" / chain.record(record.start)))
        for chain in (ChainId("bench", "market.raw", partition) for partition in range(PARTITIONS))
        for record in records(tree, chain)
    ]


def waited(root: Path, patience_s: float) -> list[float]:
    """Of each batch but the first, s until it was in the lake."""
    found, deadline = closed(root), time.monotonic() + patience_s
    while any(batch.end > _reached(root, batch.chain) for batch in found):
        if time.monotonic() > deadline:
            raise RuntimeError(f"not in the lake after {patience_s:g} s")
        time.sleep(0.2)
    waits = []
    for batch in found:
        if batch.end == min(other.end for other in found if other.chain == batch.chain):
            continue
        came = [
            min(
                _made(root / "processed" / chain.record(record.start))
                for record in stored
                if record.next_offset >= batch.end
            )
            for chain, stored in _stored(root, batch.chain)
        ]
        waits.append(max(came) - batch.at)
    return waits


def _reached(root: Path, chain: ChainId) -> int:
    """The first offset that is not in every table."""
    return min((stored[-1].next_offset if stored else 0 for _, stored in _stored(root, chain)), default=0)


def _stored(root: Path, chain: ChainId) -> Iterator[tuple[ChainId, list[Commit]]]:
    tree = lake_tree(root)
    for table in etl.TABLES:
        of_table = ChainId(chain.log_id, f"{chain.topic}.{table}", chain.partition)
        yield of_table, records(tree, of_table)


def _made(path: Path) -> float:
    return path.stat().st_mtime
