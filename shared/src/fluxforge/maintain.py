"""Stored data looked after on a schedule: copied elsewhere, compacted, dropped when it is old.

`python -m fluxforge.maintain` is a service like any other; `fluxforge maintain` runs it too. A step that fails is
logged and counted, and the next one has its turn; but where there is to be a copy, nothing is dropped in a round whose
copy failed, and never what the copy does not hold.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from fluxforge import bronze, condition, metrics, service
from fluxforge.bronze.compaction import LAYOUT as BRONZE
from fluxforge.clock import Clock, SystemClock
from fluxforge.errors import FluxForgeError
from fluxforge.files import Tree, chains
from fluxforge.files.commit import Commit
from fluxforge.files.compact import Result as Compacted
from fluxforge.files.compact import compact
from fluxforge.files.history import newest
from fluxforge.files.merge import Progress
from fluxforge.files.retain import retain
from fluxforge.files.runs import Layout, Options
from fluxforge.files.sync import Options as SyncOptions
from fluxforge.files.sync import sync
from fluxforge.lake.compaction import LAYOUT as LAKE
from fluxforge.service import Role, Stop
from fluxforge.settings import Settings
from fluxforge.settings.maintenance import Maintenance
from fluxforge.settings.models import StorageLocation
from fluxforge.sync import Part, carry, counterpart, pair, tree_of

LOOK_S = 1.0
"""A signal that comes in the instant before a wait is handled only after it, so no wait is long."""

_log = logging.getLogger(__name__)


class Layer(NamedTuple):
    """Bronze or the lake: where it is, how its files are, and how many days a record is kept (None: for ever)."""

    name: Part
    root: StorageLocation
    tree: Tree
    layout: Layout
    days: Callable[[Commit], float | None]


class Outcome(NamedTuple):
    """How a step ended: done, failed or waiting; and what there is to say."""

    step: str
    outcome: str
    text: str


class _Stopped(Exception):
    """In the middle of a step; what it had begun is taken up in the next round."""


def bronze_layer(settings: Settings, root: StorageLocation | None = None) -> Layer:
    """Bronze of `root`, or where the settings say."""
    root, days = root or settings.storage.input, settings.maintenance.bronze_days
    return Layer("bronze", root, bronze.tree(root), BRONZE, lambda _: days)


def lake_layer(settings: Settings, root: StorageLocation | None = None) -> Layer:
    """The lake of `root`, or where the settings say."""
    root = root or settings.storage.output
    return Layer("lake", root, tree_of("lake", root), LAKE, days_of(settings.maintenance))


def days_of(kept: Maintenance) -> Callable[[Commit], float | None]:
    """How many days a record of the lake is kept, by its table."""
    by_table: dict[str, float | None] = {str(table): days for table, days in kept.table_days.items()}
    return lambda record: by_table.get(str(record.meta.get("table")), kept.lake_days)


def compacted(
    given: Maintenance, layer: Layer, *, now: int | None = None, progress: Progress = lambda _: None
) -> Compacted:
    """Closed days made few files; see `fluxforge.files.compact`."""
    options = Options(max_bytes=int(given.max_file_mb * 1e6), grace_s=given.grace_s)
    return compact(layer.tree, layer.layout, options, now=now, progress=progress)


def once(settings: Settings, stop: Stop, *, now: int | None = None) -> list[Outcome]:
    """One round: each configured step for Bronze and lake, until stopped. `now`: ns."""
    layers = (bronze_layer(settings), lake_layer(settings))
    given, found = settings.maintenance, list[Outcome]()

    def check(*_: object) -> None:
        condition.PROCESS.turned("")
        if stop.is_set():
            raise _Stopped

    def run(step: str, layer: Layer, action: Callable[[], tuple[str, list[str]]]) -> bool:
        began = time.monotonic()
        try:
            check()
            text, failed = action()
        except (FluxForgeError, OSError) as error:
            text, failed = "", [str(error)]
        except _Stopped:
            return False
        outcome = Outcome(
            f"{step} {layer.name}", "failed" if failed else "done", "; ".join([*failed, text]).strip("; ")
        )
        (_log.error if failed else _log.info)("%s: %s", outcome.step, outcome.text)
        metrics.MAINTENANCE.labels(step, outcome.outcome).inc()
        metrics.MAINTENANCE_SECONDS.labels(step).set(time.monotonic() - began)
        found.append(outcome)
        return not failed

    for layer in layers:
        copied = True
        if given.sync_to is not None:
            copied = run("sync", layer, lambda layer=layer: _sync(given, layer, check))  # type: ignore[misc]
        if given.compact:
            run("compact", layer, lambda layer=layer: _compact(given, layer, now, check))  # type: ignore[misc]
        if copied:
            run("retain", layer, lambda layer=layer: _retain(given, layer, now, check))  # type: ignore[misc]
        elif not stop.is_set():
            waiting = Outcome(f"retain {layer.name}", "waiting", "nothing is dropped before it is copied")
            _log.warning("%s: %s", waiting.step, waiting.text)
            found.append(waiting)
            metrics.MAINTENANCE.labels("retain", "waiting").inc()
    return found


def run(settings: Settings, stop: Stop, clock: Clock | None = None) -> None:
    """Round after round, until stopped."""
    clock = clock or SystemClock()
    for step in ("sync", "compact", "retain"):
        metrics.MAINTENANCE.labels(step, "failed")  # at 0 from the start, or the first increase is not seen
    while not stop.is_set():
        until = clock.monotonic() + settings.maintenance.every_s
        once(settings, stop)
        while not stop.is_set() and (left := until - clock.monotonic()) > 0:
            condition.PROCESS.turned("")
            stop.wait(min(left, LOOK_S))


def check(settings: Settings) -> Iterable[str]:
    """Both stores answer."""
    for layer in (bronze_layer(settings), lake_layer(settings)):
        layer.tree.storage.probe()
        yield f"{layer.name}: {layer.tree}"


def _sync(given: Maintenance, layer: Layer, check: Callable[..., None]) -> tuple[str, list[str]]:
    trees = pair(layer.name, layer.root, layer.root.elsewhere(given.sync_to))
    if trees is None:
        return "nothing is committed yet", []
    done = sync(*trees, SyncOptions(grace_s=given.grace_s), progress=check)
    if not done.failed:
        carry(*trees)
    return f"{done.records:,} batches copied, {done.bytes / 1e6:,.1f} MB; {done.already:,} already there", done.failed


def _compact(given: Maintenance, layer: Layer, now: int | None, check: Callable[..., None]) -> tuple[str, list[str]]:
    done = compacted(given, layer, now=now, progress=check)
    text = "nothing to merge"
    if done.records_before:
        text = f"{done.files_before:,} files to {done.files_after:,}, {done.bytes_before / 1e6:,.1f} MB to "
        text += f"{done.bytes_after / 1e6:,.1f} MB"
    return text + (f"; old files of {done.pending:,} wait for the grace" if done.pending else ""), done.failed


def _retain(given: Maintenance, layer: Layer, now: int | None, check: Callable[..., None]) -> tuple[str, list[str]]:
    days = layer.days if given.sync_to is None else _days_of_copied(layer, layer.root.elsewhere(given.sync_to))
    done = retain(layer.tree, layer.layout, days, apply=True, grace_s=given.grace_s, now=now, progress=check)
    text = f"{done.files:,} files dropped, {done.bytes / 1e6:,.1f} MB" if done.records else "nothing is too old"
    return text + (f"; files of {done.pending:,} chains wait for the grace" if done.pending else ""), done.failed


def _days_of_copied(layer: Layer, copy: StorageLocation) -> Callable[[Commit], float | None]:
    """The layer's days; for ever what the copy does not hold, as a batch of old days that was committed since."""
    there = counterpart(layer.name, layer.root, copy)
    ends = {chain: record.next_offset for chain in chains(there) if (record := newest(there, chain)) is not None}
    return lambda record: layer.days(record) if record.next_offset <= ends.get(record.chain, 0) else None


ROLES = {"maintain": Role(check, run, "copies, compacts and drops stored data on a schedule")}

if __name__ == "__main__":
    raise SystemExit(service.main("fluxforge.maintain", ROLES))
