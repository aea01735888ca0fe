"""`fluxforge retain`: what is older than it is to be kept, dropped on record."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

from fluxforge.errors import ConfigError, StorageError
from fluxforge.settings import Settings, load
from fluxforge.settings.maintenance import Maintenance
from fluxforge_cli.configuration import ConfigOption, OnlyOption, RootOption, root_of
from fluxforge_cli.console import console, counted, print_json, size

if TYPE_CHECKING:
    from fluxforge.files.retain import Result


def retain(
    bronze_days: Annotated[
        float | None, typer.Option("--bronze-days", help="Whole days before today; maintenance.bronze_days by default.")
    ] = None,
    lake_days: Annotated[
        float | None, typer.Option("--lake-days", help="As many of the lake; maintenance.lake_days by default.")
    ] = None,
    table_days: Annotated[
        list[str] | None, typer.Option("--table-days", help="Of one table of the lake, as hf=90; may be repeated.")
    ] = None,
    only: OnlyOption = None,
    apply: Annotated[bool, typer.Option("--apply", help="Do it; without it only say what would be dropped.")] = False,
    grace: Annotated[
        float | None, typer.Option("--grace", min=0, help="s until the files go; maintenance.grace_s by default.")
    ] = None,
    data_dir: RootOption = None,
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Drop whole batches that are older than they are to be kept. A dry run without --apply.

    What was dropped stays on record in `_retained/`. The newest batch of a log partition always stays, and a batch of
    Bronze holds all channels of its partition. Files go when a later run finds their grace over. Exit code 1 where
    something could not be dropped.
    """
    from fluxforge import maintain  # noqa: PLC0415  Arrow takes a moment to import
    from fluxforge.files import chains  # noqa: PLC0415
    from fluxforge.files.retain import retain as drop  # noqa: PLC0415

    settings = _asked(load(config), bronze_days, lake_days, table_days or [])
    grace_s = settings.maintenance.grace_s if grace is None else grace
    layers = [] if only == "lake" else [maintain.bronze_layer(settings, root_of(settings, data_dir, "bronze"))]
    layers += [] if only == "bronze" else [maintain.lake_layer(settings, root_of(settings, data_dir, "lake"))]
    done: dict[str, Result] = {}
    stream = console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=stream, transient=True, disable=not stream.is_terminal) as progress:
        for layer in layers:
            task = progress.add_task(layer.name, total=len(chains(layer.tree)))
            done[layer.name] = drop(
                layer.tree, layer.layout, layer.days, apply=apply, grace_s=grace_s,
                progress=lambda task=task: progress.update(task, advance=1),  # type: ignore[misc]
            )  # fmt: skip
    if as_json:
        print_json({"dry_run": not apply, **{name: asdict(result) for name, result in done.items()}})
    else:
        for name, result in done.items():
            console().print(_told(name, result, apply), markup=False)
    failed = [each for result in done.values() for each in result.failed]
    if failed:
        raise StorageError("\n".join(failed), hint="everything else was done")


def _asked(settings: Settings, bronze_days: float | None, lake_days: float | None, tables: list[str]) -> Settings:
    """The settings with what the command line says instead. Raises ConfigError."""
    given = settings.maintenance
    by_table = dict(given.table_days)
    try:
        by_table |= {name: float(days) for name, _, days in (text.partition("=") for text in tables)}  # type: ignore[misc]
        kept = Maintenance(
            **{
                **given.model_dump(),
                "bronze_days": given.bronze_days if bronze_days is None else bronze_days,
                "lake_days": given.lake_days if lake_days is None else lake_days,
                "table_days": by_table,
            }
        )
    except ValueError as error:
        raise ConfigError(
            "the days to keep must be above 0, and --table-days name a table: hf, cross, bars, trades, ticker",
            hint="as --bronze-days 30 --lake-days 365 --table-days hf=90",
        ) from error
    return settings.model_copy(update={"maintenance": kept})


def _told(name: str, result: Result, apply: bool) -> str:
    if not result.records:
        text = "nothing is too old"
    else:
        what = (
            f"{counted(result.files, 'file')} of {counted(result.records, 'batch', 'batches')}, "
            f"{counted(result.rows, 'row')}, {size(result.bytes)}"
        )
        text = f"{'dropped' if apply else 'would drop'} {what}, up to {max(result.until.values())}"
    waiting = ""
    if result.pending:
        waiting = f"; files of {counted(result.pending, 'log partition')} go when a later run finds the grace over"
    return f"{name}: {text}{waiting}"
