"""Bronze to the lake without a log, by the kernels that the live services run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from fluxforge.bronze.read import OnError, stop
from fluxforge.cross.config import CrossConfig
from fluxforge.cross.table import check_columns
from fluxforge.errors import ConfigError, StorageError
from fluxforge.etl import checkpoints, passing
from fluxforge.etl.across import Across
from fluxforge.etl.checkpoints import Checkpoint
from fluxforge.etl.cluster import on_cluster
from fluxforge.etl.extents import Extent, extents, groups
from fluxforge.etl.output import lake_chain
from fluxforge.etl.share import share
from fluxforge.etl.task import Job, Progress, Result, Task, process
from fluxforge.etl.window import ALL, Window
from fluxforge.kernels.config import BarConfig, FeatureConfig
from fluxforge.lake.layout import claim
from fluxforge.rows import hf_table
from fluxforge.storage import Root, location

TABLES = ("hf", "bars", "trades", "ticker")
"""What the live pipeline makes too; `fluxforge.etl.passing` has the others."""
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
    scheduler: str | None = None,
    cross: CrossConfig | None = None,
    verify: bool = False,
    on_error: OnError = stop,
    progress: Progress = lambda *_: None,
) -> Result:
    """Make the lake's rows from `{data}/raw` and write them to `{output or data}/processed`.

    The chains of a market are read in order of capture time. A second run continues exactly, from the latest checkpoint
    that Bronze and lake bear out: rows it makes again are held against what is stored, and not written twice. With
    nothing new it does nothing. A bar that the log's time has not closed is no row.

    window    whose rows are added. They are those of a run over all of Bronze, because what was captured before them
              is read too; they must continue the lake's, or begin it
    workers   processes that share the chains, those of one market together; the rows are the same
    scheduler of a Dask cluster that does the work instead, a URL; it must reach both places by the names given here
    cross     make the rows across markets too, from the lake's feature rows once these are committed, in this process;
              None: do not
    verify    begin at the beginning and hold everything that is stored against what is made again
    on_error  told of a segment that cannot be read; the default stops there

    Raises StorageError where the output belongs to the live pipeline, to another configuration, or to other events;
    SegmentError for a segment that cannot be read; ConfigError for an unknown table, an output that names a version,
    feature rows that lack a column of `cross`, or a cluster that does not answer.
    """
    known = (*TABLES, *passing.TABLES)
    if unknown := set(tables) - set(known):
        raise ConfigError(f"there is no table {', '.join(sorted(unknown))}", hint=f"choose from {', '.join(known)}")
    if output is not None and location(output).version is not None:
        raise ConfigError(f"{output} names a version of a lake", hint="`fluxforge reprocess` makes versions")
    features = features or FeatureConfig()
    if cross is not None:
        check_columns(cross, features)
    job = Job(
        data,
        data if output is None else output,
        window,
        features,
        bars or BarConfig(),
        tuple(tables),
        verify,
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
        across = None if cross is None else Across(lake, cross)
        heads = checkpoints.load(lake)
        checkpoints.tidy(lake, heads)
        tasks = tasks_of(groups(raw, found, heads), [] if verify else heads)
        if scheduler is not None:
            result = on_cluster(job, tasks, scheduler, None if on_error is stop else on_error, progress)
        elif workers > 1 and len(tasks) > 1:
            result = share(job, tasks, workers, on_error, progress)
        else:
            result = one_by_one(job, tasks, on_error, progress)
        if across is not None:
            result.add(_across(across, job, found, lambda: progress(result.events, result.events)))
        return result
    finally:
        lock.release()


def _across(across: Across, job: Job, found: Sequence[Extent], turn: Callable[[], None]) -> Result:
    """The rows across markets of what the lake holds now."""
    until: dict[int, int] = {}
    for extent in found:
        own = extent.until if job.window.until is None else min(extent.until, job.window.until)
        until[extent.chain.partition] = max(own, until.get(extent.chain.partition, 0))
    captured = {lake_chain(extent.chain, hf_table(job.features)): extent.captured for extent in found}
    new = across.run(until, captured, verify=job.verify, turn=turn)
    return Result(rows=Counter({"cross": new} if new else {}), behind=across.behind)


def tasks_of(parts: Sequence[Sequence[Extent]], heads: Sequence[Checkpoint]) -> list[Task]:
    """Each group of chains with its checkpoints."""
    there = {extent.chain for part in parts for extent in part}
    return [Task(part, checkpoints.of_group(heads, {extent.chain for extent in part}, there)) for part in parts]


def one_by_one(job: Job, tasks: Sequence[Task], on_error: OnError, progress: Progress) -> Result:
    """All tasks in this process."""
    result, total = Result(), sum(task.rows for task in tasks)
    for task in tasks:
        before = result.events

        def read(done: int, _: int, before: int = before) -> None:
            progress(before + done, total)

        result.add(process(job, task, on_error, read))
    return result
