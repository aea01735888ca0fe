"""What more keys and more workers bring: CPU per event, throughput, restore, and memory per key.

Keys: each has the same events per second of market time, so a thousand keys have a thousand times the events of one.
All run laps of one course (see `topic.fill_laps`), so every key brings the same events. Every key's first lap makes
its record and grows it; it is run before, and reported as start-up. Batches are full: a topic is filled, then drained.

Workers: one, then two, drain the same topic. Both share the machine with the broker, so its cores are the limit: the
share of them that was busy is stated.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.broker import broker
from benchmarks.worker import crew, order

from benchmarks import history, memory, report, topic
from feature_engine.processor import FeatureProcessor
from fluxforge import metrics
from fluxforge.kernels.config import FeatureConfig
from fluxforge.log import Log, open_log
from fluxforge.processor import Runtime
from fluxforge.processor.service import compile_kernel
from fluxforge.topics import Topics

PARTITIONS, LEVELS = 12, 100
COURSE = 256
"""Events a lap, and key."""
LAPS = {1: 120, 10: 12, 100: 2, 1000: 1}
"""Measured laps by number of keys, behind the first one."""
ROUNDS = 3
WORKERS_KEYS, WORKERS_LAPS = 120, 12


class Keys(NamedTuple):
    """CPU of one run: µs per event behind the first lap, and µs per key that the first lap took more than that."""

    events: int
    micros: float
    start_up: float


class Crew(NamedTuple):
    """One drain by some workers: events/s, cores they used, and the share of the machine that was busy."""

    rate: float
    cores: float
    busy: float


def run() -> None:
    """Measure and print."""
    with broker() as bootstrap:
        log = open_log(f"kafka://{bootstrap}")
        by_keys: dict[int, list[Keys]] = {keys: [] for keys in LAPS}
        by_workers: dict[int, list[Crew]] = {1: [], 2: []}
        restores: list[float] = []
        for number in range(ROUNDS):
            for keys in LAPS:
                by_keys[keys].append(cpu_of(log, bootstrap, f"keys{keys}x{number}", keys))
            for count, crews in by_workers.items():
                crews.append(throughput(log, bootstrap, f"workers{count}x{number}", count))
            restores.append(restore(log, Topics(f"keys{max(LAPS)}x{number}")))
        log.close()
    weights = [memory.per_key(market) for market in (history.load(), history.synthetic())]
    micros = {keys: statistics.median(found.micros for found in runs) for keys, runs in by_keys.items()}
    report.table(
        f"CPU of a whole worker, {COURSE} events a key and lap, {LEVELS} levels a side, {PARTITIONS} partitions",
        ("keys", "events", "µs/event", "× one key", "start-up, µs/key"),
        [
            (str(k), runs[0].events, micros[k], micros[k] / micros[1], statistics.median(r.start_up for r in runs))
            for k, runs in by_keys.items()
        ],
    )
    medians = {count: _medians(runs) for count, runs in by_workers.items()}
    report.table(
        f"Draining {WORKERS_KEYS} keys; the machine has {os.cpu_count()} cores, the broker runs on them too",
        ("workers", "events/s", "× one", "cores used by workers", "machine busy"),
        [(str(count), c.rate, c.rate / medians[1].rate, c.cores, c.busy) for count, c in medians.items()],
    )
    restore_s = statistics.median(restores)
    report.table("Restore after a clean stop, ready for the next event", ("keys", "s"), [(str(max(LAPS)), restore_s)])
    report.table(
        f"Memory of a key; allowed: {memory.LEVEL_BYTES} B a level and {memory.EVENT_BYTES} B an event in the windows",
        ("", "levels", "events", "record KB", "allowed KB", "B/event", "resident KB"),
        [
            (m.source, m.levels, m.events, m.record / 1e3, m.allowed / 1e3, m.per_event, m.resident / 1e3)
            for m in weights
        ],
    )
    report.result(
        "scale",
        {
            "two_worker_speedup": medians[2].rate / medians[1].rate,
            "symbols_1000_ratio": micros[max(LAPS)] / micros[1],
            "restore_s": restore_s,
            "bytes_per_event": weights[0].per_event,
            "memory_ratio": weights[0].record / weights[0].allowed,
        },
    )


def cpu_of(log: Log, bootstrap: str, prefix: str, keys: int) -> Keys:
    """A worker over the laps of so many keys."""
    topics = Topics(prefix)
    log.create(topics.specs(PARTITIONS, raw_retention_ms=-1))
    with crew(bootstrap, prefix, PARTITIONS) as workers:
        order(workers, "hold")
        topic.fill_laps(log, topics, keys, range(1), COURSE, PARTITIONS, LEVELS)
        [first] = order(workers, "drain")
        topic.fill_laps(log, topics, keys, range(1, 1 + LAPS[keys]), COURSE, PARTITIONS, LEVELS)
        [later] = order(workers, "drain")
    each = later["cpu"] / later["events"]
    return Keys(later["events"], each * 1e6, (first["cpu"] - each * first["events"]) / keys * 1e6)


def throughput(log: Log, bootstrap: str, prefix: str, count: int) -> Crew:
    """`count` workers drain the same events, behind the keys' first lap."""
    topics = Topics(prefix)
    log.create(topics.specs(PARTITIONS, raw_retention_ms=-1))
    with crew(bootstrap, prefix, PARTITIONS, count) as workers:
        order(workers, "hold")
        topic.fill_laps(log, topics, WORKERS_KEYS, range(1), COURSE, PARTITIONS, LEVELS)
        order(workers, "drain")
        topic.fill_laps(log, topics, WORKERS_KEYS, range(1, 1 + WORKERS_LAPS), COURSE, PARTITIONS, LEVELS)
        before = _ticks()
        answers = order(workers, "drain")
        busy, total = (b - a for a, b in zip(before, _ticks(), strict=True))
    wall = max(a["ended"] for a in answers) - min(a["started"] for a in answers)
    return Crew(sum(a["events"] for a in answers) / wall, sum(a["cpu"] for a in answers) / wall, busy / total)


def restore(log: Log, topics: Topics) -> float:
    """s that a member needs to have all keys as they were, from its assignment until it has read what it must."""
    processor = FeatureProcessor(FeatureConfig(), topics)
    compile_kernel(processor)
    first = Runtime(log, processor, topics.raw, "restore", "1")
    _to_the_end(first)
    first.close()
    second = Runtime(log, processor, topics.raw, "restore", "1")
    spent = _to_the_end(second)
    second.close()
    return spent


def _to_the_end(runtime: Runtime) -> float:
    """Until nothing more comes for 2 s; the restore's own s and those of the reading behind it."""
    own = metrics.RESTORE.labels("features")
    own.set(-1)
    while own._value.get() < 0:
        runtime.turn(0.05)
    started = last = time.monotonic()
    while time.monotonic() < last + 2.0:
        if runtime.turn(0.05):
            last = time.monotonic()
    return float(own._value.get()) + last - started


def _ticks() -> tuple[float, float]:
    """Busy and all CPU time of the machine since it started (Linux)."""
    times = [float(word) for word in Path("/proc/stat").read_text("ascii").splitlines()[0].split()[1:9]]
    return sum(times) - times[3] - times[4], sum(times)


def _medians(runs: Sequence[Crew]) -> Crew:
    return Crew(*(statistics.median(column) for column in zip(*runs, strict=True)))
