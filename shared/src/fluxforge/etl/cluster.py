"""Days of chains as tasks on a Dask cluster, which reads the Bronze and writes the lake itself.

A task is a group of chains and a day, and begins with the checkpoint that the day before ended with; so the days of a
group follow each other, and groups run beside each other. A task that fails or whose worker dies is run again: it finds
what was committed, holds it against its own rows and adds the rest.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from fluxforge.bronze.read import OnError
from fluxforge.clock import DAY, date_of
from fluxforge.errors import ConfigError, SegmentError, StorageError
from fluxforge.etl import checkpoints
from fluxforge.etl.extents import Extent
from fluxforge.etl.task import Job, Progress, Result, Task, process
from fluxforge.files import ChainId

RETRIES = 3
"""Failures of a task before the run fails."""
TIMEOUT_S = 10.0
"""To reach the scheduler."""


class _Done(NamedTuple):
    """What a task did, and the segments it went past."""

    result: Result
    skipped: Sequence[SegmentError]


def on_cluster(job: Job, tasks: Sequence[Task], scheduler: str, on_error: OnError | None, progress: Progress) -> Result:
    """Run the tasks on the cluster of `scheduler`, a URL such as `tcp://10.0.0.5:8786`.

    on_error  told of segments that cannot be read, after their task has gone past them; None: the first one ends it

    Raises ConfigError where there is no cluster or the library is missing; StorageError for a task that keeps failing.
    """
    try:
        dask: Any = importlib.import_module("distributed")
    except ImportError as error:
        raise ConfigError(
            "the Dask engine needs the package distributed",
            hint="pip install 'fluxforge[dask]' here and on the workers",
        ) from error
    try:
        client = dask.Client(scheduler, timeout=TIMEOUT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"no Dask scheduler answers at {scheduler}: {error}", hint="--scheduler tcp://HOST:8786"
        ) from error
    result, total, read = Result(), sum(task.rows for task in tasks), 0
    with client:
        there = frozenset(extent.chain for task in tasks for extent in task.chains)
        futures = []
        for task in tasks:
            before: Any = None
            for pause in _pauses(job, task):
                day = "all" if pause is None else date_of(pause - DAY)
                name = f"etl-{task.chains[0].chain.folder}-{day}-{id(tasks):x}"
                before = client.submit(
                    _day, job, task.chains, there, pause, on_error is not None, before,
                    key=name, retries=RETRIES, pure=False,
                )  # fmt: skip
                futures.append(before)
        try:
            for future in dask.as_completed(futures, loop=client.loop):
                done: _Done = future.result()
                for segment in done.skipped:
                    if on_error is not None:
                        on_error(segment)
                result.add(done.result)
                read += done.result.events
                progress(read, total)
        except dask.KilledWorker as error:
            raise StorageError(
                f"workers of the cluster keep dying: {error}", hint="out of memory? see the workers' logs"
            ) from error
        finally:
            client.cancel(futures)
    return result


def _pauses(job: Job, task: Task) -> Iterator[int | None]:
    """The midnights that end the tasks of a group; None, the end of Bronze, is the last."""
    if not job.verify:
        first = min(extent.captured for extent in task.chains)
        if task.heads:
            first = max(first, task.heads[0].cut)
        last = max(extent.until for extent in task.chains)
        if job.window.until is not None:
            last = min(last, job.window.until)
        yield from range(first - first % DAY + DAY, last + 1, DAY)
    yield None


def _day(
    job: Job,
    chains: Sequence[Extent],
    there: frozenset[ChainId],
    pause: int | None,
    skip: bool,
    _before: object,
) -> _Done:
    """On a worker: the events up to `pause`, from where the day before left off."""
    skipped: list[SegmentError] = []

    def unreadable(error: SegmentError) -> None:
        if not skip:
            raise error
        skipped.append(error)

    heads = [] if job.verify else checkpoints.load(job.lake)
    mine = checkpoints.of_group(heads, {extent.chain for extent in chains}, there)
    return _Done(process(job, Task(chains, mine, pause), unreadable, lambda *_: None), skipped)
