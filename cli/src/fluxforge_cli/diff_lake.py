"""`fluxforge diff-lake`: where two lakes differ."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from fluxforge.settings import load
from fluxforge_cli.configuration import ConfigOption, root_of
from fluxforge_cli.console import console, counted, print_json
from fluxforge_cli.ls import JsonOption

if TYPE_CHECKING:
    from fluxforge.lake.diff import DayDiff

NAMED = 4
"""Columns of a day that the table names."""


def diff_lake(
    a: Annotated[
        str,
        typer.Argument(
            help="Folder or s3://bucket/prefix with a lake in processed/; FOLDER@VERSION is a version of it, "
            "FOLDER@live the live one, @VERSION one of the configured lake.",
            metavar="A",
        ),
    ],
    b: Annotated[str, typer.Argument(help="The other one.", metavar="B")],
    table: Annotated[
        list[str] | None,
        typer.Option("--table", help="Only this table: hf, cross, bars, trades, ticker. May be repeated."),
    ] = None,
    exchange: Annotated[str | None, typer.Option("--exchange", help="Only this exchange.")] = None,
    symbol: Annotated[str | None, typer.Option("--symbol", help="Only this symbol, as BTC/USDT or BTC-USDT.")] = None,
    start: Annotated[
        str | None, typer.Option("--from", help="UTC, as 2026-01-31 or 2026-01-31T12:00.", show_default=False)
    ] = None,
    end: Annotated[str | None, typer.Option("--to", help="UTC, not included.", show_default=False)] = None,
    origin: Annotated[
        bool, typer.Option("--origin", help="Compare source_partition and source_offset too; a replay changes them.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare two lakes row by row, every bit of every value.

    Days without a difference are only counted. Exit code 1 where anything differs.
    """
    from fluxforge.lake.diff import ORIGIN, diff  # noqa: PLC0415  Arrow takes a moment to import
    from fluxforge.lake.scan import FOLDERS  # noqa: PLC0415

    settings = load(config)
    found: list[DayDiff] = []
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        task = bar.add_task("comparing")
        for day in diff(
            *(root_of(settings, side, "lake") for side in (a, b)), tables=table or tuple(FOLDERS),
            exchange=exchange, symbol=symbol, start=start, end=end, ignore=() if origin else ORIGIN,
        ):  # fmt: skip
            found.append(day)
            bar.update(task, description=day.path)
    if as_json:
        print_json([_as_json(day) for day in found])
    else:
        _tell(found)
    if not all(day.same for day in found):
        raise typer.Exit(1)


def _as_json(day: DayDiff) -> dict[str, object]:
    made: dict[str, object] = day._asdict()
    return {**made, "columns": [column._asdict() for column in day.columns], "same": day.same}


def _tell(found: list[DayDiff]) -> None:
    unlike = [day for day in found if not day.same]
    if unlike:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("folder", overflow="fold")
        for name in ("rows A", "rows B", "only A", "only B", "differ"):
            table.add_column(name, justify="right")
        table.add_column("columns: rows, most, first", overflow="fold")
        for day in unlike:
            counts = (*day.rows, *day.alone, day.differ)
            table.add_row(day.path, *(f"{count:,}" for count in counts), "\n".join(_columns(day)))
        console().print(table, markup=False)
    rows = [sum(day.rows[side] for day in found) for side in (0, 1)]
    what = f"{len(unlike):,} of {counted(len(found), 'folder')} differ" if unlike else "no difference"
    console().print(f"{what}; {rows[0]:,} rows in A, {rows[1]:,} in B", markup=False)


def _columns(day: DayDiff) -> list[str]:
    worst = sorted(day.columns, key=lambda column: -column.rows)
    lines = [
        f"{each.name}: {each.rows:,}{'' if each.most is None else f', {each.most:.3g}'}, {_time(each.first)}"
        for each in worst[:NAMED]
    ]
    if len(worst) > NAMED:
        lines.append(f"and {counted(len(worst) - NAMED, 'column')} more")
    return lines + [f"{name}: in one lake only" for name in day.unshared]


def _time(ns: int) -> str:
    return f"{datetime.fromtimestamp(ns / 1e9, UTC):%Y-%m-%d %H:%M:%S.%f}"[:-3]
