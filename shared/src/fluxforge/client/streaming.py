"""The one call: rows of a table out of any source."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Collection, Iterator
from typing import TYPE_CHECKING, cast

from fluxforge.client.history import HOLD_S, History
from fluxforge.client.live import IDLE_S, Feed, Start
from fluxforge.client.tables import Row, TableName, Wanted
from fluxforge.errors import ConfigError
from fluxforge.settings import Settings, load
from fluxforge.storage import Root

if TYPE_CHECKING:
    from fluxforge.lake.scan import Time


async def stream(
    table: TableName = "features",
    *,
    symbols: Collection[str] | None = None,
    exchanges: Collection[str] | None = None,
    source: str = "live",
    start: Start | Time | None = None,
    end: Time | None = None,
    columns: Collection[str] | None = None,
    url: str | None = None,
    data: Root | None = None,
    settings: Settings | None = None,
    hold_s: float = HOLD_S,
    version: str | None = None,
) -> AsyncIterator[Row]:
    """Rows of a table: live, for ever, in order per symbol; of history, in order of capture, to its end.

    symbols, exchanges  None takes all
    source              live, topic, lake or replay.{run}
    start, end          of history: start ≤ capture_ts < end, None without a bound; live: only start, one of `latest`
                        (the default), `earliest`, or ns since 1970 UTC of publication
    columns             of history, besides those that name and order a row; None takes all
    url                 of the log, data: root of the lake; None takes the configuration's
    hold_s              of a topic's history: rows may be so far out of order, s of capture; so much waits in memory
    version             of the lake, `live` for the live one; None: the one that `data` names, else the current one

    Nothing is read before it is asked for. Raises LogUnavailable when the log cannot be reached, UnknownTopic when
    nothing was ever published to it, StorageError where the lake has no rows, ConfigError for what does not exist:
    a source, table or column, and a symbol without rows (which a topic tells at its end).
    """
    settings = settings or load()
    pieces: Iterator[list[Row]]
    if source == "live":
        if (end, columns, version) != (None, None, None):
            raise ConfigError("live rows have no end, no version and all their columns", hint="source='topic' ends")
        pieces = _live(table, symbols, exchanges, start, url, settings)
    else:
        if start in ("latest", "earliest"):
            raise ConfigError(f"start={start!r} is for live rows", hint="history starts at a time; None takes all")
        wanted = Wanted.of(symbols, exchanges, start, end, columns)
        pieces = History(table, source, wanted, settings, url, data, hold_s, version).rows()
    lock = threading.Lock()  # who is cancelled leaves a thread behind that still reads

    def advance() -> list[Row] | None:
        with lock:
            return next(pieces, None)

    try:
        while (piece := await asyncio.to_thread(advance)) is not None:
            for row in piece:
                yield row
            if not piece:
                await asyncio.sleep(IDLE_S if source == "live" else 0)
    finally:
        with lock:
            pieces.close()  # type: ignore[attr-defined]


def _live(
    table: TableName,
    symbols: Collection[str] | None,
    exchanges: Collection[str] | None,
    start: Start | Time | None,
    url: str | None,
    settings: Settings,
) -> Iterator[list[Row]]:
    """What is published; empty where nothing is new."""
    if start is None:
        start = "latest"
    if start not in ("latest", "earliest") and not isinstance(start, int):
        raise ConfigError(f"live rows do not start at {start!r}", hint="latest, earliest, or ns of publication")
    with Feed(
        table, symbols=symbols, exchanges=exchanges, start=cast(Start, start), url=url, settings=settings
    ) as feed:
        while True:
            yield feed.poll()
