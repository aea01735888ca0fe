"""Whether a pipeline does its work, seen from outside: from its log, its files and its disks, and nobody's own word.

`look` gives one `Line` for each thing it has looked at; one that is not well says what to do.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

from fluxforge import service
from fluxforge.clock import Clock, SystemClock
from fluxforge.errors import FluxForgeError
from fluxforge.health import disk, flow, stored
from fluxforge.health.line import Line, tried
from fluxforge.log import Log
from fluxforge.settings import Settings

__all__ = ["Line", "look"]


def look(settings: Settings, clock: Clock | None = None) -> Iterator[Line]:
    """Line by line, as it goes. Nothing is written, but a log's file that is not there is not made either."""
    now, stores = (clock or SystemClock()).now(), stored.Stores.of(settings)
    try:
        disk.require_log(settings)
        log = service.open_log(settings)
    except FluxForgeError as error:
        yield Line("log", False, str(error), "start it, or correct broker.url")
    else:
        with closing(log):
            yield from _of_the_log(settings, stores, log, now)
    yield from tried("bronze gaps", lambda: stored.gaps(stores, now))
    yield from tried("coverage", lambda: stored.coverage(settings, stores, now))
    yield from tried("backlog", lambda: stored.backlog(settings, stores))
    yield from tried("disk", lambda: disk.free(settings))


def _of_the_log(settings: Settings, stores: stored.Stores, log: Log, now: int) -> Iterator[Line]:
    topics = list(tried("topics", lambda: flow.topics(settings, log)))
    yield from topics
    if not all(line.ok for line in topics):
        return
    yield from tried("exchanges", lambda: flow.exchanges(settings, log, now))
    yield from tried("processors", lambda: flow.processors(settings, log, now))
    yield from tried("rows", lambda: flow.rows(settings, log, now))
    yield from tried("dead letters", lambda: flow.dead_letters(settings, log, now))
    yield from tried("bronze", lambda: stored.bronze_delay(settings, stores, log, now))
    yield from tried("lake", lambda: stored.lake_delay(settings, stores, log, now))
    yield from tried("lake rows", lambda: stored.lake_rows(settings, stores, log, now))
