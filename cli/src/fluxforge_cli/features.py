"""`fluxforge features list|describe`: the columns a configuration yields."""

from __future__ import annotations

import difflib
from dataclasses import asdict
from typing import Annotated

import typer
from rich import box
from rich.table import Table

from fluxforge import catalogue
from fluxforge.errors import ConfigError
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
    found = [feature for _, feature in catalogue.chosen(load(config).feature_config())]
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


@app.command()
def describe(
    name: Annotated[str, typer.Argument(help="A column, as `features list` prints it.")],
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Print all there is to know of one feature column: formula, unit, warm-up, null rule, source."""
    found = {feature.name: feature for _, feature in catalogue.chosen(load(config).feature_config())}
    if name not in found:
        near = difflib.get_close_matches(name, found, n=3)
        hint = f"did you mean {', '.join(near)}?" if near else "`fluxforge features list` prints them all"
        raise ConfigError(f"this configuration has no feature {name}", hint=hint)
    feature = asdict(found[name])
    if as_json:
        print_json(feature)
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    for label, key in (("formula", "formula"), ("unit", "unit"), ("warm-up", "warm_up"), ("null", "null")):
        table.add_row(label, feature[key])
    table.add_row("stored as", "int32" if feature["integer"] else "float64")
    if feature["source"]:
        table.add_row("source", feature["source"])
    console().print(name, markup=False, highlight=False)
    console().print(table, markup=False)
    meaning = catalogue.terms(name)
    if meaning:
        console().print("\n" + " ".join(meaning), markup=False, highlight=False)
