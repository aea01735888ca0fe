"""Compaction of a day of small files, beside a plain read and write of the same files by pyarrow.

All read every file and write one for each folder, with the same encodings, compression and row groups; the time is CPU
time of all threads. `plain` is pyarrow as it comes, `lean` the same told to use one thread, which costs less CPU.
Compaction also sorts (lake), hashes all rows twice, reads back what it wrote, takes its SHA-256, syncs and keeps the
commit log. Bronze is the recording over and over in batches of 15 minutes, as the sink rolls them; the lake holds rows
as wide as feature rows, in batches of a minute. MB of input are counted as stored, and as Arrow holds them; the target,
100 MB/s of input or a ratio of 1.3, is meant of the Arrow bytes: stored ones are 10 times fewer in Bronze, and in the
lake mostly footers.
"""

from __future__ import annotations

import shutil
import struct
import tempfile
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import history, report
from fluxforge import bronze, rows
from fluxforge.bronze.compaction import LAYOUT as BRONZE
from fluxforge.clock import DAY, MS, NS
from fluxforge.events import BookDelta, BookSnapshot, Trade
from fluxforge.files import Chain, ChainId, CommittedFile, Tree, chains
from fluxforge.files.compact import compact
from fluxforge.files.groups import GROUP_BYTES
from fluxforge.files.history import records
from fluxforge.files.runs import Layout, Options
from fluxforge.kernels.config import FeatureConfig
from fluxforge.lake import LakeWriter, lake_tree
from fluxforge.lake.compaction import LAYOUT as LAKE
from fluxforge.rows import Market

ROUNDS = 3
FIRST = 20_000 * DAY
SEGMENT_NS = 900 * NS
TIMES = 10
"""How often the recording is stored, each time later."""
LAKE_ROWS, LAKE_BATCH, MARKETS = 14_400, 60, 1


def run() -> None:
    """Both trees, all sides."""
    found: dict[str, float | None] = {}
    told = []
    with tempfile.TemporaryDirectory(prefix="fluxforge-bench-") as scratch:
        for name, make, tree_of, layout in (
            ("bronze", make_bronze, bronze.tree, BRONZE),
            ("lake", make_lake, lake_tree, LAKE),
        ):
            folder = Path(scratch) / name
            make(folder / "made")
            tree = tree_of(folder / "made")
            files = [file for chain in chains(tree) for record in records(tree, chain) for file in record.files]
            stored = sum(file.bytes for file in files)
            arrow = sum(table.nbytes for file in files for table in layout.tables(tree, file))

            def fresh(folder: Path = folder) -> None:
                shutil.rmtree(folder / "work", ignore_errors=True)
                shutil.copytree(folder / "made", folder / "work")

            seconds = report.cpu_seconds(
                {
                    "compact": _compaction(tree_of(folder / "work"), layout),
                    "plain": partial(plain, tree, layout, folder / "plain", use_threads=True),
                    "lean": partial(plain, tree, layout, folder / "plain", use_threads=False),
                },
                ROUNDS,
                least=0,
                before={"compact": fresh},
            )
            figures = {
                "ratio": seconds["compact"] / seconds["plain"],
                "lean_ratio": seconds["compact"] / seconds["lean"],
                "arrow_mb_s_core": arrow / seconds["compact"] / 1e6,
                "stored_mb_s_core": stored / seconds["compact"] / 1e6,
            }
            sizes = [f"{stored / 1e6:.1f}", f"{arrow / 1e6:.1f}"]
            told.append([name, len(files), *sizes, *seconds.values(), *figures.values()])
            found |= {f"{name}_{figure}": value for figure, value in figures.items()}
    header = ["tree", "files", "MB stored", "MB Arrow", *seconds, "÷ plain", "÷ lean", "Arrow MB/s", "stored MB/s"]
    report.table(f"Compaction of a day of {history.load().source}: CPU s, all threads", header, told)
    report.result("compact", found)


def _compaction(tree: Tree, layout: Layout) -> Callable[[], None]:
    def work() -> None:
        done = compact(tree, layout, Options(grace_s=0.0))
        assert done.records_before and not done.failed, done.failed

    return work


def plain(tree: Tree, layout: Layout, target: Path, use_threads: bool) -> None:
    """Every folder's rows, read and written by pyarrow alone."""
    folders: dict[str, list[CommittedFile]] = defaultdict(list)
    for chain in chains(tree):
        for record in records(tree, chain):
            for file in record.files:
                folders[file.path.rpartition("/")[0]].append(file)
    target.mkdir(exist_ok=True)
    for number, files in enumerate(folders.values()):
        with (target / f"{number}.parquet").open("wb") as out:
            writer = None
            for table in _groups(_tables(tree, files, use_threads)):
                writer = writer or layout.form(files[0], table.schema).open(out)
                writer.write(table)
            assert writer is not None
            writer.close()


def _tables(tree: Tree, files: list[CommittedFile], use_threads: bool) -> Iterator[pa.Table]:
    for file in files:
        with pq.ParquetFile(tree.storage.name(file.path)) as found:
            for group in range(found.num_row_groups):
                yield found.read_row_group(group, use_threads=use_threads)


def _groups(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """As large row groups as compaction makes."""
    waiting: list[pa.Table] = []
    size = 0
    for table in tables:
        waiting.append(table)
        size += table.nbytes
        if size >= GROUP_BYTES:
            yield pa.concat_tables(waiting).combine_chunks().unify_dictionaries()
            waiting, size = [], 0
    if waiting:
        yield pa.concat_tables(waiting).combine_chunks().unify_dictionaries()


def make_bronze(data: Path) -> None:
    """The recording's diffs, the 20 best levels after each, and its trades."""
    steps = history.load().events
    lap = steps[-1].time_ms - steps[0].time_ms
    with Chain.open(bronze.tree(data), ChainId("bench", "market.raw", 0), first=0) as chain:
        writer = bronze.BronzeWriter(chain)
        offset, rolled = 0, FIRST
        for n in range(TIMES):
            later = FIRST + (n * lap - steps[0].time_ms) * MS
            events = [event for step in steps for event in _events(step, later)]
            while events:
                count = bisect_left(events, rolled + SEGMENT_NS, key=attrgetter("ts"))
                part, events = events[:count], events[count:]
                writer.append([bronze.record_of(event, offset + n) for n, event in enumerate(part)])
                offset += count
                if events:
                    writer.commit(offset)
                    rolled += SEGMENT_NS
        writer.commit(offset)


def _events(step: history.Update | history.Print, later: int) -> Iterator[Any]:
    """`later`: ns."""
    ts = step.time_ms * MS + later
    who: dict[str, Any] = {
        "exchange": "binance", "symbol": "BTC/USDT", "native": "BTCUSDT", "source": "binance", "collector": "c",
        "connection": "x", "ts": ts, "capture_ts": ts + 3_141_592,
    }  # fmt: skip
    if isinstance(step, history.Print):
        raw = b'{"T":%d,"p":"%.2f","q":"%.5f"}' % (step.time_ms, step.price, step.size)
        yield Trade(id=str(step.time_ms), price=step.price, size=step.size, side=int(step.sign), raw=raw, **who)
        return
    yield BookDelta(bids=_blob(step.bids), asks=_blob(step.asks), **who)
    yield BookSnapshot(bids=_blob(step.best_bids[:20]), asks=_blob(step.best_asks[:20]), **who)


def _blob(levels: history.Levels) -> bytes:
    return struct.pack(f"<{2 * len(levels)}d", *(value for level in levels for value in level))


def make_lake(data: Path) -> None:
    """A day of feature rows, one a second and market, a minute to a batch: random walks in every column."""
    table, rng = rows.hf_table(FeatureConfig()), np.random.default_rng(1)
    with LakeWriter.open(lake_tree(data), table, ChainId("bench", "market.features", 0), first=0) as writer:
        for at in range(0, LAKE_ROWS, LAKE_BATCH):
            for number in range(MARKETS):
                market = Market("binance", f"S{number}/USDT", "binance")
                columns = [_column(field, at, rng) for field in table.schema]
                writer.add_table(pa.table(columns, schema=table.schema), [market] * LAKE_BATCH)
            writer.commit(at + LAKE_BATCH)


def _column(field: pa.Field, at: int, rng: np.random.Generator) -> pa.Array:
    if field.name == "timestamp":
        return pa.array(FIRST + (at + np.arange(LAKE_BATCH)) * NS).cast(field.type)
    if pa.types.is_floating(field.type):
        return pa.array(np.round(100 + rng.standard_normal(LAKE_BATCH).cumsum(), 4)).cast(field.type)
    if pa.types.is_string(field.type):
        return pa.array(["word"] * LAKE_BATCH)
    if pa.types.is_list(field.type):
        return pa.array([[1.0, 2.0]] * LAKE_BATCH, field.type)
    return pa.array(at + np.arange(LAKE_BATCH)).cast(field.type, safe=False)
