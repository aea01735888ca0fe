"""Rows that are there already: of the lake, or of what a topic holds now."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from fluxforge.client import topic
from fluxforge.client.order import selected
from fluxforge.client.tables import Row, TableName, Wanted, schema_of, topic_of
from fluxforge.errors import ConfigError
from fluxforge.log import open_log
from fluxforge.replay import topics_of
from fluxforge.settings import Settings, load
from fluxforge.storage import Root
from fluxforge.topics import Topics

if TYPE_CHECKING:
    from fluxforge.client.lake import Merge
    from fluxforge.lake.scan import Time

Kind = Literal["polars", "pandas", "arrow"]

HOLD_S = 60.0
"""A collector holds a symbol back for 10 s at most; the rest is what collectors' clocks may differ."""
_ROWS = 1000


@dataclass(frozen=True)
class History:
    """A table's rows out of one source; `stream` tells of the fields."""

    table: TableName
    source: str
    wanted: Wanted
    settings: Settings
    url: str | None = None
    data: Root | None = None
    hold_s: float = HOLD_S
    version: str | None = None

    def __post_init__(self) -> None:
        if self.version is not None and self.source != "lake":
            raise ConfigError(f"source={self.source!r} has no versions", hint="source='lake' has")

    def rows(self) -> Iterator[list[Row]]:
        """In order, some at a time. Raises ConfigError at the end where there were none."""
        count = 0
        for piece in self._lake_rows() if self.source == "lake" else self._topic_rows():
            count += len(piece)
            yield piece
        self._expect(count)

    def arrow(self) -> pa.Table:
        """In order, with the columns that the table has under the configuration, whatever the source."""
        schema = schema_of(self.settings, self.table)
        if self.wanted.columns is not None:
            schema = pa.schema([schema.field(name) for name in selected(schema.names, self.wanted.columns)])
        if self.source == "lake":
            tables = [_as(schema, table) for table in self._lake()]
        else:
            tables = [pa.Table.from_pylist(piece, schema) for piece in self.rows() if piece]
        self._expect(sum(table.num_rows for table in tables))
        return pa.concat_tables(tables)

    def _expect(self, count: int) -> None:
        if not count:
            raise ConfigError(
                f"{self.source} has no {self.table} rows in that time", hint="start and end are of capture"
            )

    def _topic_rows(self) -> Iterator[list[Row]]:
        name = topic_of(self._topics(), self.table)
        with closing(open_log(self.url or self.settings.broker.url, self.settings.broker.librdkafka())) as log:
            yield from topic.history(log, name, self.wanted, self.hold_s)

    def _lake_rows(self) -> Iterator[list[Row]]:
        for table in self._lake():
            for at in range(0, table.num_rows, _ROWS):
                yield table.slice(at, _ROWS).to_pylist()

    def _lake(self) -> Merge:
        from fluxforge.client import lake  # noqa: PLC0415  loads 40 MB, which live rows do without

        topic_of(self.settings.topic_names(), self.table)
        root = self.settings.storage.output if self.data is None else self.data
        return lake.Merge(lake.selection(root, self.table, self.wanted, self.version), self.wanted)

    def _topics(self) -> Topics:
        prefix = self.settings.broker.prefix
        kind, _, run = self.source.partition(".")
        if self.source == "topic":
            return Topics(prefix)
        if kind == "replay" and run:
            return topics_of(run, prefix)
        raise ConfigError(f"there is no source {self.source!r}", hint="one of live, topic, lake, replay.RUN")


def frame(
    table: TableName = "features",
    *,
    source: str,
    symbols: Collection[str] | None = None,
    exchanges: Collection[str] | None = None,
    start: Time | None = None,
    end: Time | None = None,
    columns: Collection[str] | None = None,
    url: str | None = None,
    data: Root | None = None,
    settings: Settings | None = None,
    hold_s: float = HOLD_S,
    version: str | None = None,
    kind: Kind = "polars",
) -> Any:
    """The rows of a `stream` of history as a frame of Polars or pandas, or as an Arrow table.

    Columns and types are those of the table under the configuration, the same from every source: null where a row has
    no value, and without columns that the configuration does not know. All rows are in memory.
    """
    wanted = Wanted.of(symbols, exchanges, start, end, columns)
    found = History(table, source, wanted, settings or load(), url, data, hold_s, version).arrow()
    if kind == "arrow":
        return found
    if kind == "pandas":
        return found.to_pandas()
    if kind == "polars":
        return _polars(found)
    raise ConfigError(f"there are no frames of {kind!r}", hint="one of polars, pandas, arrow")


def _polars(table: pa.Table) -> Any:
    try:
        import polars as pl  # noqa: PLC0415  it is nobody's dependency
    except ImportError as error:
        raise ConfigError("Polars is not installed", hint="install polars") from error
    return pl.from_arrow(table)


def _as(schema: pa.Schema, table: pa.Table) -> pa.Table:
    """The same rows with the columns of a schema."""
    there = set(table.schema.names)
    columns = [
        table[field.name].cast(field.type) if field.name in there else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)
