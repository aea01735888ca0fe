"""`fluxforge validate`: whether what is stored is what its records say."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from fluxforge.settings import load
from fluxforge_cli.configuration import ConfigOption, OnlyOption, RootOption, root_of
from fluxforge_cli.console import console, print_json, progress_bar
from fluxforge_cli.ls import JsonOption, layers

if TYPE_CHECKING:
    from fluxforge.inventory import Layer
    from fluxforge.validate import Report

SHOWN = 100


def validate(
    only: OnlyOption = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Records, and that files are there in their size; read none of them.")
    ] = False,
    data_dir: RootOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check Bronze and the lake against their commit records, and change nothing.

    Records tile the offsets; every file is there, with its bytes, hash, footer, rows and columns; rows are of the
    folder's day, symbol and source, offsets of the batch's; no file stands there that no record names. Exit code 1
    where something is not as it must be.
    """
    from fluxforge.validate import validate as check  # noqa: PLC0415  Arrow takes a moment to import

    settings = load(config)
    found: dict[Layer, Report] = {}
    with progress_bar() as bar:
        for layer in layers(only):
            task = bar.add_task(layer, total=None)
            found[layer] = check(
                root_of(settings, data_dir, layer),
                layer,
                quick=quick,
                progress=lambda done, of, task=task: bar.update(task, completed=done, total=of),  # type: ignore[misc]
            )
    if as_json:
        print_json({layer: asdict(report) for layer, report in found.items()})
    else:
        for name, report in found.items():
            _tell(name, report)
    if any(report.problems for report in found.values()):
        raise typer.Exit(1)


def _tell(layer: str, report: Report) -> None:
    out = console()
    for problem in report.problems[:SHOWN]:
        out.print(f"{problem.kind}: {problem.path}: {problem.told}", markup=False)
    if len(report.problems) > SHOWN:
        out.print(f"and {len(report.problems) - SHOWN:,} more; --json has them all")
    verdict = f"{len(report.problems):,} problems" if report.problems else "sound"
    out.print(
        f"{layer}: {report.chains:,} chains, {report.records:,} records, {report.files:,} files, {report.rows:,} rows: "
        f"{verdict}",
        markup=False,
    )
