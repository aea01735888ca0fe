"""What more keys cost: CPU per event by number of keys, and the restore of a thousand of them.

The same number of events is dealt out to 1, 10, 100 or 1,000 keys in turn, 12 partitions, the engine as it is shipped.
"""

from __future__ import annotations

import time

from benchmarks import engine, report, topic
from benchmarks.broker import broker

from feature_engine.processor import FeatureProcessor
from fluxforge import metrics
from fluxforge.kernels.config import FeatureConfig
from fluxforge.log import Log, open_log
from fluxforge.processor import Runtime
from fluxforge.processor.service import compile_kernel
from fluxforge.topics import Topics

PARTITIONS, LEVELS = 12, 20
EVENTS = 24_000
KEYS = (1, 10, 100, 1000)


def run() -> None:
    """Measure and print."""
    micros: dict[int, float] = {}
    with broker() as bootstrap:
        log = open_log(f"kafka://{bootstrap}")
        for keys in KEYS:
            topics = Topics(f"keys{keys}")
            count = topic.fill(log, topics, keys, EVENTS, PARTITIONS, LEVELS)
            answer = engine.child("engine", bootstrap, topics.prefix, count)
            micros[keys] = answer["cpu"] / answer["events"] * 1e6
        seconds = restore(log, Topics(f"keys{KEYS[-1]}"))
        log.close()
    rows = [(str(keys), spent, spent / micros[1]) for keys, spent in micros.items()]
    report.table(f"CPU of the feature engine, {EVENTS} events", ("keys", "µs/event", "× one key"), rows)
    report.table("Restore after a clean stop", ("keys", "s"), [(str(KEYS[-1]), seconds)])
    report.result("scale", {"symbols_1000_ratio": micros[1000] / micros[1], "restore_s": seconds})


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
