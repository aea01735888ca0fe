"""`fluxforge etl`: Bronze into the lake without a log, once or for as long as Bronze grows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fluxforge.errors import ConfigError, SegmentError, StorageError
from fluxforge.service import Stop, on_signals
from fluxforge.settings import Settings, load
from fluxforge_cli.configuration import ConfigOption, DataOption, root_of
from fluxforge_cli.console import console, counted, print_json, progress_bar

if TYPE_CHECKING:
    from fluxforge.etl import Pass, Result, Window

JsonOption = Annotated[bool, typer.Option("--json", help="End with one line of JSON; with --watch one for each run.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("etl")(etl)


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
    engine: Annotated[
        Literal["local", "dask"], typer.Option("--engine", help="Who does the work: this machine, or a Dask cluster.")
    ] = "local",
    scheduler: Annotated[
        str | None, typer.Option("--scheduler", help="The cluster of --engine dask.", metavar="tcp://HOST:8786")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Go on as Bronze grows, until SIGINT or SIGTERM.")] = False,
    poll_interval: Annotated[
        float, typer.Option("--poll-interval", min=0.1, help="With --watch: seconds between two looks at Bronze.")
    ] = 30.0,
    verify: Annotated[
        bool, typer.Option("--verify", help="Make everything again from the beginning and compare it with the lake.")
    ] = False,
    skip_unreadable: Annotated[
        bool, typer.Option("--skip-unreadable", help="Go on past a segment that cannot be read, naming it.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make features, rows across markets, bars, trades and tickers from Bronze.

    A second run goes on and writes only what is new. Days go on for a minute into the next, whose events close their
    last bars, and must continue what the lake holds.
    """
    from fluxforge import etl as batch  # noqa: PLC0415  the kernels' compiler takes a second to import
    from fluxforge.bronze.read import stop  # noqa: PLC0415

    window = _window(mode, date, start, end)
    _check_together(mode=mode, engine=engine, scheduler=scheduler, workers=workers, watch=watch, verify=verify)
    settings = load(config)
    root = root_of(settings, data_dir, "bronze")
    target = root_of(settings, data_dir, "lake") if output is None else settings.storage.output.elsewhere(output)
    skipped: list[str] = []

    def skip(error: SegmentError) -> None:
        skipped.append(str(error))
        console(stderr=True).print(f"skipped: {error}", markup=False)

    def go(progress: Callable[[int, int], None]) -> Result:
        skipped.clear()
        return batch.run(
            root,
            target,
            window,
            features=settings.feature_config(),
            bars=settings.bar_config(),
            tables=tables(settings),
            cross=settings.cross.config() if settings.cross.enabled and "hf" in tables(settings) else None,
            workers=workers,
            scheduler=scheduler,
            verify=verify,
            on_error=skip if skip_unreadable else stop,
            progress=progress,
        )

    if watch:

        def tell(done: Pass) -> None:
            if as_json:
                print_json({"batches": done.batches, "seconds": done.seconds, **_as_json(done.result, skipped)})
            else:
                told = f"{counted(done.batches, 'new batch', 'new batches')} in {done.seconds:.1f} s: "
                console().print(told + _told(done.result), highlight=False)

        stopping = Stop()
        on_signals(stopping)
        batch.watch(root, go, stopping, poll_s=poll_interval, on_pass=tell, on_trouble=_trouble)
        return
    with progress_bar() as progress:
        task = progress.add_task("events", total=None)
        result = go(lambda done, of: progress.update(task, completed=done, total=of))
    if as_json:
        print_json(_as_json(result, skipped))
        return
    console().print(_told(result), highlight=False)
    console().print(f"lake: {target}/processed", highlight=False)


def tables(settings: Settings) -> list[str]:
    """The tables of the enabled channels, and of those whose events are passed through."""
    channels = settings.etl.channels
    made = ["hf", "bars"] if channels.orderbook.enabled else []
    made += [name for name in ("trades", "ticker") if getattr(channels, name).enabled]
    names = ("orderbook", "trades", "ticker", "control")
    return made + [f"events_{name}" for name in names if getattr(channels, name).pass_through]


def _check_together(*, mode: str, engine: str, scheduler: str | None, workers: int, watch: bool, verify: bool) -> None:
    """Raises ConfigError for options that do not go with each other."""
    if (engine == "dask") is (scheduler is None):
        raise ConfigError(
            "--engine dask and --scheduler belong together", hint="--engine dask --scheduler tcp://HOST:8786"
        )
    if engine == "dask" and workers > 1:
        raise ConfigError("--workers are processes of this machine", hint="give the cluster more workers instead")
    if watch and (mode != "all" or verify):
        raise ConfigError("--watch goes on with all that Bronze has", hint="leave out --mode and --verify")


def _trouble(error: StorageError) -> None:
    console(stderr=True).print(f"tried again at the next look: {error}", markup=False)


def _as_json(result: Result, skipped: list[str]) -> dict[str, Any]:
    counts = {"events": result.events, "rows": dict(result.rows), "chains": result.chains}
    return {
        **counts,
        "rejected": dict(result.rejected),
        "late": result.late,
        "behind": result.behind,
        "skipped": list(skipped),
    }


def _told(result: Result) -> str:
    rows = ", ".join(f"{count:,} {table}" for table, count in sorted(result.rows.items())) or "nothing new"
    text = f"{result.events:,} events of {counted(result.chains, 'Bronze chain')}: {rows}"
    if result.behind:
        text += (
            f"\n{result.behind:,} feature rows came behind the cross rows that are stored; a fresh --output has them"
        )
    if not result.rejected and not result.late:
        return text
    reasons = [f"{count:,} {reason.replace('_', ' ')}" for reason, count in sorted(result.rejected.items())]
    told = ", ".join([*reasons, *([f"{result.late:,} late for a bar"] if result.late else [])])
    return f"{text}\nnot all events gave rows: {told}; they are in Bronze"


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
