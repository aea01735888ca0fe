"""Rows that are there already: of files, or of what a topic holds now."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

import pyarrow as pa

from fluxforge.client.merged import TopicPart, merged
from fluxforge.client.piece import Form, Piece, Stored
from fluxforge.client.records import Markets, Reading
from fluxforge.client.source import Lag
from fluxforge.client.tables import Wanted
from fluxforge.errors import ConfigError
from fluxforge.log import Log, TopicPartition
from fluxforge.storage import Root

HOLD_S = 60.0
"""A collector holds a symbol back for 10 s at most; the rest is what collectors' clocks may differ."""
_ROWS = 4096


class History:
    """Pieces in order, to their end. Raises ConfigError at the end where there were none: `nothing` says so."""

    def __init__(self, pieces: Iterator[Piece], nothing: str) -> None:
        self._pieces, self._nothing = pieces, nothing
        self._count = 0

    def next(self) -> Piece | None:
        piece = next(self._pieces, None)
        self._count += 0 if piece is None else len(piece)
        if piece is None and not self._count:
            raise ConfigError(self._nothing, hint="start and end are of capture")
        return piece

    def lag(self, waiting: int) -> Lag:
        return Lag(0, 0.0)

    def close(self) -> None:
        self._pieces.close()  # type: ignore[attr-defined]  # all of them are generators


def of_topic(opened: Callable[[], Log], topic: str, reading: Reading, wanted: Wanted, hold_s: float) -> Iterator[Piece]:
    """What a topic holds now. Raises UnknownTopic; ConfigError for a market without rows, at the end."""
    markets, parts = Markets(wanted), []
    with closing(opened()) as log:
        try:
            for partition in range(log.partitions(topic)):
                parts.append(TopicPart(log, TopicPartition(topic, partition), reading, markets))
            for table in merged(parts, wanted, hold_s):
                yield reading.released(table)
        finally:
            for part in parts:
                part.close()
    wanted.missing(markets.found)


def of_lake(root: Root, table: str, form: Form, wanted: Wanted, version: str | None) -> Iterator[Piece]:
    """The lake's files of a table. Raises StorageError where it has no rows, ConfigError where none of a market."""
    from fluxforge.client import lake  # noqa: PLC0415  loads 40 MB, which live rows do without

    for found in lake.Merge(lake.selection(root, table, wanted, version), wanted):
        yield from _pieces(found, form)


def of_bronze(root: Root, form: Form, wanted: Wanted, hold_s: float) -> Iterator[Piece]:
    """The trades in Bronze. Raises StorageError where it has none, ConfigError where none of a market, at the end."""
    from fluxforge.client import bronze  # noqa: PLC0415  as above

    chosen = bronze.parts(root, wanted)
    try:
        for table in merged(chosen, wanted, hold_s):
            yield from _pieces(table, form)
    finally:
        for part in chosen:
            part.close()
    wanted.missing(set().union(*(part.markets for part in chosen)))


def _pieces(table: pa.Table, form: Form) -> Iterator[Piece]:
    for at in range(0, table.num_rows, _ROWS):
        yield Stored(table.slice(at, _ROWS), form)
