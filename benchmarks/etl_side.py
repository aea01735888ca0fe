"""What the etl benchmark runs as processes of their own.

    python -m benchmarks.etl_side SIDE ROOT OUTPUT

prints one JSON line: CPU s and wall s, events, and the most MB that were resident. SIDE is `kernel`, a number of
workers, whose CPU and memory are then not counted, or `polars`, for which ROOT is a file of ready books and trades.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import polars as pl
from benchmarks.children import Clock
from benchmarks.peers import polars_batch

from benchmarks import report
from fluxforge import bronze, etl
from fluxforge.bronze.read import stop
from fluxforge.etl.extents import extents
from fluxforge.etl.gaps import read_batches
from fluxforge.etl.merge import Feed, merge
from fluxforge.kernels.bars import BarKernel
from fluxforge.kernels.config import BarConfig, FeatureConfig
from fluxforge.kernels.features import FeatureKernel

WARM_EVENTS = 1_000
EMIT_MS = 1_000


def main(side: str, root: str, output: str) -> None:
    """Run one side."""
    if side == "kernel":
        kernel(Path(root))
        return
    if side == "polars":
        polars(Path(root), Path(output))
        return
    clock = Clock()
    made = etl.run(Path(root), Path(output), workers=int(side))
    clock.report(events=made.events, rss=report.resident_mb(most=True))


def polars(events: Path, output: Path) -> None:
    """The features by Polars, from a Parquet file into one."""
    output.mkdir()
    clock = Clock()
    raw = pl.read_parquet(events)
    polars_batch.features(raw, EMIT_MS).write_parquet(output / "hf.parquet")
    clock.report(events=len(raw), rss=report.resident_mb(most=True))


def kernel(root: Path) -> None:
    """Both kernels over the batches that the job makes, which lie in memory."""
    raw = bronze.tree(root)
    features, bars = FeatureKernel(FeatureConfig()), BarKernel(BarConfig())

    def slot(key: str, _source: str) -> int:
        bars.arena.slot(key)
        return features.arena.slot(key)

    found = extents(raw)
    feeds = [
        Feed(i, extent.captured, partial(read_batches, raw, extent.chain, slot, on_error=stop))
        for i, extent in enumerate(found)
    ]
    ready = [merged.batch for merged in merge(feeds)]
    fresh, keys = (FeatureKernel(FeatureConfig()), BarKernel(BarConfig())), features.arena.keys()
    for compiled in fresh:  # their machine code is loaded
        for key in keys:
            compiled.arena.slot(key)
        compiled.run(ready[0]._replace(events=ready[0].events[:WARM_EVENTS]))
    clock = Clock()
    for batch in ready:
        features.run(batch)
        bars.run(batch)
    clock.report(events=sum(len(batch.events) for batch in ready), rss=report.resident_mb(most=True))


if __name__ == "__main__":
    main(*sys.argv[1:])
