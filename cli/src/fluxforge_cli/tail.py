"""`fluxforge tail`: rows or records as they are published."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fluxforge.clock import NS
from fluxforge.errors import ConfigError
from fluxforge.settings import Settings, load
from fluxforge_cli.configuration import ConfigOption
from fluxforge_cli.console import print_json
from fluxforge_cli.pipeline.view import number
from fluxforge_cli.selecting import ExchangeOption, SymbolOption

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

SHOWN = {
    "features": ("mid_price", "relative_spread", "imbalance_L0", "ofi_sum_*", "rv_*", "quality"),
    "cross": ("venues", "best_bid", "best_ask", "bid_venue", "ask_venue", "gap_bps", "relative_ofi_*"),
    "bars": ("bar_type", "duration", "open", "high", "low", "close", "volume", "trade_count"),
    "tape": ("side", "price", "size"),
    "trades": ("side", "price", "size", "mid", "effective_spread"),
    "ticker": ("bid", "ask", "mid", "spread", "last"),
}
"""Columns that are shown unless others are asked for; whatever a configuration does not have is left out."""
_FIRST = ("time", "exchange", "symbol")
_REPEAT = 40
"""Lines after which the head is written again."""


def tail(
    topic: Annotated[
        str,
        typer.Argument(
            help="features, cross, bars, trades, ticker or tape for rows; raw, dlq, late or a topic for records."
        ),
    ],
    symbol: SymbolOption = None,
    exchange: ExchangeOption = None,
    where: Annotated[
        str | None,
        typer.Option("--where", help="A condition of SQL over the columns: 'ofi_sum_5s > 10'.", metavar="SQL"),
    ] = None,
    columns: Annotated[
        str | None, typer.Option("--columns", help="Columns to show, with wildcards: mid_price,ofi_*.", metavar="A,B")
    ] = None,
    start: Annotated[
        str, typer.Option("--from", help="latest, earliest, or a time of capture, UTC: 2026-01-31T12:00.")
    ] = "latest",
    count: Annotated[int | None, typer.Option("--count", min=1, help="End after so many rows.")] = None,
    seconds: Annotated[float | None, typer.Option("--seconds", min=0.1, help="End after this long.")] = None,
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a row, with every column.")] = False,
) -> None:
    """Print rows of a topic as they are published, until Ctrl+C.

    Columns are those of `fluxforge features list` and docs/FEATURES.md; of records partition, offset, timestamp (ms),
    exchange, symbol, kind, value (as JSON where it is one of ours) and error.
    """
    settings = load(config)
    printer = _Json() if as_json and columns is None else _Text(topic, columns, as_json=as_json)
    with suppress(TimeoutError):
        asyncio.run(_run(settings, topic, symbol, exchange, where, start, count, seconds, printer))


async def _run(
    settings: Settings,
    topic: str,
    symbols: list[str] | None,
    exchanges: list[str] | None,
    where: str | None,
    start: str,
    count: int | None,
    seconds: float | None,
    printer: _Json | _Text,
) -> None:
    filtered = _Where(where)
    async with asyncio.timeout(seconds), aclosing(_tables(settings, topic, symbols, exchanges, start)) as found:
        async for table in found:
            rows = filtered(table)
            if count is not None:
                rows = rows.slice(0, count)
                count -= rows.num_rows
            printer(rows)
            if count == 0:
                return


async def _tables(
    settings: Settings, topic: str, symbols: list[str] | None, exchanges: list[str] | None, start: str
) -> AsyncGenerator[pa.Table, None]:
    """What is published, some rows at a time; the first table may be empty and tells the columns."""
    from fluxforge.client import Options, stream  # noqa: PLC0415  Arrow takes a moment to import
    from fluxforge.client.tables import schema_of  # noqa: PLC0415

    if topic not in SHOWN:
        from fluxforge_cli.records import tables  # noqa: PLC0415

        async with aclosing(tables(settings, topic, symbols, exchanges, start)) as found:
            async for table in found:
                yield table
        return
    yield schema_of(settings, topic).empty_table()
    options: Options = {"symbols": symbols, "exchanges": exchanges, "start": start, "settings": settings}
    async with stream(topic, **options) as rows:  # type: ignore[arg-type]
        async for table in rows.batches("arrow"):
            yield table


class _Where:
    """The rows of a table that meet a condition. Raises ConfigError for one that the columns do not allow."""

    def __init__(self, condition: str | None) -> None:
        self._condition = condition
        self._connection: DuckDBPyConnection | None = None

    def __call__(self, table: pa.Table) -> pa.Table:
        if self._condition is None:
            return table
        import duckdb  # noqa: PLC0415

        from fluxforge_cli.views import told, walled  # noqa: PLC0415

        self._connection = self._connection or walled()
        try:
            return self._connection.from_arrow(table).filter(self._condition).to_arrow_table()
        except duckdb.Error as error:
            raise ConfigError(f"--where: {told(error)}", hint="a condition of SQL, as 'ofi_sum_5s > 10'") from error


class _Json:
    def __call__(self, table: pa.Table) -> None:
        for row in table.to_pylist():
            print_json(row)


class _Text:
    """Aligned columns, their head again now and then."""

    def __init__(self, topic: str, columns: str | None, *, as_json: bool) -> None:
        self._wanted = [name.strip() for name in columns.split(",")] if columns else SHOWN.get(topic, ("*",))
        self._asked, self._as_json = columns is not None, as_json
        self._names: list[str] | None = None
        self._lines = 0

    def __call__(self, table: pa.Table) -> None:
        names = self._names = self._names or self._chosen(table.column_names)
        for row in table.to_pylist():
            if self._as_json:
                print_json({name: row[name] for name in (*_FIRST[1:], "timestamp", *names) if name in row})
                continue
            cells = [_clock(row), *(str(row.get(name) or "-") for name in _FIRST[1:])]
            head = [*_FIRST, *names]
            cells += [_cell(row[name]) for name in names]
            widths = [13, 10, 10, *(max(11, len(name)) for name in names)]
            if self._lines % _REPEAT == 0:
                sys.stdout.write(_line(head, widths) + "\n")
            sys.stdout.write(_line(cells, widths) + "\n")
            self._lines += 1
        sys.stdout.flush()

    def _chosen(self, there: list[str]) -> list[str]:
        given = [name for name in there if name not in (*_FIRST, "timestamp", "source")]
        found = [name for pattern in self._wanted for name in given if fnmatchcase(name, pattern)]
        if self._asked and not found:
            raise ConfigError(
                f"--columns {','.join(self._wanted)}: no such column", hint=f"there are {', '.join(given)}"
            )
        return list(dict.fromkeys(found))


def _clock(row: dict[str, Any]) -> str:
    """The row's time of day, UTC, to the ms."""
    at = datetime.fromtimestamp(row["timestamp"] / (NS if row["timestamp"] > 10**15 else 1000), UTC)
    return at.strftime("%H:%M:%S.%f")[:-3]


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return number(value)
    return "-" if value is None else str(value)


def _line(cells: list[str], widths: list[int]) -> str:
    pairs = zip(cells, widths, strict=True)
    return "  ".join(
        cell.ljust(width) if at < len(_FIRST) else cell.rjust(width) for at, (cell, width) in enumerate(pairs)
    )
