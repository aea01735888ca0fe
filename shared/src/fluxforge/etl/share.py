"""Groups of chains shared among processes; a group whose process dies is done again.

A group's rows are committed chain by chain under the chains' own locks, so that a process which takes over from a dead
one finds what that committed, holds it against its own rows and adds the rest.
"""

from __future__ import annotations

import multiprocessing as mp
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from fluxforge.bronze.read import OnError
from fluxforge.errors import SegmentError, StorageError
from fluxforge.etl.task import Job, Progress, Result, Task, process

ATTEMPTS = 3
"""Deaths of its process that a group may cost."""


@dataclass
class _Group:
    """One task; `read` counts its events so far, `deaths` the processes that died of it."""

    task: Task
    read: int = 0
    deaths: int = 0


class _Worker:
    """A process, and the group it has in hand."""

    def __init__(self, job: Job, group: _Group) -> None:
        self.pipe, theirs = mp.get_context("spawn").Pipe()
        self.process: SpawnProcess = mp.get_context("spawn").Process(target=_work, args=(job, theirs), daemon=True)
        self.process.start()
        theirs.close()
        self.take(group)

    def take(self, group: _Group) -> None:
        self.group = group
        self.pipe.send(group.task)

    def end(self) -> None:
        """Whatever it does, it does no more."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


def share(job: Job, tasks: Sequence[Task], workers: int, on_error: OnError, progress: Progress) -> Result:
    """Process the groups in `workers` processes. Errors as of `fluxforge.etl.run`; the first one ends all processes.

    Rows in the result are those that processes reported, without what a dead one had committed.
    """
    groups = [_Group(task) for task in tasks]
    total = sum(task.rows for task in tasks)
    result = Result()
    waiting = groups[::-1]
    busy = [_Worker(job, waiting.pop()) for _ in range(min(workers, len(waiting)))]
    try:
        while busy:
            ready = wait([worker.pipe for worker in busy])
            for worker in [worker for worker in busy if worker.pipe in ready]:
                try:
                    what, told = worker.pipe.recv()
                except (EOFError, OSError):
                    busy.remove(worker)
                    worker.end()
                    busy.append(_Worker(job, _again(worker.group)))
                    continue
                if what == "unreadable":
                    worker.pipe.send(_verdict(on_error, told))
                elif what == "failed":
                    raise told
                elif what == "read":
                    worker.group.read = told
                    progress(sum(group.read for group in groups), total)
                else:
                    result.add(told)
                    if waiting:
                        worker.take(waiting.pop())
                    else:
                        busy.remove(worker)
                        worker.end()
    finally:
        for worker in busy:
            worker.end()
    return result


def _again(group: _Group) -> _Group:
    """The group of a process that died. Raises StorageError where it keeps on happening."""
    group.deaths += 1
    group.read = 0
    if group.deaths >= ATTEMPTS:
        raise StorageError(
            f"{group.deaths} processes died over {', '.join(extent.chain.folder for extent in group.task.chains)}",
            hint="out of memory? take fewer --workers; --workers 1 shows what happens",
        )
    return group


def _verdict(on_error: OnError, error: SegmentError) -> SegmentError | None:
    """What the caller says to a segment that cannot be read: what it raises, or None to go on."""
    try:
        on_error(error)
    except SegmentError as refused:
        return refused
    return None


def _work(job: Job, pipe: Connection) -> None:
    """A process: group after group, until the pipe ends."""

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one who started us gets it too, and ends us

    def ask(error: SegmentError) -> None:
        pipe.send(("unreadable", error))
        if (refused := pipe.recv()) is not None:
            raise refused

    while True:
        try:
            task = pipe.recv()
            pipe.send(("done", process(job, task, ask, lambda done, _: pipe.send(("read", done)))))
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return  # nobody is left to tell
        except Exception as error:  # raised again where it can be told
            pipe.send(("failed", error))
