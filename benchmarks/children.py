"""What the engine benchmarks run as processes of their own: one side each, its own CPU time and nobody else's.

    python -m benchmarks.children SIDE BOOTSTRAP PREFIX PARTITIONS EVENTS [SYMBOLS]

prints one JSON line: CPU s (user + system, all threads) from the first record on, and wall s.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator

from confluent_kafka import Consumer, Producer, TopicPartition

from feature_engine.processor import FeatureProcessor
from fluxforge import codec, rows
from fluxforge.events import Trade
from fluxforge.kernels.config import FeatureConfig
from fluxforge.log import open_log
from fluxforge.log.kafka.client import Cluster
from fluxforge.processor import Runtime
from fluxforge.processor.service import compile_kernel
from fluxforge.service import spare_the_collector
from fluxforge.topics import Topics


def main(side: str, bootstrap: str, prefix: str, partitions: str, events: str) -> None:
    """Run one side over all records of the raw topic."""
    sides: dict[str, Callable[[str, Topics, int, int], None]] = {
        "consume": consume,
        "decode": decode,
        "produce": produce,
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


def consume(
    bootstrap: str,
    topics: Topics,
    partitions: int,
    events: int,
    use: Callable[[bytes], object] = len,
    finish: Callable[[], object] = bool,
) -> None:
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
    finish()
    clock.report()
    consumer.close()


def decode(bootstrap: str, topics: Topics, partitions: int, events: int) -> None:
    """The floor, with every event decoded and dropped."""
    consume(bootstrap, topics, partitions, events, codec.decode)


def produce(bootstrap: str, topics: Topics, partitions: int, events: int) -> None:
    """The floor of all who publish trades: each event decoded, a ready row produced for each trade, in transactions."""
    producer = Producer(Cluster(bootstrap, {}).transactor(f"floor{time.time_ns()}"))
    producer.init_transactions()
    producer.begin_transaction()
    ready = list(itertools.islice(_ready_rows(), 1000))
    headers = [("config", b"0123456789abcdef")]
    made = 0
    committed = time.monotonic()

    def use(value: bytes) -> None:
        nonlocal made, committed
        event = codec.decode(value)
        if isinstance(event, Trade):
            made += 1
            producer.produce(topics.trades, ready[made % len(ready)], b"bench|S0000/USDT", 0, headers=headers)
            if made % 1000 == 0 and time.monotonic() > committed + 1.0:
                producer.commit_transaction()
                producer.begin_transaction()
                committed = time.monotonic()

    consume(bootstrap, topics, partitions, events, use, producer.commit_transaction)


def _ready_rows() -> Iterator[bytes]:
    """Enriched trades as they lie in the topic."""
    for number in itertools.count():
        price, size = 60_000 + number / 100, 0.00001 * (number + 1)
        yield rows.encode(
            {
                **{"exchange": "bench", "symbol": "S0000/USDT", "source": "bench"},
                **{"timestamp": 1_700_000_000_000_000_000 + 1_234_567 * number, "source_partition": 0},
                **{"capture_ts": 1_700_000_000_000_000_000 + 1_234_567 * number, "source_offset": number},
                **{"id": str(number), "price": price, "size": size, "notional": price * size, "signed_size": -size},
                **{"mid": price + 0.005, "spread": 0.01, "effective_spread": 0.01 / (price + 0.005)},
                **{"side": -1, "backfilled": False},
            }
        )


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
