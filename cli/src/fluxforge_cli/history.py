"""`fluxforge import` and `fluxforge etl`: existing data into Bronze, and Bronze into the lake without a log."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from fluxforge.errors import ConfigError, SegmentError
from fluxforge.settings import Settings, load
from fluxforge_cli.configuration import ConfigOption, DataOption, root_of
from fluxforge_cli.console import console, print_json

if TYPE_CHECKING:
    from fluxforge.etl import Window
    from fluxforge_cli.importer import Landed

JsonOption = Annotated[bool, typer.Option("--json", help="End with one line of JSON.")]


def register(app: typer.Typer) -> None:
    """Add both commands."""
    app.command("import")(import_files)
    app.command("etl")(etl)


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
    with _progress() as progress:
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


def etl(
    data_dir: DataOption = None,
    output: Annotated[
        str | None,
        typer.Option("--output", help="Its processed/ gets the lake; the data folder by default.", metavar="FOLDER"),
    ] = None,
    mode: Annotated[
        Literal["all", "date", "range"],
        typer.Option("--mode", help="Which days of Bronze, UTC, by capture: all, --date, or --from to --to."),
    ] = "all",
    date: Annotated[str | None, typer.Option("--date", help="The day of --mode date.", metavar="DAY")] = None,
    start: Annotated[str | None, typer.Option("--from", help="First day of --mode range.", metavar="DAY")] = None,
    end: Annotated[str | None, typer.Option("--to", help="Its last day, included.", metavar="DAY")] = None,
    workers: Annotated[
        int, typer.Option("--workers", min=1, help="Processes that share the partitions and files, market by market.")
    ] = 1,
    skip_unreadable: Annotated[
        bool, typer.Option("--skip-unreadable", help="Go on past a segment that cannot be read, naming it.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make features, bars, trades and tickers from Bronze. A second run writes only what is new.

    Days go on for a minute into the next, whose events close their last bars, and must continue what the lake holds.
    """
    from fluxforge import etl as batch  # noqa: PLC0415  the kernels' compiler takes a second to import
    from fluxforge.bronze.read import stop  # noqa: PLC0415

    window = _window(mode, date, start, end)
    settings = load(config)
    root = root_of(settings, data_dir, "bronze")
    target = root_of(settings, data_dir, "lake") if output is None else settings.storage.output.elsewhere(output)
    skipped: list[str] = []

    def skip(error: SegmentError) -> None:
        skipped.append(str(error))
        console(stderr=True).print(f"skipped: {error}", markup=False)

    with _progress() as progress:
        task = progress.add_task("events", total=None)
        result = batch.run(
            root,
            target,
            window,
            features=settings.feature_config(),
            bars=settings.bar_config(),
            tables=tables(settings),
            workers=workers,
            on_error=skip if skip_unreadable else stop,
            progress=lambda done, of: progress.update(task, completed=done, total=of),
        )
    if as_json:
        counts = {"events": result.events, "rows": dict(result.rows), "chains": result.chains}
        print_json({**counts, "rejected": dict(result.rejected), "late": result.late, "skipped": skipped})
        return
    rows = ", ".join(f"{count:,} {table}" for table, count in sorted(result.rows.items())) or "nothing new"
    console().print(f"{result.events:,} events of {result.chains} Bronze chains: {rows}", highlight=False)
    if result.rejected or result.late:
        reasons = [f"{count:,} {reason.replace('_', ' ')}" for reason, count in sorted(result.rejected.items())]
        told = ", ".join([*reasons, *([f"{result.late:,} late for a bar"] if result.late else [])])
        console().print(f"not all events gave rows: {told}; they are in Bronze", highlight=False)
    console().print(f"lake: {target}/processed", highlight=False)


def tables(settings: Settings) -> list[str]:
    """The tables of the enabled channels."""
    channels = settings.etl.channels
    made = ["hf", "bars"] if channels.orderbook.enabled else []
    return made + [name for name in ("trades", "ticker") if getattr(channels, name).enabled]


def _window(mode: str, date: str | None, start: str | None, end: str | None) -> Window:
    from fluxforge.etl.window import ALL, Window  # noqa: PLC0415

    given = {name for name, day in (("--date", date), ("--from", start), ("--to", end)) if day is not None}
    wanted = {"all": set(), "date": {"--date"}, "range": {"--from", "--to"}}[mode]
    if given != wanted:
        takes, got = (" and ".join(sorted(names)) for names in (wanted, given))
        raise ConfigError(
            f"--mode {mode} takes {takes or 'no day'}, not {got or 'none'}",
            hint="--mode date --date DAY, or --mode range --from DAY --to DAY",
        )
    if date is not None:
        return Window.of_days(date, date)
    return ALL if start is None or end is None else Window.of_days(start, end)


def _progress() -> Progress:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    stream = console(stderr=True)
    return Progress(*columns, console=stream, transient=True, disable=not stream.is_terminal)


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
