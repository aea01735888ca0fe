"""Chains of Bronze to rows of the lake, in one process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from fluxforge import bronze
from fluxforge.bronze import BronzeBatch
from fluxforge.bronze.read import OnError
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

COMMIT_BYTES = 64_000_000
"""Arrow bytes of rows that may wait; then everything waiting is committed."""

HELD_BYTES, HELD_WRITERS = 256_000_000, 256
"""What may be held back until all that is stored has been verified; beyond it a run of its own verifies first."""


@dataclass(frozen=True)
class Job:
    """What a run is asked for; the Bronze of `data`, the lake of `output`."""

    data: Root
    output: Root
    window: Window
    features: FeatureConfig
    bars: BarConfig
    tables: tuple[str, ...]

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
    """

    events: int = 0
    rows: Counter[str] = field(default_factory=Counter)
    chains: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    late: int = 0

    def add(self, other: Result) -> None:
        """Take in what another run did."""
        self.events += other.events
        self.chains += other.chains
        self.late += other.late
        self.rows.update(other.rows)
        self.rejected.update(other.rejected)


Progress = Callable[[int, int], None]
"""(events read so far, events in all)."""


def process(job: Job, found: Sequence[Extent], on_error: OnError, progress: Progress) -> Result:
    """Make the rows of these chains and write those that are new. Errors as of `fluxforge.etl.run`."""

    def go(**how: bool) -> Result:
        return _Run(job, found, on_error, progress, **how).run()

    try:
        return go()
    except _HeldTooMuch:
        go(dry=True)
        return go(hold=False)


class _HeldTooMuch(Exception):
    """New rows wait for stored ones, that lie later in time, to be verified."""


class _Run:
    """One run: feeds, kernels, outputs.

    dry   verify only
    hold  store nothing before all that is stored has been verified
    """

    def __init__(
        self,
        job: Job,
        found: Sequence[Extent],
        on_error: OnError,
        progress: Progress,
        *,
        dry: bool = False,
        hold: bool = True,
    ) -> None:
        self._raw, self._extents, self._on_error, self._progress = job.raw, found, on_error, progress
        self._window, self._dry, self._hold = job.window, dry, hold
        self._maker = Maker(job.features, job.bars, job.tables, [extent.chain.partition for extent in found])
        hashes = {"hf": job.features.hash(), "bars": job.bars.hash()}
        lake = job.lake
        self._outputs = [
            [
                Output(lake, extent.chain, extent.end, table, hashes.get(table.name, ""), dry=dry)
                for table in self._maker.tables
            ]
            for extent in found
        ]
        self._reached = [extent.first for extent in found]
        self._ended: set[int] = set()
        self._waiting = set(range(len(found)))
        """Chains that have not come to what is wanted."""
        if job.window.since is None:
            for i, extent in enumerate(found):
                self._begin(i, extent.first)
        self._result = Result()

    def run(self) -> Result:
        if all(output.complete for outputs in self._outputs for output in outputs):
            return self._result
        self._result.chains = len(self._extents)
        total = sum(extent.rows for extent in self._extents)
        feeds = [Feed(i, extent.captured, partial(self._read, i)) for i, extent in enumerate(self._extents)]
        reading = set(range(len(feeds)))
        with ExitStack() as stack:
            for output in self._all():
                stack.callback(output.close)
            for merged in merge(feeds):
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

    def _read(self, i: int) -> Iterator[BronzeBatch]:
        return read_batches(self._raw, self._extents[i].chain, self._maker.slot, on_error=self._on_error)

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
                markets = made.markets if whole else [made.markets[row] for row in mine.tolist()]
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
