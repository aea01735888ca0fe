"""Bronze to the lake without a log, by the kernels that the live services run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import numpy as np

from fluxforge import bronze
from fluxforge.bronze import BronzeBatch
from fluxforge.bronze.read import OnError, stop
from fluxforge.errors import ConfigError, StorageError
from fluxforge.etl.merge import Feed, Merged, merge
from fluxforge.etl.output import Output
from fluxforge.etl.tables import Maker
from fluxforge.files import ChainId, Tree, chains, records
from fluxforge.kernels.config import BarConfig, FeatureConfig
from fluxforge.lake.layout import claim, lake_tree
from fluxforge.storage import Root

TABLES = ("hf", "bars", "trades", "ticker")
COMMIT_BYTES = 64_000_000
"""Arrow bytes of rows that may wait; then everything waiting is committed."""

HELD_BYTES, HELD_WRITERS = 256_000_000, 256
"""What may be held back until all that is stored has been verified; beyond it a run of its own verifies first."""

LOCK_TIMEOUT_S = 5.0


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


@dataclass(frozen=True)
class Extent:
    """One Bronze chain as far as it is committed: offsets [first, end), `captured` from ns on, `rows` in all."""

    chain: ChainId
    first: int
    end: int
    captured: int
    rows: int


Progress = Callable[[int, int], None]
"""(events read so far, events in all)."""


def run(
    data: Root,
    output: Root | None = None,
    mode: Literal["all"] = "all",
    *,
    features: FeatureConfig | None = None,
    bars: BarConfig | None = None,
    tables: Sequence[str] = TABLES,
    on_error: OnError = stop,
    progress: Progress = lambda *_: None,
) -> Result:
    """Make the lake's rows from `{data}/raw` and write them to `{output or data}/processed`.

    Every chain of Bronze is read, in order of capture time over all of them. A second run continues exactly: rows
    already there are made again, held against what is stored, and not written twice; with nothing new it does nothing.
    A bar that the log's time has not closed is no row.

    on_error  told of a segment that cannot be read; the default stops there

    Raises StorageError where the output belongs to the live pipeline, to another configuration, or to other events;
    SegmentError for a segment that cannot be read; ConfigError for an unknown mode or table.
    """
    if mode != "all":
        raise ConfigError(f"etl mode {mode!r} is not in this version", hint="use --mode all")
    if unknown := set(tables) - set(TABLES):
        raise ConfigError(f"there is no table {', '.join(sorted(unknown))}", hint=f"choose from {', '.join(TABLES)}")
    features, bars = features or FeatureConfig(), bars or BarConfig()
    raw, lake = bronze.tree(data), lake_tree(output if output is not None else data)
    found = extents(raw)
    if not found:
        raise StorageError(
            f"{raw.storage.name('')} holds no committed Bronze", hint="import files first, or name the data folder"
        )
    claim(lake, "etl")
    lake.storage.probe()
    lock = lake.storage.lock("_locks/etl.lock", LOCK_TIMEOUT_S)

    def go(**how: bool) -> Result:
        return _Run(raw, lake, found, features, bars, tables, on_error, progress, **how).run()

    try:
        return go()
    except _HeldTooMuch:
        go(dry=True)
        return go(hold=False)
    finally:
        lock.release()


class _HeldTooMuch(Exception):
    """New rows wait for stored ones, that lie later in time, to be verified."""


def extents(raw: Tree) -> list[Extent]:
    """Bronze's chains by first capture time."""
    found = []
    for chain in chains(raw):
        stored = records(raw, chain)
        captured = [record.first_ts for record in stored if record.first_ts is not None]
        if captured:
            rows = sum(record.rows for record in stored)
            found.append(Extent(chain, stored[0].start, stored[-1].next_offset, min(captured), rows))
    return sorted(found, key=lambda extent: (extent.captured, extent.chain))


class _Run:
    """One run: feeds, kernels, outputs.

    dry   verify only
    hold  store nothing before all that is stored has been verified
    """

    def __init__(
        self,
        raw: Tree,
        lake: Tree,
        found: Sequence[Extent],
        features: FeatureConfig,
        bars: BarConfig,
        tables: Sequence[str],
        on_error: OnError,
        progress: Progress,
        *,
        dry: bool = False,
        hold: bool = True,
    ) -> None:
        self._raw, self._extents, self._on_error, self._progress = raw, found, on_error, progress
        self._dry, self._hold = dry, hold
        self._maker = Maker(features, bars, tables, [extent.chain.partition for extent in found])
        hashes = {"hf": features.hash(), "bars": bars.hash()}
        self._outputs = [
            [
                Output(lake, extent.chain, extent.first, extent.end, table, hashes.get(table.name, ""), dry=dry)
                for table in self._maker.tables
            ]
            for extent in found
        ]
        self._reached = [extent.first for extent in found]
        self._ended: set[int] = set()
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
            self._settle(set(), reading)
        self._result.rejected, self._result.late = self._maker.rejected, self._maker.late
        return self._result

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
        if self._hold and not all(output.verified for output in self._all()):
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
        return bronze.read_batches(self._raw, self._extents[i].chain, self._maker.slot, on_error=self._on_error)

    def _take(self, merged: Merged) -> None:
        """Run one batch and hand each row to the output of its event's chain."""
        events = merged.batch.events
        self._result.events += len(events)
        for made in self._maker.run(merged):
            chain_of_row = merged.chain[made.event]
            for i in np.unique(chain_of_row).tolist():
                mine = np.flatnonzero(chain_of_row == i)
                whole = len(mine) == len(chain_of_row)
                part = made.rows if whole else made.rows.take(mine)
                markets = made.markets if whole else [made.markets[row] for row in mine.tolist()]
                self._output(i, made.table.name).add(part, markets)
        for i in np.unique(merged.chain).tolist():
            self._reached[i] = int(events["offset"][merged.chain == i].max()) + 1

    def _output(self, i: int, table: str) -> Output:
        return next(output for output in self._outputs[i] if output.table.name == table)

    def _commit(self, i: int) -> None:
        for output in self._outputs[i]:
            record = output.commit(self._reached[i])
            if record is not None:
                self._result.rows[output.table.name] += record.rows
