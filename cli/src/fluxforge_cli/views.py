"""The views of `fluxforge query`: committed data as DuckDB tables, made only where a statement names them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pyarrow.dataset as ds

from fluxforge import bronze, lake
from fluxforge.bronze.scan import rewrite, scan, stored_schema
from fluxforge.bronze.schema import ORDERBOOK
from fluxforge.coverage import by_hour, pages
from fluxforge.errors import ConfigError, StorageError
from fluxforge.lake.scan import FOLDERS
from fluxforge.lake.versions import pinned
from fluxforge.storage import Root
from fluxforge_cli.books import EXACT, Books, Part

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_LEVELS = ("bid_prices", "bid_sizes", "ask_prices", "ask_sizes")


@dataclass(frozen=True)
class Places:
    """Where the views read.

    raw, lake   roots of Bronze and of the lake
    start, end  ns; outside of them no file is read and no row is shown
    scratch     a folder for segments that have to be rewritten before DuckDB can read them
    """

    raw: Root
    lake: Root
    scratch: Path
    start: int | None = None
    end: int | None = None

    @cached_property
    def version(self) -> Root:
        """The lake that all views of a statement read, whatever is switched meanwhile."""
        return pinned(self.lake)


def walled() -> DuckDBPyConnection:
    """A database in memory that reaches nothing of the machine's files or network."""
    return duckdb.connect(
        config={
            "enable_external_access": "false",
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
        }
    )


def connect(places: Places, sql: str) -> DuckDBPyConnection:
    """A connection with the views that `sql` names, and nothing of the machine's files or network.

    Raises ConfigError for SQL that does not parse and for a view that there is not.
    """
    connection = walled()
    try:
        if len(connection.extract_statements(sql)) != 1:
            raise ConfigError("one statement is expected", hint="run them one after the other")
        while (name := _unknown(connection, sql)) is not None:
            if name not in VIEWS:
                raise ConfigError(f"there is no view {name}", hint=f"one of {', '.join(VIEWS)}")
            VIEWS[name](connection, places)
    except duckdb.Error as error:
        raise wrong(error) from error
    return connection


_UNKNOWN = re.compile(r"Table with name (\S+) does not exist")


def _unknown(connection: DuckDBPyConnection, sql: str) -> str | None:
    """The first table in the statement that is not there (yet)."""
    try:
        connection.execute(f"EXPLAIN {sql}")
    except duckdb.CatalogException as error:
        match = _UNKNOWN.search(str(error))
        if match is None:
            raise
        return match[1].lower()
    return None


def wrong(error: duckdb.Error) -> ConfigError:
    """The error of a statement."""
    return ConfigError(told(error), hint="the views are " + ", ".join(VIEWS))


def told(error: duckdb.Error) -> str:
    """What DuckDB says, in one line."""
    lines = [line.strip() for line in str(error).splitlines()]
    return " ".join(line for line in lines if line and not line.startswith(("LINE ", "^")))


def _of_lake(table: str) -> Callable[[DuckDBPyConnection, Places], None]:
    def make(connection: DuckDBPyConnection, places: Places) -> None:
        connection.register(table, lake.scan(places.version, table, start=places.start, end=places.end))

    return make


def _orderbook(connection: DuckDBPyConnection, places: Places) -> None:
    schema = stored_schema(ORDERBOOK)
    found = scan(places.raw, ORDERBOOK, start=places.start, end=places.end)
    tree = bronze.tree(places.raw)
    fragments = [] if found.dataset is None else list(found.dataset.get_fragments())
    for number, at in enumerate(found.others):
        target = places.scratch / f"{number}.parquet"
        with target.open("wb") as file:
            rewrite(tree, at.file, file)
        fragments += ds.dataset(target, schema=schema, format="parquet").get_fragments()
    if not fragments:
        raise StorageError(f"{tree}: no committed order books match", hint="nothing has been written yet")
    files = [at.file for at in (*found.files, *found.others)]
    parts = [Part(fragment, file.first_ts, file.last_ts) for fragment, file in zip(fragments, files, strict=True)]
    connection.register("stored_orderbook", Books(parts, schema, places.start, places.end))
    connection.execute(f"CREATE VIEW orderbook AS SELECT {_book_columns()} FROM stored_orderbook")  # noqa: S608


def _book_columns() -> str:
    """Each level's integers divided by their power of ten, which gives back the exchange's doubles bit for bit."""
    digits = ", ".join(f"1e{k}" for k in range(13))
    chosen = []
    for field in stored_schema(ORDERBOOK):
        name = field.name
        if name in _LEVELS:
            scale = f"[{digits}][{name.split('_')[1].removesuffix('s')}_scale + 1]"
            scaled = f"list_transform({name}, lambda level: level::DOUBLE / {scale})"
            chosen.append(f"coalesce({scaled}, {name}_double) AS {name}")
        elif not name.endswith(("_double", "_scale")):
            chosen.append(f'"{name}"')
    chosen.append(EXACT)
    return ", ".join(chosen)


def _coverage(connection: DuckDBPyConnection, places: Places) -> None:
    connection.register("coverage", by_hour(pages(bronze.tree(places.raw), start=places.start, end=places.end)))


VIEWS: dict[str, Callable[[DuckDBPyConnection, Places], None]] = {
    **{table: _of_lake(table) for table in FOLDERS},
    "orderbook": _orderbook,
    "coverage": _coverage,
}
