"""What the sink benchmark runs as processes of their own.

    python -m benchmarks.sink_side SIDE BOOTSTRAP PREFIX PARTITIONS EVENTS FOLDER

prints one JSON line: CPU s from the first record on, or for the memory sides the most MB that were resident.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from benchmarks.children import Clock, consume, decode

from benchmarks import report
from bronze_sink.sink import BronzeSink
from fluxforge import bronze, rows
from fluxforge.bronze.columns import ordinals, to_columns
from fluxforge.files import ChainId
from fluxforge.kernels.config import FeatureConfig
from fluxforge.lake import LakeWriter, lake_tree
from fluxforge.log import RecordColumns, TopicPartition, open_log
from fluxforge.service import leave_pandas_out, spare_the_collector
from fluxforge.topics import Topics

BATCH = 2_000
WARM = 0.25
"""Share of the records that the sink has read before its clock starts: it runs for months, not for a second."""
SECONDS = 60
"""Rows of a key that wait for the lake's commit."""


def main(side: str, bootstrap: str, prefix: str, partitions: str, events: str, folder: str) -> None:
    """Run one side."""
    topics, count = Topics(prefix), int(events)
    match side:
        case "consume":
            consume(bootstrap, topics, int(partitions), count)
        case "decode":
            decode(bootstrap, topics, int(partitions), count)
        case "sink":
            sink(bootstrap, topics, Path(folder))
        case "arrow":
            arrow(bootstrap, topics, int(partitions), Path(folder))
        case "lake_memory":
            lake_memory(count, Path(folder))


def sink(bootstrap: str, topics: Topics, folder: Path) -> None:
    """The sink as it is deployed, and the commit of all it has read; from a quarter of the records on."""
    spare_the_collector()
    leave_pandas_out()
    log = open_log(f"kafka://{bootstrap}")
    tps = [TopicPartition(topics.raw, number) for number in range(log.partitions(topics.raw))]
    ends = {tp: log.bounds(tp).next for tp in tps}
    made = BronzeSink(log, [topics.raw], bronze.tree(folder), group=f"bench.{time.time_ns()}", member="m")
    total = sum(ends.values())
    read = 0
    while read < total * WARM:
        read += made.step(0.05)
    clock = Clock()
    while made.positions != ends:
        made.step(0.05)
    made.close()
    clock.report(events=total - read)
    log.close()


def arrow(bootstrap: str, topics: Topics, partitions: int, folder: Path) -> None:
    """The same rows as tables in memory, written as pyarrow does it by default, with zstd."""
    log = open_log(f"kafka://{bootstrap}")
    tables: dict[tuple[int, str], list[pa.Table]] = {}
    for number in range(partitions):
        reader = log.reader(TopicPartition(topics.raw, number), 0)
        end = log.bounds(TopicPartition(topics.raw, number)).next
        at = 0
        while at < end:
            batch = reader.read(BATCH)
            records, at = RecordColumns.of(batch.records), batch.next_offset
            if not batch.records:
                continue
            for (_, channel), table in to_columns(topics.raw, records, ordinals(records.offsets)).tables.items():
                tables.setdefault((number, channel), []).append(table)
        reader.close()
    log.close()
    whole = {place: pa.concat_tables(parts).unify_dictionaries() for place, parts in tables.items()}
    folder.mkdir(parents=True)
    clock = Clock()
    for (number, channel), table in whole.items():
        pq.write_table(table, folder / f"{channel}.{number}.parquet", compression="zstd")
    clock.report()


def lake_memory(keys: int, folder: Path) -> None:
    """A minute of feature rows of many keys, as the lake role holds and commits them."""
    table = rows.hf_table(FeatureConfig())
    start = 1_700_000_000 * 10**9
    with LakeWriter.open(lake_tree(folder), table, ChainId("log", "market.features", 0), first=0) as writer:
        for second in range(SECONDS):
            writer.add([_feature_row(table, key, start + second * 10**9) for key in range(keys)])
        writer.commit(keys * SECONDS)
    _report_memory()


def _feature_row(table: rows.Table, key: int, at: int) -> dict[str, object]:
    of = {"exchange": "bench", "symbol": f"S{key:04d}/USDT", "source": "bench"}
    values = {
        field.name: 1.0 + key
        if pa.types.is_floating(field.type)
        else "bench"
        if pa.types.is_string(field.type)
        else key
        for field in table.schema
    }
    return {**values, **of, "timestamp": at}


def _report_memory() -> None:
    print(json.dumps({"rss": report.resident_mb(most=True), "cpu": 0.0}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
