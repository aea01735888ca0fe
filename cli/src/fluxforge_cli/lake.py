"""`fluxforge lake versions|use|drop`: what `reprocess` made, and which of it readers take."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from rich import box
from rich.table import Table

from fluxforge.settings import load
from fluxforge_cli.configuration import ConfigOption, root_of
from fluxforge_cli.console import console, counted, print_json
from fluxforge_cli.ls import JsonOption

if TYPE_CHECKING:
    from fluxforge.lake.versions import Version

app = typer.Typer(help="Versions of the lake, and which of them readers take.", no_args_is_help=True)

LakeOption = Annotated[
    str | None,
    typer.Option(
        "--data-dir", help="Folder or s3://bucket/prefix with the lake in processed/; storage.output by default.",
        metavar="FOLDER",
    ),
]  # fmt: skip
VersionArgument = Annotated[str, typer.Argument(help="As `fluxforge lake versions` prints it; live is the live lake.")]


@app.command()
def versions(data_dir: LakeOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List the live lake and every version: run, configuration, when it was made, rows, from when to when.

    The one that readers take is marked *.
    """
    from fluxforge.lake import versions as stored  # noqa: PLC0415  Arrow takes a moment to import

    found = stored.versions(root_of(load(config), data_dir, "lake"))
    if as_json:
        print_json([_as_json(one) for one in found])
        return
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in ("", "version", "run", "features, bars", "made, UTC", "from, UTC", "to, UTC", "rows"):
        table.add_column(heading, overflow="fold")
    for one in found:
        made, complete = one.manifest, one.complete
        when = "" if made is None else _time(complete.at) if complete else "not complete"
        table.add_row(
            "*" if one.current else "", one.name, made.run if made else "",
            f"{made.features}, {made.bars}" if made else "", when, _time(one.first_ts), _time(one.last_ts),
            ", ".join(f"{count:,} {name}" for name, count in one.rows.items()),
        )  # fmt: skip
    console().print(table, markup=False)


@app.command()
def use(
    version: VersionArgument, data_dir: LakeOption = None, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Let all who read the lake without naming a version take this one from now on.

    What is being read is read to its end as it was. The live pipeline goes on writing the live lake.
    """
    from fluxforge.lake import versions as stored  # noqa: PLC0415  Arrow takes a moment to import

    root = root_of(load(config), data_dir, "lake")
    before = stored.use(root, version)
    if as_json:
        print_json({"version": version, "before": before})
    else:
        console().print(f"readers of {root} take {version}; before, {before}", markup=False)


@app.command()
def drop(
    version: VersionArgument, data_dir: LakeOption = None, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Remove a version with all its files. Neither the live lake nor the version that readers take."""
    from fluxforge.lake import versions as stored  # noqa: PLC0415  Arrow takes a moment to import

    root = root_of(load(config), data_dir, "lake")
    count = stored.drop(root, version)
    if as_json:
        print_json({"version": version, "files": count})
    else:
        console().print(f"{version}: {counted(count, 'file')} removed from {root}", markup=False)


def _as_json(one: Version) -> dict[str, Any]:
    return {
        **one._asdict(),
        "manifest": msgspec.to_builtins(one.manifest),
        "complete": msgspec.to_builtins(one.complete),
    }


def _time(ns: int | None) -> str:
    return "" if ns is None else f"{datetime.fromtimestamp(ns // 1_000_000_000, UTC):%Y-%m-%d %H:%M:%S}"
