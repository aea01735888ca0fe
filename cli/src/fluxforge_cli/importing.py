"""`fluxforge import`: existing data into Bronze."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fluxforge.errors import SegmentError
from fluxforge.settings import load
from fluxforge_cli.configuration import ConfigOption, DataOption
from fluxforge_cli.console import console, print_json, progress_bar

if TYPE_CHECKING:
    from fluxforge_cli.importer import Landed

JsonOption = Annotated[bool, typer.Option("--json", help="End with one line of JSON.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("import")(import_files)


def import_files(
    files: Annotated[list[Path], typer.Argument(help="Files, plain, .gz or .zst.")],
    form: Annotated[
        Literal["ccxt-ndjson", "tardis", "binance-capture", "seed"],
        typer.Option("--format", help="What the files hold."),
    ],
    data_dir: DataOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Land existing data in Bronze. Importing the same content twice does nothing; exit code 1 for a broken file."""
    from fluxforge_cli.importer import land  # noqa: PLC0415  Arrow takes a moment to import

    root = load(config).storage.input.elsewhere(data_dir)
    with progress_bar() as progress:
        tasks = {}

        def show(landed: Landed) -> None:
            if landed.path not in tasks:
                tasks[landed.path] = progress.add_task(landed.path.name, total=None)
            progress.update(tasks[landed.path], completed=landed.lines)

        found = land(files, form, root, show)
    if as_json:
        print_json([_as_json(landed) for landed in found])
    else:
        for landed in found:
            console().print(_told(landed), highlight=False, markup=False)
    broken = [landed for landed in found if landed.broken]
    if broken:
        raise SegmentError(
            "; ".join(f"{landed.path}: {landed.broken}" for landed in broken),
            hint="what could be read of them is in Bronze; fetch the files again and import them",
        )


def _as_json(landed: Landed) -> dict[str, object]:
    return {
        "file": str(landed.path),
        "lines": landed.lines,
        "events": dict(landed.events),
        "bad": landed.bad,
        "already": landed.already,
        "broken": landed.broken,
    }


def _told(landed: Landed) -> str:
    if landed.already:
        return f"{landed.path}: imported before"
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(landed.events.items())) or "no events"
    text = f"{landed.path}: {landed.lines:,} lines, {kinds}"
    if not landed.bad:
        return text
    named = "".join(f"\n  {bad}" for bad in landed.first_bad)
    more = f"\n  and {landed.bad - len(landed.first_bad):,} more" if landed.bad > len(landed.first_bad) else ""
    return f"{text}, {landed.bad:,} bad, kept as undecodable{named}{more}"
