"""Stored data looked after on a schedule: copied elsewhere, compacted, dropped when it is old.

`python -m fluxforge.maintain` is a service like any other; `fluxforge maintain` runs it too. A step that fails is
logged and counted, and the next one has its turn; but nothing is dropped in a round whose copy failed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from fluxforge import bronze, metrics, service
from fluxforge.bronze.compaction import LAYOUT as BRONZE
from fluxforge.clock import Clock, SystemClock
from fluxforge.errors import FluxForgeError
from fluxforge.files import Tree
from fluxforge.files.commit import Commit
from fluxforge.files.compact import compact
from fluxforge.files.retain import retain
from fluxforge.files.runs import Layout, Options
from fluxforge.files.sync import Options as SyncOptions
from fluxforge.files.sync import sync
from fluxforge.lake import lake_tree
from fluxforge.lake.compaction import LAYOUT as LAKE
from fluxforge.service import Role, Stop
from fluxforge.settings import Settings
from fluxforge.settings.maintenance import Maintenance

LOOK_S = 1.0
"""A signal that comes in the instant before a wait is handled only after it, so no wait is long."""

_log = logging.getLogger(__name__)


class Layer(NamedTuple):
    """Bronze or the lake: where it is, how its files are, and how many days a record is kept (None: for ever)."""

    name: str
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


def bronze_layer(settings: Settings, root: Any = None) -> Layer:
    """Bronze of `root`, or where the settings say."""
    days = settings.maintenance.bronze_days
    return Layer("bronze", bronze.tree(root or settings.storage.input), BRONZE, lambda _: days)


def lake_layer(settings: Settings, root: Any = None) -> Layer:
    """The lake of `root`, or where the settings say."""
    return Layer("lake", lake_tree(root or settings.storage.output), LAKE, days_of(settings.maintenance))


def days_of(kept: Maintenance) -> Callable[[Commit], float | None]:
    """How many days a record of the lake is kept, by its table."""
    by_table: dict[str, float | None] = {str(table): days for table, days in kept.table_days.items()}
    return lambda record: by_table.get(str(record.meta.get("table")), kept.lake_days)


def once(settings: Settings, stop: Stop, *, now: int | None = None) -> list[Outcome]:
    """One round: each configured step for Bronze and lake, until stopped. `now`: ns."""
    layers = (bronze_layer(settings), lake_layer(settings))
    given, found = settings.maintenance, list[Outcome]()

    def check(*_: object) -> None:
        if stop.is_set():
            raise _Stopped

    def run(step: str, layer: Layer, action: Callable[[], tuple[str, list[str]]]) -> bool:
        began = time.monotonic()
        try:
            check()
            text, failed = action()
        except FluxForgeError as error:
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
            copied = run("sync", layer, lambda layer=layer: _sync(settings, layer, check))  # type: ignore[misc]
        if given.compact:
            run("compact", layer, lambda layer=layer: _compact(given, layer, now, check))  # type: ignore[misc]
        if copied:
            run("retain", layer, lambda layer=layer: _retain(given, layer, now, check))  # type: ignore[misc]
        elif not stop.is_set():
            found.append(Outcome(f"retain {layer.name}", "waiting", "nothing is dropped before it is copied"))
            metrics.MAINTENANCE.labels("retain", "waiting").inc()
    return found


def run(settings: Settings, stop: Stop, clock: Clock | None = None) -> None:
    """Round after round, until stopped."""
    clock = clock or SystemClock()
    while not stop.is_set():
        until = clock.monotonic() + settings.maintenance.every_s
        once(settings, stop)
        while not stop.is_set() and (left := until - clock.monotonic()) > 0:
            stop.wait(min(left, LOOK_S))


def check(settings: Settings) -> Iterable[str]:
    """Both stores answer."""
    for layer in (bronze_layer(settings), lake_layer(settings)):
        layer.tree.storage.probe()
        yield f"{layer.name}: {layer.tree}"


def _sync(settings: Settings, layer: Layer, check: Callable[..., None]) -> tuple[str, list[str]]:
    assert settings.maintenance.sync_to is not None
    home = settings.storage.input if layer.name == "bronze" else settings.storage.output
    place = home.elsewhere(settings.maintenance.sync_to)
    target = bronze.tree(place) if layer.name == "bronze" else lake_tree(place)
    done = sync(layer.tree, target, SyncOptions(grace_s=settings.maintenance.grace_s), progress=check)
    return f"{done.records:,} batches, {done.bytes / 1e6:,.1f} MB", done.failed


def _compact(given: Maintenance, layer: Layer, now: int | None, check: Callable[..., None]) -> tuple[str, list[str]]:
    options = Options(max_bytes=int(given.max_file_mb * 1e6), grace_s=given.grace_s)
    done = compact(layer.tree, layer.layout, options, now=now, progress=check)
    text = f"{done.files_before:,} files to {done.files_after:,}, {done.bytes_before / 1e6:,.1f} MB to "
    return f"{text}{done.bytes_after / 1e6:,.1f} MB; {done.pending:,} wait for readers", done.failed


def _retain(given: Maintenance, layer: Layer, now: int | None, check: Callable[..., None]) -> tuple[str, list[str]]:
    done = retain(layer.tree, layer.layout, layer.days, apply=True, grace_s=given.grace_s, now=now, progress=check)
    return f"{done.files:,} files dropped, {done.bytes / 1e6:,.1f} MB", done.failed


ROLES = {"maintain": Role(check, run, "copies, compacts and drops stored data on a schedule")}

if __name__ == "__main__":
    raise SystemExit(service.main("fluxforge.maintain", ROLES))
