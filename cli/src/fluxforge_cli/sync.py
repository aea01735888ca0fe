"""`fluxforge sync`: Bronze and the lake of one root into another, on disks and in buckets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from fluxforge.errors import ConfigError, StorageError
from fluxforge.settings import load
from fluxforge_cli.configuration import ConfigOption, DataOption
from fluxforge_cli.console import console, print_json

if TYPE_CHECKING:
    from fluxforge.files import Tree
    from fluxforge.files.sync import Progress as Told
    from fluxforge.files.sync import Result


def sync(
    to: Annotated[
        str | None,
        typer.Argument(help="Folder or s3://bucket/prefix to sync to; storage.output by default.", metavar="TO"),
    ] = None,
    data_dir: DataOption = None,
    only: Annotated[Literal["bronze", "lake"] | None, typer.Option("--only", help="Only this part.")] = None,
    pattern: Annotated[
        list[str] | None,
        typer.Option(
            "--pattern",
            help="Only files whose folder matches, as binance/trades or */exchange=binance/symbol=BTC-*; "
            "records count what they leave out. May be repeated.",
            metavar="GLOB",
        ),
    ] = None,
    workers: Annotated[int, typer.Option("--workers", min=1, max=64, help="Files at once.")] = 8,
    before: Annotated[
        Literal["compact"] | None, typer.Option("--before", help="Merge closed days at the source first.")
    ] = None,
    delete_after: Annotated[
        bool,
        typer.Option(
            "--delete-after",
            help="Drop from the source what was read again at the target and is right; the newest batches stay.",
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what would be copied.")] = False,
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="End with one line of JSON.")] = False,
) -> None:
    """Copy what is committed to another place, each file verified. A second run copies only what is new.

    Exit code 1 where something could not be copied.
    """
    from fluxforge.files.sync import Options  # noqa: PLC0415  Arrow takes a moment to import
    from fluxforge.files.sync import sync as run  # noqa: PLC0415
    from fluxforge.sync import PARTS, pairs  # noqa: PLC0415

    if delete_after and pattern:
        raise ConfigError(
            "--delete-after with --pattern: what the pattern leaves out has no copy", hint="leave one of them out"
        )
    storage = load(config).storage
    source = storage.input if data_dir is None else storage.input.elsewhere(data_dir)
    target = storage.output if to is None else storage.output.elsewhere(to)
    if source == target:
        raise ConfigError(f"{source} is source and target", hint="name another place, as fluxforge sync s3://bucket")
    options = Options(workers=workers, patterns=tuple(pattern or ()), delete_after=delete_after, dry_run=dry_run)
    found = pairs(source, target, PARTS if only is None else (only,))
    results: dict[str, Result] = {}
    failed: list[str] = []
    for part, (here, there) in found.items():
        if before and not dry_run:
            failed += _compacted(part, here)
        with _bar(part) as told:
            results[part] = run(here, there, options, progress=told)
        failed += results[part].failed
    if as_json:
        print_json({"from": str(source), "to": str(target), "dry_run": dry_run, **_summary(results, failed)})
    else:
        for part, result in results.items():
            console().print(f"{part}: {_told(result, dry_run)}", highlight=False, markup=False)
        if not results:
            console().print(f"{source}: nothing is committed here", highlight=False, markup=False)
    if failed:
        raise StorageError("; ".join(failed), hint="all else is done; sync again when it is mended")


def _compacted(part: str, tree: Tree) -> list[str]:
    """Merge closed days; what could not be."""
    from fluxforge.bronze import compaction as of_bronze  # noqa: PLC0415
    from fluxforge.files.compact import compact  # noqa: PLC0415
    from fluxforge.lake import compaction as of_lake  # noqa: PLC0415

    layout = {"bronze": of_bronze.LAYOUT, "lake": of_lake.LAYOUT}[part]
    return compact(tree, layout).failed


@contextmanager
def _bar(part: str) -> Iterator[Told]:
    """Bytes, rate and time left, on a terminal."""
    stream = console(stderr=True)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=stream, transient=True, disable=not stream.is_terminal) as progress:
        task = progress.add_task(part, total=None)
        yield lambda done, of: progress.update(task, completed=done, total=of)


def _summary(results: dict[str, Result], failed: list[str]) -> dict[str, object]:
    counts = {
        part: {name: value for name, value in asdict(result).items() if name != "failed"}
        for part, result in results.items()
    }
    return {**counts, "failed": failed}


def _told(result: Result, dry_run: bool) -> str:
    verb = "would be copied" if dry_run else "copied"
    text = (
        f"{result.records:,} batches, {result.files:,} files, {result.bytes / 1e6:,.1f} MB {verb}; "
        f"{result.already:,} batches were there"
    )
    if result.left_out:
        text += f"; {result.left_out:,} files left out by pattern"
    return text + (f"; {result.deleted:,} batches dropped here" if result.deleted else "")
