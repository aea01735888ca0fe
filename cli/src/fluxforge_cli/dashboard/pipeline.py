"""The pipeline's health and coverage for all pages: looked at while somebody looks, never more often than it costs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pyarrow as pa

from fluxforge import bronze
from fluxforge.clock import DAY, HOUR, MS, Clock, SystemClock
from fluxforge.coverage import by_hour, pages
from fluxforge.errors import FluxForgeError
from fluxforge.health import Line, disk, look, stored
from fluxforge.health.line import tried
from fluxforge.settings import Settings

HEALTH_S, COVERAGE_S = 15.0, 120.0
COVERAGE_DAYS = 7
BUSY = 10
"""A look waits at least this many times as long as the one before it took."""

_log = logging.getLogger(__name__)


class Pipeline:
    """What was found last. `version` rises with every look."""

    def __init__(self, settings: Settings, *, live: bool, clock: Clock | None = None) -> None:
        self._settings, self._live, self._clock = settings, live, clock or SystemClock()
        self.watchers = 0
        self.version = 0
        self.lines: list[Line] = []
        self.coverage: list[dict[str, Any]] = []

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._every(HEALTH_S, self._look))
            group.create_task(self._every(COVERAGE_S, self._cover))

    async def _every(self, pause: float, look: Callable[[], None]) -> None:
        while True:
            took = 0.0
            if self.watchers:
                began = self._clock.monotonic()
                try:
                    await asyncio.to_thread(look)
                except Exception:  # a page without its health is better than none
                    _log.exception("the pipeline cannot be looked at")
                self.version += 1
                took = self._clock.monotonic() - began
            await asyncio.sleep(max(pause, BUSY * took) if self.watchers else 0.5)

    def _look(self) -> None:
        self.lines = list(look(self._settings) if self._live else self._of_the_files())

    def _of_the_files(self) -> Iterable[Line]:
        now, stores = self._clock.now(), stored.Stores.of(self._settings)
        yield from tried("bronze gaps", lambda: stored.gaps(stores, now))
        yield from tried("coverage", lambda: stored.coverage(self._settings, stores, now))
        yield from tried("backlog", lambda: stored.backlog(self._settings, stores))
        yield from tried("disk", lambda: disk.free(self._settings))

    def _cover(self) -> None:
        tree = bronze.tree(self._settings.storage.input)
        since = self._clock.now() // HOUR * HOUR - COVERAGE_DAYS * DAY
        try:
            table = by_hour(pages(tree, start=since))
        except (FluxForgeError, OSError):
            return  # the health lines say so
        hours = table["hour"].cast(pa.int64()).to_pylist()
        self.coverage = [_cell(row, hour) for row, hour in zip(table.drop(["hour"]).to_pylist(), hours, strict=True)]


def _cell(row: Mapping[str, Any], hour: int) -> dict[str, Any]:
    """An hour (ns) of a market as one collector saw it."""
    return {
        "market": f"{row['exchange']} {row['symbol']}",
        "hour": hour // MS,
        **{name: row[name] for name in ("seconds", "dark_s", "absent_s", "gaps", "resyncs", "holes", "shed")},
        "events": row["books"] + row["trades"] + row["tickers"],
    }
