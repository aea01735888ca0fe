"""`fluxforge health`: whether the pipeline does its work, on one screen."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from fluxforge.settings import load
from fluxforge_cli.configuration import ConfigOption
from fluxforge_cli.console import console, print_json
from fluxforge_cli.ls import JsonOption

if TYPE_CHECKING:
    from fluxforge.health import Line


def health(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Look at log, exchanges, lag, rows, Bronze, lake and disks, and say what to do about each thing that is not well.

    Reads the log and the files, asks no service and changes nothing; limits are the settings under `health`. Exit code
    1 where anything is not well, so that cron can tell.
    """
    from fluxforge.health import look  # noqa: PLC0415  Arrow takes a moment to import

    lines = list(look(load(config)))
    if as_json:
        print_json([asdict(line) if not line.ok else {**asdict(line), "advice": ""} for line in lines])
    else:
        console().print(_table(lines))
        failed = sum(not line.ok for line in lines)
        console().print(f"{failed} of {len(lines)} not well" if failed else f"all {len(lines)} well", markup=False)
    if not all(line.ok for line in lines):
        raise typer.Exit(1)


def _table(lines: list[Line]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    table.add_column("of", no_wrap=True)
    table.add_column("found", overflow="fold")
    for line in lines:
        mark = Text("ok", style="green") if line.ok else Text("!!", style="bold red")
        told = Text(line.told)
        if not line.ok:
            told.append(f"\n→ {line.advice}", style="yellow")
        table.add_row(mark, Text(line.name), told)
    return table
