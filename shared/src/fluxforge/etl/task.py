"""Chains of Bronze to rows of the lake, in one process."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial

import msgspec
import numpy as np
import zstandard

from fluxforge import bronze
from fluxforge.bronze.read import OnError
from fluxforge.clock import date_of
from fluxforge.errors import StorageError
from fluxforge.etl import checkpoints
from fluxforge.etl.checkpoints import Checkpoint, Mark
from fluxforge.etl.extents import Extent
from fluxforge.etl.gaps import read_batches
from fluxforge.etl.merge import Feed, Merged, merge
from fluxforge.etl.output import Output
from fluxforge.etl.tables import Maker
from fluxforge.etl.window import Window
from fluxforge.files import Tree
from fluxforge.kernels.config import BarConfig, FeatureConfig
from fluxforge.lake.layout import lake_tree
from fluxforge.storage import Root

_log = logging.getLogger(__name__)

COMMIT_BYTES = 64_000_000
"""Arrow bytes of rows that may wait; then everything waiting is committed."""

HELD_BYTES, HELD_WRITERS = 256_000_000, 256
"""What may be held back until all that is stored has been verified; beyond it a run of its own verifies first."""


@dataclass(frozen=True)
class Job:
    """What a run is asked for; the Bronze of `data`, the lake of `output`. `verify` as of `fluxforge.etl.run`."""

    data: Root
    output: Root
    window: Window
    features: FeatureConfig
    bars: BarConfig
    tables: tuple[str, ...]
    verify: bool = False

    @property
    def raw(self) -> Tree:
        return bronze.tree(self.data)

    @property
    def lake(self) -> Tree:
        return lake_tree(self.output)


@dataclass
class Result:
    """What a run did.

    events    read from Bronze
    rows      newly written, by table
    chains    of Bronze that were read; 0 where there was nothing new
    rejected  events among them that gave no features, by reason; they are in Bronze as they came
    late      events that came after their bar had closed
    behind    feature rows that came behind what rows across markets had been made of
    """

    events: int = 0
    rows: Counter[str] = field(default_factory=Counter)
    chains: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    late: int = 0
    behind: int = 0

    def add(self, other: Result) -> None:
        """Take in what another run did."""
        self.events += other.events
        self.chains += other.chains
        self.late += other.late
        self.behind += other.behind
        self.rows.update(other.rows)
        self.rejected.update(other.rejected)


Progress = Callable[[int, int], None]
"""(events read so far, events in all)."""


@dataclass(frozen=True)
class Task:
    """Chains that have a market in common or may have, by first capture time.

    heads  checkpoints over none but these chains, the latest first
    pause  a midnight, ns, where to leave off with a checkpoint; None: go on to the end
    """

    chains: Sequence[Extent]
    heads: Sequence[Checkpoint] = ()
    pause: int | None = None

    @property
    def rows(self) -> int:
        """Of the chains' records that the latest checkpoint has not seen."""
        return sum(extent.rows_from(self._seen(extent)) for extent in self.chains)

    def _seen(self, extent: Extent) -> int:
        mark = self.heads[0].mark(extent.chain) if self.heads else None
        return extent.first if mark is None else mark.reached


def process(job: Job, task: Task, on_error: OnError, progress: Progress) -> Result:
    """Make the rows of these chains and write those that are new. Errors as of `fluxforge.etl.run`."""

    def go(head: Checkpoint | None, **how: bool) -> Result:
        return _Run(job, task, head, on_error, progress, **how).run()

    for head in (*task.heads, None):
        try:
            try:
                return go(head)
            except _HeldTooMuch:
                go(head, dry=True)
                return go(head, hold=False)
        except _Unusable as why:
            _log.info("the checkpoint at %s is of no use: %s", head and date_of(head.cut), why)
    raise AssertionError("without a checkpoint a run has nothing that is of no use")


class _HeldTooMuch(Exception):
    """New rows wait for stored ones, that lie later in time, to be verified."""


class _Unusable(Exception):
    """A checkpoint does not fit what is in Bronze and in the lake now."""


class _Run:
    """One run: feeds, kernels, outputs.

    dry   verify only
    hold  store nothing before all that is stored has been verified
    """

    def __init__(
        self,
        job: Job,
        task: Task,
        head: Checkpoint | None,
        on_error: OnError,
        progress: Progress,
        *,
        dry: bool = False,
        hold: bool = True,
    ) -> None:
        found = task.chains
        self._raw, self._extents, self._on_error, self._progress = job.raw, found, on_error, progress
        self._window, self._dry, self._hold, self._pause = job.window, dry, hold, task.pause
        self._verify = job.verify
        self._maker = Maker(job.features, job.bars, job.tables, [extent.chain.partition for extent in found])
        hashes = {"hf": job.features.hash(), "bars": job.bars.hash()}
        self._lake = job.lake
        self._outputs = [
            [
                Output(self._lake, extent.chain, extent.end, table, hashes.get(table.name, ""), dry=dry)
                for table in self._maker.tables
            ]
            for extent in found
        ]
        self._head, self._heads = head, list(task.heads)
        self._cut = 0 if head is None or len(found) == 1 else head.cut
        """Nothing is to come that counts as captured before this, ns: chains would have to be told in another order."""
        self._feeds = [self._feed(i, None) for i in range(len(found))]
        self._reached = [extent.first for extent in found]
        self._ended: set[int] = set()
        self._waiting = set(range(len(found)))
        """Chains that have not come to what is wanted."""
        self._result = Result()

    def _feed(self, i: int, mark: Mark | None) -> Feed:
        """A chain from its beginning, or from where a checkpoint left it."""
        extent, slot = self._extents[i], self._maker.slot
        read = partial(read_batches, self._raw, extent.chain, slot, end=extent.end, whole=self._maker.reads_all)
        read = partial(read, on_error=self._on_error)
        if mark is None:
            return Feed(i, extent.captured, read)
        renewed = None if mark.renewed is None else frozenset(slot(key, "") for key in mark.renewed)
        begun = mark.reached != extent.first
        return Feed(i, mark.passed, partial(read, start=mark.reached, renewed=renewed, begun=begun), renewed)

    def _resume(self, head: Checkpoint) -> None:
        """Go on where the checkpoint was made. Raises _Unusable."""
        if not self._maker.config.items() <= head.config.items():
            raise _Unusable("it is of another configuration")
        since = self._window.since
        if since is not None and head.cut > since:
            raise _Unusable("it lies behind where what is wanted begins")
        marks = [head.mark(extent.chain) for extent in self._extents]
        for mark, extent, outputs in zip(marks, self._extents, self._outputs, strict=True):
            if mark is None and extent.captured < head.cut:
                raise _Unusable(f"{extent.chain} has earlier events")
            if mark is None:
                continue
            if mark.reached > extent.end:
                raise _Unusable(f"Bronze ends at offset {extent.end} of {extent.chain}")
            wanted = since is None and mark.reached > extent.first
            if not all(output.fits(mark.reached, wanted=wanted) for output in outputs):
                raise _Unusable(f"the lake has other batches of {extent.chain}")
        try:
            self._maker.restore(checkpoints.read_states(self._lake, head))
        except (OSError, StorageError, ValueError, msgspec.MsgspecError, zstandard.ZstdError) as error:
            raise _Unusable(str(error)) from error
        for i, mark in enumerate(marks):
            if mark is not None:
                self._reached[i] = max(mark.reached, self._extents[i].first)
                self._feeds[i] = self._feed(i, mark)
                for output in self._outputs[i]:
                    output.resume(mark.reached)

    def run(self) -> Result:
        if not self._verify and all(output.complete for outputs in self._outputs for output in outputs):
            return self._result
        if self._head is not None:
            self._resume(self._head)
        if self._window.since is None:
            for i, extent in enumerate(self._extents):
                self._begin(i, extent.first)
        self._result.chains = len(self._extents)
        total = sum(extent.rows_from(at) for extent, at in zip(self._extents, self._reached, strict=True))
        feeds = self._feeds
        reading = set(range(len(feeds)))
        with ExitStack() as stack:
            for output in self._all():
                stack.callback(output.close)
            for merged in merge(feeds, self._keep):
                if self._pause is not None and merged.keys[0] >= self._pause:
                    break
                if merged.keys[0] < self._cut:
                    raise _Unusable("Bronze has got earlier events since")
                self._take(merged)
                self._progress(self._result.events, total)
                ended = {i for i in reading if feeds[i].done and not feeds[i].holds}
                reading -= ended
                self._settle(reading, ended)
                if self._past(merged) and (self._verified() or self._nothing_new()):
                    for i in reading:
                        self._commit(i)
                    break
            else:
                self._settle(set(), reading)
                if self._window.until is None and self._result.events:
                    self._keep(max(feed.passed for feed in feeds) + 1)
        self._result.rejected, self._result.late = self._maker.rejected, self._maker.late
        return self._result

    def _begin(self, i: int, first: int) -> None:
        """The chain comes to what is wanted."""
        self._waiting.discard(i)
        for output in self._outputs[i]:
            output.begin(first, self._reached[i])

    def _verified(self) -> bool:
        return all(output.verified for output in self._all())

    def _nothing_new(self) -> bool:
        return not self._dry and not any(output.is_open for output in self._all())

    def _past(self, merged: Merged) -> bool:
        """Nothing that is wanted comes behind this batch."""
        return self._window.until is not None and int(merged.keys[-1]) >= self._window.until

    def _bound(self, merged: Merged, i: int) -> None:
        """Find where what is wanted of a chain begins and ends."""
        mine = merged.chain == i
        keys, offsets = merged.keys[mine], merged.batch.events["offset"][mine]
        since, until = self._window.since, self._window.until
        if i in self._waiting and since is not None and keys[-1] >= since:
            at = int(np.searchsorted(keys, since))
            if at:
                self._reached[i] = int(offsets[at - 1]) + 1
            self._begin(i, int(offsets[at]))
        if until is not None and until <= keys[-1]:
            for output in self._outputs[i]:
                output.stop(int(offsets[np.searchsorted(keys, until)]))

    def _all(self) -> Iterator[Output]:
        return (output for outputs in self._outputs for output in outputs)

    def _settle(self, reading: set[int], ended: set[int]) -> None:
        """Verify what has come out again; store what is new, once nothing stored is left to verify."""
        for i in ended:
            self._reached[i] = self._extents[i].end  # holes behind the last event included
        for i in reading | ended:
            for output in self._outputs[i]:
                output.verify(self._reached[i])
        self._ended |= ended
        waiting = sum(output.bytes for output in self._all())
        if self._dry:
            return
        if self._hold and not self._verified():
            if waiting >= HELD_BYTES or sum(output.is_open for output in self._all()) > HELD_WRITERS:
                raise _HeldTooMuch
            return
        for i in self._ended:
            self._commit(i)
            for output in self._outputs[i]:
                output.close()
        self._ended.clear()
        if waiting >= COMMIT_BYTES:
            for i in reading:
                self._commit(i)

    def _keep(self, cut: int) -> None:
        """Make a checkpoint of what has been processed, all that was captured before `cut`, and commit it before."""
        if self._dry or (self._hold and not self._verified()):
            return
        for i in range(len(self._extents)):
            self._commit(i)
        key = self._maker.key
        marks = [
            Mark(
                extent.chain,
                reached,
                feed.passed,
                None if feed.renewed is None else tuple(sorted(map(key, feed.renewed))),
            )
            for extent, reached, feed in zip(self._extents, self._reached, self._feeds, strict=True)
        ]
        head = checkpoints.save(self._lake, cut, self._maker.config, marks, self._maker.save())
        self._heads.append(head)
        self._heads = checkpoints.prune(self._lake, self._heads)

    def _take(self, merged: Merged) -> None:
        """Run one batch and hand each row to the output of its event's chain."""
        events = merged.batch.events
        self._result.events += len(events)
        present = np.unique(merged.chain).tolist()
        for i in present:
            self._bound(merged, i)
        for made in self._maker.run(merged):
            chain_of_row = merged.chain[made.event]
            for i in np.unique(chain_of_row).tolist():
                mine = np.flatnonzero(chain_of_row == i)
                whole = len(mine) == len(chain_of_row)
                part = made.rows if whole else made.rows.take(mine)
                markets = made.markets if whole else made.markets.at(mine)
                self._output(i, made.table.name).add(part, markets)
        for i in present:
            self._reached[i] = int(events["offset"][merged.chain == i].max()) + 1

    def _output(self, i: int, table: str) -> Output:
        return next(output for output in self._outputs[i] if output.table.name == table)

    def _commit(self, i: int) -> None:
        for output in self._outputs[i]:
            record = output.commit(self._reached[i])
            if record is not None:
                self._result.rows[output.table.name] += record.rows
