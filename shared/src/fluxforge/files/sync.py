"""Committed batches of one tree into another: at every moment the target is a valid tree.

Record by record, in order: first every file of it, each read, hashed and compared with the record before it can be
seen, then the record itself, byte for byte, by exclusive create. What stands at the target already is compared and
left alone, so a run that was cut off is simply made again. Of a compaction the merged record is copied; what it
replaces at the target goes as there (`fluxforge.files.settle`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from threading import Event, Lock
from uuid import uuid4

from fluxforge.errors import FluxForgeError, StorageError
from fluxforge.files import history
from fluxforge.files.commit import ChainId
from fluxforge.files.selection import LEFT_OUT
from fluxforge.files.storage import Leftover, Step, Tree, no_step
from fluxforge.files.sync_chain import ChainSync
from fluxforge.files.sync_plan import Options
from fluxforge.files.transfer import Transfer

__all__ = ["Options", "Progress", "Result", "sync"]

Progress = Callable[[int, int], None]
"""Bytes done, and of how many."""


@dataclass
class Result:
    """What was copied; of a dry run, what would be.

    already      records that stood at the target
    left_out     files of copied records that no pattern meant
    gap_offsets  how many offsets the copied records say are lost
    deleted      records dropped from the source
    failed       what could not be done, chain by chain; what came before it in its chain is done
    """

    chains: int = 0
    records: int = 0
    files: int = 0
    bytes: int = 0
    already: int = 0
    left_out: int = 0
    gap_offsets: int = 0
    deleted: int = 0
    failed: list[str] = field(default_factory=list)


def sync(
    source: Tree,
    target: Tree,
    options: Options | None = None,
    *,
    progress: Progress = lambda done, of: None,
    step: Step = no_step,
) -> Result:
    """Bring every chain of `source` to `target`. An error of a chain is told in the result, the others go on.

    Raises StorageError where both are one place, or where one of them cannot be listed; ValueError for `delete_after`
    of a part.
    """
    options = options or Options()
    if options.delete_after and options.patterns:
        raise ValueError("what patterns leave out has no copy, so nothing can be deleted")
    if not options.dry_run and _one_place(source, target):
        raise StorageError(f"{source} is source and target", hint="name another place to sync to")
    return _Run(source, target, options, progress, step).run()


def _one_place(source: Tree, target: Tree) -> bool:
    """Whether what is written to one stands in the other, whatever they are called."""
    mark = f"_locks/{uuid4().hex}.probe"
    target.storage.create(mark, b"")
    try:
        return source.storage.size(mark) is not None
    finally:
        target.storage.remove([mark])


class _Run:
    """One sync of one tree."""

    def __init__(self, source: Tree, target: Tree, options: Options, progress: Progress, step: Step) -> None:
        self._source, self._target, self._options, self._progress, self._step = source, target, options, progress, step
        self._result, self._lock, self._stop = Result(), Lock(), Event()
        self._done = self._total = 0

    def run(self) -> Result:
        chains = history.chains(self._source)
        with (
            ThreadPoolExecutor(self._options.workers, "sync-file") as files,
            ThreadPoolExecutor(self._options.workers, "sync-chain") as pool,
        ):
            transfer = Transfer(self._source, self._target, self._moved, self._stop, self._step)
            try:
                made = [
                    ChainSync(self._source, self._target, chain, self._options, transfer, files) for chain in chains
                ]
                planned = self._each(pool, made, self._plan)
                self._result.chains = len(chains)
                if not self._options.dry_run:
                    drafts = self._target.storage.leftovers(self._target)
                    copied = self._each(pool, planned, lambda chain: self._copy(chain, drafts))
                    if self._options.delete_after:
                        self._each(pool, copied, self._delete)
            except BaseException:
                self._stop.set()
                files.shutdown(wait=False, cancel_futures=True)
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return self._result

    def _each(
        self, pool: ThreadPoolExecutor, chains: Iterable[ChainSync], work: Callable[[ChainSync], None]
    ) -> list[ChainSync]:
        """Those it went well with."""
        running: dict[Future[None], ChainSync] = {pool.submit(work, chain): chain for chain in chains}
        well = []
        for future in as_completed(running):
            try:
                future.result()
                well.append(running[future])
            except (FluxForgeError, FileNotFoundError, FileExistsError) as error:
                self._result.failed.append(f"{_named(running[future].id)}: {error}")
        return well

    def _plan(self, chain: ChainSync) -> None:
        plan = chain.plan()
        with self._lock:
            self._total += plan.bytes
            self._result.already += plan.already
            if self._options.dry_run:
                self._result.records += len(plan.places) + (plan.gap is not None)
                self._result.gap_offsets += plan.gap_offsets
                self._result.files += plan.files
                self._result.bytes += plan.bytes
                self._result.left_out += plan.left_out

    def _copy(self, chain: ChainSync, drafts: list[Leftover]) -> None:
        for record in chain.copy(drafts, self._step):
            with self._lock:
                self._result.records += 1
                self._result.files += len(record.files)
                self._result.gap_offsets += 0 if record.gap is None else record.gap.next - record.gap.first
                self._result.bytes += sum(file.bytes for file in record.files)
                self._result.left_out += record.meta.get(LEFT_OUT, {}).get("files", 0)

    def _delete(self, chain: ChainSync) -> None:
        deleted = chain.delete(self._step)
        with self._lock:
            self._result.deleted += deleted

    def _moved(self, count: int) -> None:
        with self._lock:
            self._done += count
            self._total = max(self._total, self._done)
            self._progress(self._done, self._total)


def _named(chain: ChainId) -> str:
    return f"{chain.topic}[{chain.partition}] of log {chain.log_id}"
