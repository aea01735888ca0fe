"""Thresholds and volumes of single markets hold in the runtime too: its rows are those of the bare kernels."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bar_builder.processor import BarProcessor
from feature_engine.processor import FeatureProcessor
from fluxforge import codec, rows
from fluxforge.batch import build
from fluxforge.events import AnyEvent
from fluxforge.kernels.bars import BarKernel
from fluxforge.kernels.config import DEFAULT, BarConfig, FeatureConfig, for_key
from fluxforge.kernels.features import FeatureKernel
from fluxforge.log import Log, Output, TopicPartition, open_log
from fluxforge.processor import Processor, Runtime
from fluxforge.topics import Topics
from seeded_market import MS, market

TOPICS = Topics("own")
FEATURES = FeatureConfig(
    horizons=(1, 3),
    impact_window=20,
    vpin_buckets=3,
    vpin_volume=2.0,
    vpin_volumes=(("S1/USDT", 5.0), ("sim|S0/USDT", 1.1)),
)
BARS = BarConfig(
    durations=(1, 30),
    information=(
        ("tick", DEFAULT, 7.0),
        ("tick", "sim|S0/USDT", 3.0),
        ("volume", "S1/USDT", 3.1),
        ("dollar", "sim|S1/USDT", 250.0),
        ("tick_imbalance", DEFAULT, 2.0),
    ),
)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    log = open_log(f"sqlite:///{tmp_path / 'log.db'}")
    log.create(TOPICS.specs(2, raw_retention_ms=-1))
    streams = [market(f"S{i}/USDT", i, 90) for i in range(3)]
    appender = log.appender()
    for time, event in sorted((item for stream in streams for item in stream), key=lambda item: item[0]):
        appender.append(Output(TOPICS.raw, event.key.encode(), codec.encode(event), codec.headers(event), time // MS))
    appender.close()
    yield log
    log.close()


def records(log: Log, topic: str) -> Iterator[tuple[int, int, bytes]]:
    """Partition, offset and value of every record."""
    for partition in range(log.partitions(topic)):
        first, end = log.bounds(TopicPartition(topic, partition))
        reader = log.reader(TopicPartition(topic, partition), first)
        while first < end:
            batch = reader.read(1000)
            first = batch.next_offset
            yield from ((partition, record.offset, record.value) for record in batch.records)
        reader.close()


def published(log: Log, topic: str) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for *_, value in records(log, topic):
        row = rows.decode(value)
        found.setdefault(row["symbol"], []).append(row)
    return found


def computed(log: Log) -> tuple[dict[str, list[dict[str, Any]]], dict[str, list[dict[str, Any]]]]:
    """Feature rows and bars by symbol, each market in a kernel and one call of its own."""
    logs: dict[str, tuple[list[AnyEvent], list[int], int]] = {}
    for partition, offset, value in records(log, TOPICS.raw):
        event = codec.decode(value)
        events, offsets, _ = logs.setdefault(event.key, ([], [], partition))
        events.append(event)
        offsets.append(offset)
    features, bars = {}, {}
    for key, (events, offsets, partition) in logs.items():
        of_features, of_bars = FeatureKernel(FEATURES), BarKernel(BARS)
        batch = build(events, [of_features.arena.slot(key)] * len(events), offsets)
        assert of_bars.arena.slot(key) == 0
        made, closed = of_features.run(batch), of_bars.run(batch)
        market_of = rows.Market(events[0].exchange, events[0].symbol, events[0].source)
        columns = rows.hf_columns(FEATURES, made, batch, partition)
        features[market_of.symbol] = as_published(columns, market_of, len(made.rows))
        bars[market_of.symbol] = as_published(rows.bar_columns(closed, batch, partition), market_of, len(closed.bars))
    return features, bars


def as_published(columns: rows.Columns, market_of: rows.Market, count: int) -> list[dict[str, Any]]:
    return [rows.decode(rows.encode(row)) for row in rows.to_rows(columns, [market_of] * count)]


def disturbed(log: Log, url: str, processor: Processor) -> None:
    """Through the runtime, with workers that are abandoned on the way."""
    rng = random.Random(4)
    for _ in range(6):
        worker = open_log(url)
        runtime = Runtime(
            worker, processor, TOPICS.raw, processor.role, "1",
            commit_interval=0.0, snapshot_interval=rng.choice([0.0, 1e9]),
        )  # fmt: skip
        for _ in range(rng.randint(1, 2)):
            runtime.turn(0.01)
        del runtime
    runtime = Runtime(log, processor, TOPICS.raw, processor.role, "1")
    ends = {p: log.bounds(TopicPartition(TOPICS.raw, p)).next for p in range(log.partitions(TOPICS.raw))}
    while log.group_offsets(processor.role, TOPICS.raw) != {p: end for p, end in ends.items() if end}:
        runtime.turn(0.01)
        runtime.commit()
    runtime.close()


def test_the_runtime_gives_each_market_its_own(log: Log, tmp_path: Path) -> None:
    for processor in (FeatureProcessor(FEATURES, TOPICS), BarProcessor(BARS, TOPICS)):
        disturbed(log, f"sqlite:///{tmp_path / 'log.db'}", processor)
    features, bars = computed(log)
    assert published(log, TOPICS.features) == features
    assert published(log, TOPICS.bars) == bars
    types = {symbol: {row["bar_type"] for row in found} for symbol, found in bars.items()}
    assert types == {
        "S0/USDT": {"time", "tick", "tick_imbalance"},
        "S1/USDT": {"time", "tick", "volume", "dollar", "tick_imbalance"},
        "S2/USDT": {"time", "tick", "tick_imbalance"},
    }
    ticks = {symbol: {r["trade_count"] for r in found if r["bar_type"] == "tick"} for symbol, found in bars.items()}
    assert ticks == {"S0/USDT": {3}, "S1/USDT": {7}, "S2/USDT": {7}}
    assert all(any(row["vpin"] is not None for row in found) for found in features.values())


def test_a_key_comes_before_a_symbol_before_the_default() -> None:
    given = {"sim|S/T": 1.0, "S/T": 2.0, "x|BTC/USDT:USDT": 3.0}
    assert [for_key(key, given, 9.0) for key in ("sim|S/T", "4:sim|S/T", "x|S/T", "12:x|S/T", "sim|U/T")] == [
        *[1.0, 1.0, 2.0, 2.0, 9.0]
    ]
    assert [for_key(key, given, 9.0) for key in ("x|BTC/USDT:USDT", "0:x|BTC/USDT:USDT", "0:y|BTC/USDT:USDT")] == [
        *[3.0, 3.0, 9.0]
    ]
