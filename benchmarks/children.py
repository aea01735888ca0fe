"""What the engine benchmarks run as processes of their own: one side each, its own CPU time and nobody else's.

    python -m benchmarks.children SIDE BOOTSTRAP PREFIX PARTITIONS EVENTS [SYMBOLS]

prints one JSON line: CPU s (user + system, all threads) from the first record on, and wall s.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

from confluent_kafka import Consumer, TopicPartition

from feature_engine.processor import FeatureProcessor
from fluxforge import codec
from fluxforge.kernels.config import FeatureConfig
from fluxforge.log import open_log
from fluxforge.processor import Runtime
from fluxforge.processor.service import compile_kernel, spare_the_collector
from fluxforge.topics import Topics


def main(side: str, bootstrap: str, prefix: str, partitions: str, events: str) -> None:
    """Run one side over all records of the raw topic."""
    sides: dict[str, Callable[[str, Topics, int, int], None]] = {
        "consume": consume,
        "decode": decode,
        "engine": engine,
        "features": features,
    }
    sides[side](bootstrap, Topics(prefix), int(partitions), int(events))


class Clock:
    """CPU and wall time since the first record."""

    def __init__(self) -> None:
        self._cpu, self._wall = time.process_time(), time.monotonic()

    def report(self, **more: float) -> None:
        cpu, wall = time.process_time() - self._cpu, time.monotonic() - self._wall
        print(json.dumps({"cpu": cpu, "wall": wall, **more}), flush=True)


def consume(bootstrap: str, topics: Topics, partitions: int, events: int, use: Callable[[bytes], object] = len) -> None:
    """The floor: batches of messages, dropped."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "floor",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
        }
    )
    consumer.assign([TopicPartition(topics.raw, partition, 0) for partition in range(partitions)])
    while not consumer.consume(1, 1.0):
        pass
    clock, done = Clock(), 1
    while done < events:
        messages = consumer.consume(1000, 0.05)
        done += len(messages)
        if use is not len:
            for message in messages:
                use(message.value() or b"")
    clock.report()
    consumer.close()


def decode(bootstrap: str, topics: Topics, partitions: int, events: int) -> None:
    """The floor, with every event decoded and dropped."""
    consume(bootstrap, topics, partitions, events, codec.decode)


def engine(bootstrap: str, topics: Topics, _partitions: int, events: int) -> None:
    """The feature engine with everything it publishes, in transactions."""
    _engine(FeatureProcessor(FeatureConfig(), topics), bootstrap, topics, events)


def features(bootstrap: str, topics: Topics, _partitions: int, events: int) -> None:
    """The feature engine without enriched trades and tickers."""
    _engine(FeatureProcessor(FeatureConfig(), topics, trades=False, ticker=False), bootstrap, topics, events)


def _engine(processor: FeatureProcessor, bootstrap: str, topics: Topics, events: int) -> None:
    log = open_log(f"kafka://{bootstrap}")
    compile_kernel(processor)
    spare_the_collector()
    runtime = Runtime(log, processor, topics.raw, f"bench.{time.time_ns()}", f"m{time.time_ns()}")
    done = 0
    while not done:
        done = runtime.turn(0.05)
    clock = Clock()
    first = done
    while done < events:
        done += runtime.turn(0.05)
    runtime.commit()
    clock.report(events=events - first)
    runtime.close()
    log.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
