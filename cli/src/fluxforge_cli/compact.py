"""`fluxforge compact`: the small files of closed days made few large ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import date as calendar_date
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from fluxforge.errors import ConfigError, StorageError
from fluxforge.settings import load
from fluxforge_cli.configuration import ConfigOption, OnlyOption, RootOption, root_of
from fluxforge_cli.console import console, counted, print_json, size

if TYPE_CHECKING:
    from fluxforge.files import CommittedFile
    from fluxforge.files.compact import Result


def compact(
    exchange: Annotated[
        str | None, typer.Option("--exchange", help="Only days with data of it; the lake only.")
    ] = None,
    symbol: Annotated[str | None, typer.Option("--symbol", help="As BTC/USDT or BTC-USDT; the lake only.")] = None,
    table: Annotated[
        str | None,
        typer.Option("--table", help="A table of the lake (hf, cross, bars, trades, ticker) or a Bronze channel."),
    ] = None,
    date: Annotated[str | None, typer.Option("--date", help="Only this day, UTC, closed or not.")] = None,
    only: OnlyOption = None,
    max_file_mb: Annotated[
        float | None, typer.Option("--max-file-mb", min=1, help="The largest file; maintenance.max_file_mb by default.")
    ] = None,
    grace: Annotated[
        float | None, typer.Option("--grace", min=0, help="s until old files go; maintenance.grace_s by default.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done.")] = False,
    data_dir: RootOption = None,
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Make few large files of the many small ones of closed days; the rows stay the same, and readers see no change.

    Batches of one log partition and day are merged together, with all the markets in them. Old files go when a later
    run finds their grace over. Exit code 1 where something could not be merged.
    """
    from fluxforge import maintain  # noqa: PLC0415  Arrow takes a moment to import
    from fluxforge.bronze.schema import CHANNELS  # noqa: PLC0415
    from fluxforge.files.compact import compact as merge  # noqa: PLC0415
    from fluxforge.files.runs import Options  # noqa: PLC0415
    from fluxforge.lake.scan import FOLDERS  # noqa: PLC0415

    if table is not None and table not in (known := [*FOLDERS, *CHANNELS]):
        raise ConfigError(f"there is no table or channel {table!r}", hint=f"one of {', '.join(dict.fromkeys(known))}")
    settings = load(config)
    given = settings.maintenance
    options = Options(
        date=None if date is None else _day(date),
        max_bytes=int((max_file_mb or given.max_file_mb) * 1e6),
        grace_s=given.grace_s if grace is None else grace,
    )
    layers = {}
    if only != "lake" and exchange is None and symbol is None:
        layers["bronze"] = (
            maintain.bronze_layer(settings, root_of(settings, data_dir, "bronze")),
            replace(options, wanted=_of_channel(table)),
        )
    if only != "bronze":
        wanted = _of_partition(exchange, symbol, table, options.date)
        lake = maintain.lake_layer(settings, root_of(settings, data_dir, "lake"))
        layers["lake"] = (lake, replace(options, wanted=wanted))
    done: dict[str, Result] = {}
    for name, (layer, chosen) in layers.items():
        plan = merge(layer.tree, layer.layout, replace(chosen, dry_run=True))
        if dry_run:
            done[name] = plan
            continue
        with _progress() as progress:
            task = progress.add_task(name, total=plan.bytes_before)
            done[name] = merge(
                layer.tree,
                layer.layout,
                chosen,
                progress=lambda size, task=task: progress.update(task, advance=size),  # type: ignore[misc]
            )
    if as_json:
        print_json({"dry_run": dry_run, **{name: _as_json(result) for name, result in done.items()}})
    else:
        for name, result in done.items():
            console().print(_told(name, result, dry_run), markup=False)
    failed = [each for result in done.values() for each in result.failed]
    if failed:
        raise StorageError("\n".join(failed), hint="everything else was done; nothing is lost")


def _of_channel(table: str | None) -> Callable[[CommittedFile], bool]:
    return lambda file: table is None or file.meta["channel"] == table


def _of_partition(
    exchange: str | None, symbol: str | None, table: str | None, date: str | None
) -> Callable[[CommittedFile], bool]:
    from fluxforge.lake.layout import hive_symbol, parts_of  # noqa: PLC0415
    from fluxforge.lake.scan import FOLDERS  # noqa: PLC0415

    asked = {"exchange": exchange, "symbol": None if symbol is None else hive_symbol(symbol), "date": date}
    inside = None if table is None else f"/{FOLDERS.get(table, table)}/exchange="

    def wanted(file: CommittedFile) -> bool:
        parts = parts_of(file)
        return (inside is None or inside in file.path) and all(
            value is None or parts[name] == value for name, value in asked.items()
        )

    return wanted


def _day(text: str) -> str:
    try:
        return calendar_date.fromisoformat(text).isoformat()
    except ValueError as error:
        raise ConfigError(f"--date {text!r} is no day", hint="as 2026-01-31") from error


def _progress() -> Progress:
    stream = console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    return Progress(*columns, console=stream, transient=True, disable=not stream.is_terminal)


def _as_json(result: Result) -> dict[str, Any]:
    return {**asdict(result), "hash": str(result.hash)}


def _told(name: str, result: Result, dry_run: bool) -> str:
    if not result.records_before:
        text = "nothing to merge"
    elif dry_run:
        text = (
            f"would make {counted(result.files_before, 'file')} {result.files_after:,}: "
            f"{counted(result.rows, 'row')}, {size(result.bytes_before)}"
        )
    else:
        text = (
            f"{counted(result.files_before, 'file')} are now {result.files_after:,}: {counted(result.rows, 'row')}, "
            f"{size(result.bytes_before)} before, {size(result.bytes_after)} after; row hash {result.hash}"
        )
    waiting = ""
    if result.pending:
        merged = counted(result.pending, "merged batch", "merged batches")
        waiting = f"; the old files of {merged} go when a later run finds the grace over"
    return f"{name}: {text}{waiting}"
