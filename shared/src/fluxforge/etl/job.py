"""Bronze to the lake without a log, by the kernels that the live services run."""

from __future__ import annotations

from collections.abc import Sequence

from fluxforge.bronze.read import OnError, stop
from fluxforge.errors import ConfigError, StorageError
from fluxforge.etl.extents import extents, groups
from fluxforge.etl.share import share
from fluxforge.etl.task import Job, Progress, Result, process
from fluxforge.etl.window import ALL, Window
from fluxforge.kernels.config import BarConfig, FeatureConfig
from fluxforge.lake.layout import claim
from fluxforge.storage import Root

TABLES = ("hf", "bars", "trades", "ticker")
LOCK_TIMEOUT_S = 5.0


def run(
    data: Root,
    output: Root | None = None,
    window: Window = ALL,
    *,
    features: FeatureConfig | None = None,
    bars: BarConfig | None = None,
    tables: Sequence[str] = TABLES,
    workers: int = 1,
    on_error: OnError = stop,
    progress: Progress = lambda *_: None,
) -> Result:
    """Make the lake's rows from `{data}/raw` and write them to `{output or data}/processed`.

    Every chain of Bronze is read, in order of capture time over all of them. A second run continues exactly: rows
    already there are made again, held against what is stored, and not written twice; with nothing new it does nothing.
    A bar that the log's time has not closed is no row.

    window    whose rows are added. They are those of a run over all of Bronze, because what was captured before them
              is read too; they must continue the lake's, or begin it
    workers   processes that share the chains, those of one market together; the rows are the same
    on_error  told of a segment that cannot be read; the default stops there

    Raises StorageError where the output belongs to the live pipeline, to another configuration, or to other events;
    SegmentError for a segment that cannot be read; ConfigError for an unknown table.
    """
    if unknown := set(tables) - set(TABLES):
        raise ConfigError(f"there is no table {', '.join(sorted(unknown))}", hint=f"choose from {', '.join(TABLES)}")
    job = Job(
        data,
        data if output is None else output,
        window,
        features or FeatureConfig(),
        bars or BarConfig(),
        tuple(tables),
    )
    raw, lake = job.raw, job.lake
    found = extents(raw)
    if not found:
        raise StorageError(
            f"{raw.storage.name('')} holds no committed Bronze", hint="import files first, or name the data folder"
        )
    claim(lake, "etl")
    lake.storage.probe()
    lock = lake.storage.lock("_locks/etl.lock", LOCK_TIMEOUT_S)
    try:
        if workers > 1 and len(parts := groups(raw, found)) > 1:
            return share(job, parts, workers, on_error, progress)
        return process(job, found, on_error, progress)
    finally:
        lock.release()
