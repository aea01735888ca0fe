"""`fluxforge repair partitions`: lake files in wrong folders."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from fluxforge.errors import StorageError
from fluxforge.settings import load
from fluxforge_cli.configuration import ConfigOption, RootOption, root_of
from fluxforge_cli.console import console, print_json
from fluxforge_cli.ls import JsonOption

if TYPE_CHECKING:
    from fluxforge.files import Tree
    from fluxforge.lake.foreign import Taken

app = typer.Typer(help="Put right what `validate` finds.", no_args_is_help=True)

ApplyOption = Annotated[bool, typer.Option("--apply", help="Do it; without it only say what would be done.")]


@app.callback()
def repair() -> None:
    """Put right what `validate` finds."""


@app.command()
def partitions(
    apply: ApplyOption = False,
    remove: Annotated[
        bool, typer.Option("--remove", help="With --apply: remove a misplaced file once its rows are committed.")
    ] = False,
    data_dir: RootOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring lake files that stand in wrong folders to where their rows belong: BTC/USD to BTC-USD, rows to their day.

    Only files that no commit record names are touched. One that is a committed file goes back to its place; the rows
    of any other are committed anew in the right folders, once. Dry run by default. Exit code 1 where a file could not
    be understood.
    """
    from fluxforge.lake.foreign import take  # noqa: PLC0415  Arrow takes a moment to import
    from fluxforge.lake.versions import keeping  # noqa: PLC0415
    from fluxforge.validate import stored_files, unnamed  # noqa: PLC0415

    tree = keeping(root_of(load(config), data_dir, "lake"))
    found = take(tree, tree.storage, unnamed(tree, list(stored_files(tree))), apply=apply)
    if apply and remove:
        tree.storage.remove([one.path for one in found if one.does != "refuse"])
    if as_json:
        print_json({"applied": apply, "files": [asdict(one) for one in found]})
    else:
        tell(tree, found, apply)
    refused = [one.path for one in found if one.does == "refuse"]
    if refused:
        raise StorageError(f"{len(refused)} files are left as they are", hint="what is wrong with each is told above")


def tell(tree: Tree, found: list[Taken], applied: bool) -> None:
    """A line for each file, its folders below it."""
    out = console()
    for one in found:
        out.print(f"{one.does}: {one.path}{one.told and ': '}{one.told}", markup=False)
        for folder, count in one.folders.items():
            out.print(f"  {count:,} rows → {folder}", markup=False)
    if not found:
        out.print(f"{tree}: no file stands where it should not")
    elif not applied:
        out.print("nothing has been changed; --apply does it")
