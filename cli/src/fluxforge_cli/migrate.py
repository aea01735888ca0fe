"""`fluxforge migrate`: older forms of data into today's."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fluxforge.errors import StorageError
from fluxforge.settings import load
from fluxforge_cli.configuration import ConfigOption, RootOption, root_of
from fluxforge_cli.console import console, counted, print_json
from fluxforge_cli.ls import JsonOption
from fluxforge_cli.repair import ApplyOption, tell

if TYPE_CHECKING:
    from fluxforge.bronze.migrate import Migrated
    from fluxforge.files import Storage
    from fluxforge.storage import Root
    from fluxforge_cli.importer import Landed

_SEGMENTS = (".parquet", ".ndjson", ".ndjson.gz", ".ndjson.zst")
_COPY = 1 << 20


def migrate(
    source: Annotated[
        str | None,
        typer.Argument(
            help="Root of a first-generation folder, with raw/ready/ and processed/; without it, this one's Bronze."
        ),
    ] = None,
    apply: ApplyOption = False,
    data_dir: RootOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring older data to today's form. Dry run by default.

    Without SOURCE: segments of NDJSON and of older schemas in Bronze become Parquet of the present one, batch by batch
    through commit records; the old files go when a later run of this or of compact finds their grace over. With
    SOURCE: segments in its raw/ready go to Bronze as imports, its lake files to the lake; SOURCE is only read, and
    what was taken before is not taken again. Exit code 1 where something could not be migrated.
    """
    settings = load(config)
    raw, lake = root_of(settings, data_dir, "bronze"), root_of(settings, data_dir, "lake")
    if source is None:
        _own(raw, apply, as_json)
    else:
        _foreign(settings.storage.input.elsewhere(source), raw, lake, apply, as_json)


def _own(raw: Root, apply: bool, as_json: bool) -> None:
    from fluxforge import bronze  # noqa: PLC0415  Arrow takes a moment to import
    from fluxforge.bronze.migrate import migrate as renew  # noqa: PLC0415

    tree = bronze.tree(raw)
    done = renew(tree, apply=apply)
    if as_json:
        print_json({"applied": apply, **asdict(done)})
    else:
        console().print(f"{tree}: {_renewed(done, apply)}", markup=False)
    if done.failed:
        raise StorageError("\n".join(done.failed), hint="all else was done; nothing is lost")


def _renewed(done: Migrated, apply: bool) -> str:
    if not done.batches:
        return "nothing is of an older form"
    what = "brought to today's form" if apply else "of an older form; --apply brings them to today's"
    batches = counted(done.batches, "batch", "batches")
    return f"{batches}, {counted(done.files, 'file')}, {counted(done.rows, 'row')} {what}"


def _foreign(source: Root, raw: Root, target: Root, apply: bool, as_json: bool) -> None:
    from fluxforge.lake import lake_tree  # noqa: PLC0415
    from fluxforge.lake.foreign import take  # noqa: PLC0415
    from fluxforge.storage import storage  # noqa: PLC0415
    from fluxforge.validate import stored_files  # noqa: PLC0415

    old_raw, old_lake = storage(source, "raw"), lake_tree(source)
    segments = [path for path in old_raw.walk("ready") if path.endswith(_SEGMENTS)]
    lake_files = [path for path in stored_files(old_lake) if path.endswith(".parquet")]
    if not segments and not lake_files:
        raise StorageError(f"{source} has no segments in raw/ready and no processed/", hint="name the data folder")
    landed = list(_land(old_raw, segments, raw)) if apply else []
    taken = take(lake_tree(target), old_lake.storage, lake_files, apply=apply)
    if as_json:
        told: dict[str, Any] = {"applied": apply, "segments": len(segments), "files": [asdict(one) for one in taken]}
        told["landed"] = [
            {"file": name, "lines": one.lines, "bad": one.bad, "already": one.already, "broken": one.broken}
            for name, one in landed
        ]
        print_json(told)
    else:
        out = console()
        for name, one in landed:
            state = "imported before" if one.already else f"{one.lines:,} rows, {one.bad:,} of them bad"
            out.print(f"{name}: {one.broken or state}", markup=False)
        if not apply:
            out.print(f"{old_raw.name('ready')}: {len(segments):,} segments to import into Bronze", markup=False)
        tell(old_lake, taken, apply)
    failed = [name for name, one in landed if one.broken] + [one.path for one in taken if one.does == "refuse"]
    if failed:
        raise StorageError(f"{len(failed)} files could not be migrated: {', '.join(failed[:5])}", hint="see above")


def _land(old: Storage, segments: list[str], raw: Root) -> Iterator[tuple[str, Landed]]:
    """Each segment imported, by way of a copy: the importer reads files of this machine."""
    from fluxforge_cli.importer import land  # noqa: PLC0415

    with tempfile.TemporaryDirectory(prefix="fluxforge-migrate-") as scratch:
        for number, path in enumerate(segments):
            copy = Path(scratch) / str(number) / Path(path).name
            copy.parent.mkdir()
            with old.open(path) as opened, copy.open("wb") as file:
                while block := opened.read(_COPY):
                    file.write(block)
            (landed,) = land([copy], "seed", raw)
            copy.unlink()
            yield old.name(path), landed
