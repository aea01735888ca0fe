"""A strategy's reader on a real Kafka: feature rows from the topic into batches and rows, beside a bare consumer.

The rows are the feature engine's own of the history, all columns, a row at each book, repeated; in transactions. CPU is
user + system of each side's whole process, librdkafka's threads included, and of the reading thread alone: what that
leaves is the rate where a core is free for each, whatever else the machine does meanwhile.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.broker import broker
from benchmarks.client_side import PARTITIONS
from benchmarks.engine import child

from benchmarks import report, topic
from feature_engine.processor import FeatureProcessor
from fluxforge.kernels.config import FeatureConfig
from fluxforge.log import Log, Output, TopicPartition, open_log
from fluxforge.processor import Runtime
from fluxforge.rows import decode, encode
from fluxforge.topics import Topics

SYMBOLS, LEVELS, EVENTS = 4, 1000, 24_000
ROWS, ROUNDS, COMMIT_ROWS = 160_000, 5, 5_000
FLOOR_ROWS_S = 50_000.0
JSON, PACKED = Topics("bench"), Topics("packed")
SIDES = {
    "consume": ("consume(1000), dropped", JSON),
    "batches": ("FeatureStream.batches, every column, JSON", JSON),
    "few": ("the same, six columns asked for", JSON),
    "packed": ("the same as the first, rows in msgpack", PACKED),
    "rows": ("FeatureStream, row by row, JSON", JSON),
}


def run() -> None:
    """Measure and print."""
    with broker() as bootstrap:
        log = open_log(f"kafka://{bootstrap}")
        values = feature_values()
        for topics, made in ((JSON, values), (PACKED, [encode(decode(value), "msgpack") for value in values])):
            fill(log, topics, made, ROWS)
        log.close()
        cpu: dict[str, list[float]] = {side: [] for side in SIDES}
        speed: dict[str, list[float]] = {side: [] for side in SIDES}
        thread: dict[str, list[float]] = {side: [] for side in SIDES}
        for _ in range(ROUNDS):
            for side, (_, topics) in SIDES.items():
                answer = child(side, bootstrap, topics.prefix, ROWS, module="benchmarks.client_side")
                cpu[side].append(answer["cpu"] / answer["rows"] * 1e6)
                speed[side].append(answer["rows"] / answer["wall"])
                thread[side].append(answer["thread"] / answer["rows"] * 1e6)
    micros = {side: statistics.median(values) for side, values in cpu.items()}
    rate = {side: statistics.median(values) for side, values in speed.items()}
    alone = {side: statistics.median(values) for side, values in thread.items()}
    rows: list[Sequence[object]] = [
        (
            name,
            f"{rate[side]:,.0f}",
            rate["consume"] / rate[side],
            micros[side],
            micros[side] / micros["consume"],
            alone[side],
            f"{1e6 / alone[side]:,.0f}",
        )
        for side, (name, _) in SIDES.items()
    ]
    size = statistics.fmean(map(len, values))
    title = f"{ROWS} feature rows of {size:.0f} B, {SYMBOLS} keys, {PARTITIONS} partitions"
    report.table(title, ("", "rows/s", "× floor", "µs CPU/row", "× floor", "of the thread", "rows/s of it"), rows)
    report.result(
        "client",
        {
            "batch_rows_per_s": rate["batches"],
            "wanted_rows_per_s": FLOOR_ROWS_S,
            "batch_rows_per_thread_s": 1e6 / alone["batches"],
            "batch_cpu_ratio": micros["batches"] / micros["consume"],
            "batch_wall_ratio": rate["consume"] / rate["batches"],
            "few_columns_rows_per_s": rate["few"],
            "msgpack_rows_per_s": rate["packed"],
            "row_rows_per_s": rate["rows"],
        },
    )


def feature_values(events: int = EVENTS) -> list[bytes]:
    """Feature rows of the history as they are published."""
    topics = Topics("made")
    with tempfile.TemporaryDirectory() as folder:
        log = open_log(f"sqlite:///{Path(folder) / 'log.db'}")
        left = topic.fill(log, topics, SYMBOLS, events, PARTITIONS, LEVELS)
        config = FeatureConfig(hf_emit_interval=0.0)
        runtime = Runtime(log, FeatureProcessor(config, topics, trades=False), topics.raw, "bench", "m")
        while left > 0:
            left -= runtime.turn(0.05)
        runtime.commit()
        runtime.close()
        found = []
        for partition in range(PARTITIONS):
            tp = TopicPartition(topics.features, partition)
            reader = log.reader(tp, 0)
            while batch := reader.read(1000).records:
                found += [record.value for record in batch]
            reader.close()
        log.close()
    return found


def fill(log: Log, topics: Topics, values: Sequence[bytes], count: int) -> None:
    """The values again and again, `count` in all, to their keys' partitions, a transaction for each few thousand."""
    log.create(topics.specs(PARTITIONS, raw_retention_ms=-1))
    writer = log.transactor(f"fill.{topics.prefix}")
    for number, value in enumerate(itertools.islice(itertools.cycle(values), count)):
        key = f"bench|S{number % SYMBOLS:04d}/USDT".encode()
        writer.append(Output(topics.features, key, value, partition=number % PARTITIONS))
        if (number + 1) % COMMIT_ROWS == 0:
            writer.commit()
    writer.commit()
    writer.close()
