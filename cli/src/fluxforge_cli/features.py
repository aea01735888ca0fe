"""`fluxforge features list`: the columns a configuration yields."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich import box
from rich.table import Table

from fluxforge import catalogue
from fluxforge.settings import load
from fluxforge_cli.configuration import ConfigOption
from fluxforge_cli.console import console, print_json

app = typer.Typer(help="The features and their definitions.", no_args_is_help=True)


@app.callback()
def features() -> None:
    """The features and their definitions."""


@app.command("list")
def list_features(
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON list of objects.")] = False,
) -> None:
    """Print every feature column with its formula, unit and null rule."""
    found = catalogue.features(load(config).feature_config())
    if as_json:
        print_json([asdict(feature) for feature in found])
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("feature", "formula", "unit", "null"):
        table.add_column(column, overflow="fold")
    for feature in found:
        table.add_row(feature.name, feature.formula, feature.unit, feature.null)
    console().print(table, markup=False)
    console().print(f"{len(found)} columns")
