"""`fluxforge coverage`: how complete the collected data is, market by market and hour by hour."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.table import Table

from fluxforge.errors import ConfigError
from fluxforge.settings import load
from fluxforge_cli.configuration import ConfigOption, DataOption
from fluxforge_cli.console import console, print_json

if TYPE_CHECKING:
    import pyarrow as pa

_COLUMNS = {
    "seen s": "seconds", "dark s": "dark_s", "absent s": "absent_s", "crossed s": "crossed_s", "books": "books",
    "trades": "trades", "gaps": "gaps", "resyncs": "resyncs", "duplicates": "duplicates", "backfilled": "backfilled",
    "shed": "shed", "holes": "holes", "skew p50 ms": "skew_p50_ms", "skew p99 ms": "skew_p99_ms",
}  # fmt: skip
"""Heading and field of each number."""
_ALWAYS = ("seconds", "dark_s", "absent_s", "books", "trades")


def coverage(
    exchange: Annotated[str | None, typer.Option("--exchange", help="Only this exchange.")] = None,
    symbol: Annotated[str | None, typer.Option("--symbol", help="Only this symbol, as BTC/USDT.")] = None,
    start: Annotated[str | None, typer.Option("--from", help="UTC, as 2026-01-31 or 2026-01-31T12:00.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="UTC, not included.")] = None,
    data_dir: DataOption = None,
    export: Annotated[Path | None, typer.Option("--export", help="Write to a .csv or .parquet file too.")] = None,
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON list of objects.")] = False,
) -> None:
    """Show what was seen of each market in each hour: events, gaps, time without data, clock skew.

    Of a number that is zero in every row the table has no column; --json and --export have all.
    """
    from fluxforge import bronze  # noqa: PLC0415  Arrow takes a moment to import
    from fluxforge.coverage import by_hour, pages  # noqa: PLC0415

    tree = bronze.tree(load(config).storage.input.elsewhere(data_dir))
    found = by_hour(pages(tree, exchange=exchange, symbol=symbol, start=_ns(start, "--from"), end=_ns(end, "--to")))
    if export is not None:
        _export(found, export)
    if as_json:
        print_json(found.to_pylist())
        return
    if not found.num_rows:
        console().print(
            "no coverage is stored here yet: a collector writes it when an hour ends, and when it stops,\n"
            "and the Bronze sink stores it with its next segment"
        )
        return
    console().print(_table(found.to_pylist()), markup=False)
    if export is not None:
        console().print(f"written to {export}", markup=False)


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    told = {head: name for head, name in _COLUMNS.items() if name in _ALWAYS or any(row[name] for row in rows)}
    several = len({row["collector"] for row in rows}) > 1
    for head in ("market", *(["collector"] if several else []), "hour, UTC"):
        table.add_column(head, overflow="fold")
    for head in told:
        table.add_column(head.replace(" ", "\n"), justify="right", no_wrap=True)
    for row in rows:
        road = "" if row["source"] == row["exchange"] else f" ({row['source']})"
        table.add_row(
            f"{row['exchange']} {row['symbol']}{road}",
            *([row["collector"]] if several else []),
            f"{row['hour']:%Y-%m-%d %H}",
            *("" if row[name] is None else f"{row[name]:.0f}" for name in told.values()),
        )
    return table


def _export(table: pa.Table, path: Path) -> None:
    import pyarrow.csv  # noqa: PLC0415
    import pyarrow.parquet  # noqa: PLC0415

    if path.suffix == ".csv":
        pyarrow.csv.write_csv(table, path)
    elif path.suffix == ".parquet":
        pyarrow.parquet.write_table(table, path)
    else:
        raise ConfigError(f"--export {path}: no such format", hint="name a .csv or .parquet file")


def _ns(text: str | None, option: str) -> int | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"{option} {text!r} is no time", hint="as 2026-01-31 or 2026-01-31T12:00, UTC") from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp()) * 1_000_000_000
