"""A small live run: a seeded market in a raw topic, what the services make of it in a lake, and its Bronze."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path

from bar_builder.processor import BarProcessor
from feature_engine.processor import FeatureProcessor
from fluxforge import bronze, codec
from fluxforge.clock import MS
from fluxforge.events import AnyEvent
from fluxforge.files import Chain, ChainId
from fluxforge.lake.layout import lake_tree
from fluxforge.lake.role import LakeSink, sources
from fluxforge.log import Log, Output, Record, TopicPartition
from fluxforge.processor import Processor, Runtime
from fluxforge.settings import Settings
from fluxforge.storage import Root
from fluxforge.topics import partition_of
from seeded_market import market

SYMBOLS = ("BTC/USDT", "ETH/USDT", "SOL/USDT")
TABLES = ("hf", "bars", "trades", "ticker")


def run(log: Log, settings: Settings, root: Root, seconds: int = 90, batch: int = 400) -> int:
    """All of it; how many events there were."""
    events = [each for seed, symbol in enumerate(SYMBOLS) for each in market(symbol, seed, seconds)]
    events.sort(key=lambda each: each[0])
    count = record(log, settings, root, (event for _, event in events), batch)
    process(log, settings, root)
    return count


def record(log: Log, settings: Settings, root: Root, events: Iterable[AnyEvent], batch: int = 400) -> int:
    """The events in the raw topic and, in batches of a partition, in Bronze; how many there are."""
    names, count = settings.topic_names(), settings.topics.partitions
    log.create(settings.topic_specs())
    appender, written = log.appender(), 0
    with ExitStack() as open_:
        chains = [ChainId(log.topic_id(names.raw), names.raw, partition) for partition in range(count)]
        writers = [
            bronze.BronzeWriter(open_.enter_context(Chain.open(bronze.tree(root), chain, first=0))) for chain in chains
        ]
        waiting: list[list[Record]] = [[] for _ in chains]
        ends = [0] * count
        for event in events:
            key = event.key.encode()
            partition = partition_of(key, count)
            record = Record(
                partition, ends[partition], event.capture_ts // MS, key, codec.encode(event), codec.headers(event)
            )
            appender.append(Output(names.raw, key, record.value, record.headers, record.timestamp, partition))
            waiting[partition].append(record)
            ends[partition] += 1
            written += 1
            if len(waiting[partition]) == batch:
                writers[partition].append(waiting[partition])
                writers[partition].commit(ends[partition])
                waiting[partition] = []
        for writer, rest, end in zip(writers, waiting, ends, strict=True):
            if rest:
                writer.append(rest)
                writer.commit(end)
    appender.close()
    return written


def process(log: Log, settings: Settings, root: Root) -> None:
    """What the services make of the whole raw topic, in a lake."""
    names, count = settings.topic_names(), settings.topics.partitions
    log.create(settings.topic_specs())
    ends = {p: end for p in range(count) if (end := log.bounds(TopicPartition(names.raw, p)).next)}
    compute(log, settings, lambda group: log.group_offsets(f"{names.prefix}.{group}", names.raw) == ends)
    sink = LakeSink(
        log, lake_tree(root), sources(settings, TABLES), group=f"{names.prefix}.lake", member="1",
        max_bytes=50_000_000, max_age_s=3600.0,
    )  # fmt: skip
    rows = {
        tp: log.bounds(tp).next
        for source in sources(settings, TABLES)
        for tp in (TopicPartition(source.topic, p) for p in range(count))
    }
    while any(sink.positions.get(tp, 0) < end for tp, end in rows.items()):
        sink.step()
    sink.close()


def compute(log: Log, settings: Settings, done: Callable[[str], bool]) -> None:
    """Features, then bars, until each group is `done`."""
    names = settings.topic_names()
    processors: list[Processor] = [
        FeatureProcessor(settings.feature_config(), names), BarProcessor(settings.bar_config(), names)
    ]  # fmt: skip
    for processor in processors:
        group = f"{names.prefix}.{processor.role}"
        runtime = Runtime(log, processor, names.raw, group, "1", commit_interval=0.2)
        while not done(processor.role):
            runtime.turn(0.01)
        runtime.close()


def configure(folder: Path, url: str, prefix: str, **more: object) -> Path:
    """A configuration file with `data` beside it as its storage; `more` are sections."""
    import yaml

    sections = {
        "broker": {"url": url, "prefix": prefix},
        "topics": {"partitions": 3, "raw_retention_hours": -1},
        "processor": {"commit_interval": 0.1},
        "storage": {"input": {"path": str(folder / "data")}, "output": {"path": str(folder / "data")}},
        **more,
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(sections))
    return path
