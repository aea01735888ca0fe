"""`fluxforge exchanges`: what can be collected, and how."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Annotated, Any

import typer
from rich import box
from rich.table import Table

from fluxforge.errors import FluxForgeError
from fluxforge_cli.console import console, print_json


def exchanges(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON list of objects.")] = False,
) -> None:
    """Print every exchange of ccxt Pro: what it can be followed by, and whether any update is folded on the way.

    `native`: an adapter of ours; `parser`: ccxt's sockets, our own parser; `ccxt`: ccxt's parser, copied update by
    update. A `*` marks channels that one subscription opens for many symbols.
    """
    found = _ask()
    if as_json:
        print_json(found)
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("exchange", "channels", "read by", "book", "sampling", "checksum", "trade ids", "per socket"):
        table.add_column(column, overflow="fold")
    for each in found:
        table.add_row(*_row(each))
    console().print(table, markup=False)
    native, parsers = sum(each["native"] for each in found), sum(each["parser"] for each in found)
    whole = sum(each["sampling"] == "event" for each in found)
    console().print(
        f"{len(found)} exchanges; {native} with an adapter of their own, {parsers} through a parser of ours; "
        f"{whole} give every book update, the books of the others are marked as conflated in every row"
    )


def _row(each: dict[str, Any]) -> tuple[str, ...]:
    channels = ", ".join(f"{channel}{'*' if channel in each['batch'] else ''}" for channel in each["channels"])
    read_by = " ".join(name for name, is_so in (("native", each["native"]), ("parser", each["parser"])) if is_so)
    consecutive = {True: "consecutive", False: "unique", None: ""}[each["consecutive"]]
    checksum = "yes" if each["checksum"] else ""
    per_socket = str(each["connection"] or "ccxt spreads")
    book = (each["book"], each["sampling"], checksum)
    return (each["exchange"], channels, read_by or "ccxt", *book, consecutive, per_socket)


def _ask() -> list[dict[str, Any]]:
    """The collector knows; it is another program, and loads ccxt."""
    done = subprocess.run([sys.executable, "-m", "collector.ccxt_source"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise FluxForgeError("the collector cannot tell its exchanges", hint=done.stderr.strip().rpartition("\n")[2])
    answer: list[dict[str, Any]] = json.loads(done.stdout)
    return answer
