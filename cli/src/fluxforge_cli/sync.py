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
from fluxforge.settings import Settings, load
from fluxforge_cli.configuration import ConfigOption, OnlyOption, RootOption, root_of
from fluxforge_cli.console import console, counted, print_json, size

if TYPE_CHECKING:
    from fluxforge.files.sync import Progress as Told
    from fluxforge.files.sync import Result
    from fluxforge.settings.models import StorageLocation
    from fluxforge.sync import Part


def sync(
    to: Annotated[
        str | None,
        typer.Argument(help="Folder or s3://bucket/prefix to sync to; storage.output by default.", metavar="TO"),
    ] = None,
    data_dir: RootOption = None,
    only: OnlyOption = None,
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
    on_gap: Annotated[
        Literal["stop", "record"],
        typer.Option(
            "--on-gap",
            help="Where the source has dropped what was not copied: stop with an error, or record the gap at the "
            "target and go on.",
        ),
    ] = "stop",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what would be copied.")] = False,
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="End with one line of JSON.")] = False,
) -> None:
    """Copy what is committed to another place, each file verified. A second run copies only what is new.

    Exit code 1 where something could not be copied.
    """
    from fluxforge.files.sync import Options  # noqa: PLC0415  Arrow takes a moment to import
    from fluxforge.files.sync import sync as run  # noqa: PLC0415
    from fluxforge.sync import carry, pair  # noqa: PLC0415

    if delete_after and pattern:
        raise ConfigError(
            "--delete-after with --pattern: what the pattern leaves out has no copy", hint="leave one of them out"
        )
    settings = load(config)
    sources, target = _places(settings, data_dir, only, to)
    options = Options(
        workers=workers,
        patterns=tuple(pattern or ()),
        delete_after=delete_after,
        on_gap=on_gap,
        grace_s=settings.maintenance.grace_s,
        dry_run=dry_run,
    )
    found = {part: trees for part, source in sources.items() if (trees := pair(part, source, target)) is not None}
    results: dict[str, Result] = {}
    failed: list[str] = []
    for part, (here, there) in found.items():
        if before and not dry_run:
            failed += _compacted(settings, part, sources[part])
        with _bar(part) as told:
            results[part] = run(here, there, options, progress=told)
        failed += results[part].failed
        if not (dry_run or results[part].failed):
            carry(here, there)
    places = {part: str(source) for part, source in sources.items()}
    if as_json:
        print_json({"from": places, "to": str(target), "dry_run": dry_run, **_summary(results, failed)})
    else:
        for part, place in places.items():
            text = _told(results[part], dry_run) if part in results else f"nothing is committed in {place}"
            console().print(f"{part}: {text}", highlight=False, markup=False)
    if failed:
        raise StorageError("\n".join(failed), hint="everything else is done; sync again when it is mended")


def _places(
    settings: Settings, data_dir: str | None, only: Part | None, to: str | None
) -> tuple[dict[Part, StorageLocation], StorageLocation]:
    """Each part's source, and the target, which a part that lies there already needs no copy to. Raises ConfigError."""
    target = settings.storage.output.elsewhere(to)
    asked: tuple[Part, ...] = ("bronze", "lake") if only is None else (only,)
    sources = {part: root_of(settings, data_dir, part) for part in asked}
    sources = {part: source for part, source in sources.items() if not _same_place(source, target)}
    if not sources:
        raise ConfigError(f"{target} is source and target", hint="name another place, as fluxforge sync s3://bucket")
    return sources, target


def _same_place(one: StorageLocation, other: StorageLocation) -> bool:
    """Whichever version of the lake there is meant."""
    return other == one.model_copy(update={"version": other.version})


def _compacted(settings: Settings, part: Part, source: StorageLocation) -> list[str]:
    """Merge closed days, as the settings say; what could not be."""
    from fluxforge import maintain  # noqa: PLC0415

    layer = (maintain.bronze_layer if part == "bronze" else maintain.lake_layer)(settings, source)
    return maintain.compacted(settings.maintenance, layer).failed


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
        f"{counted(result.records, 'batch', 'batches')}, {counted(result.files, 'file')}, {size(result.bytes)} {verb}; "
        f"{result.already:,} already there"
    )
    if result.left_out:
        text += f"; {counted(result.left_out, 'file')} left out by pattern"
    if result.gap_offsets:
        text += f"; gaps on record, {counted(result.gap_offsets, 'offset')} in all"
    return text + (f"; {counted(result.deleted, 'batch', 'batches')} dropped from the source" if result.deleted else "")
