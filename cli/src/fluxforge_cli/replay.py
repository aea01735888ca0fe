"""`fluxforge replay` and `fluxforge replay clean`: Bronze back into a topic."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn

from fluxforge import service
from fluxforge.clock import NS, SystemClock
from fluxforge.errors import ConfigError
from fluxforge.settings import load
from fluxforge_cli.configuration import ConfigOption, DataOption
from fluxforge_cli.console import console, print_json
from fluxforge_cli.selecting import (
    ChannelOption,
    ExchangeOption,
    FromOption,
    RunOption,
    SourceTopicOption,
    SymbolOption,
    ToOption,
    named,
    selection,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from fluxforge.replay import Replay, State
    from fluxforge.replay.run import Progress as Told

app = typer.Typer(invoke_without_command=True)


@app.callback()
def replay(
    context: typer.Context,
    run: RunOption = None,
    exchange: ExchangeOption = None,
    symbol: SymbolOption = None,
    channel: ChannelOption = None,
    start: FromOption = None,
    end: ToOption = None,
    source_topic: SourceTopicOption = None,
    topic: Annotated[
        str | None, typer.Option("--topic", help="Topic to write to; replay.RUN.market.raw by default.")
    ] = None,
    partitions: Annotated[
        int | None, typer.Option("--partitions", min=1, help="Of a topic that is made; the source's by default.")
    ] = None,
    speed: Annotated[str, typer.Option("--speed", help="max, or times the market's own pace: 1x, 10x, 0.5x.")] = "max",
    force: Annotated[
        bool, typer.Option("--force", help="Write into a topic that is there already, even live.")
    ] = False,
    data_dir: DataOption = None,
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="End with one line of JSON.")] = False,
) -> None:
    """Write stored events to a topic again: key, value, partition, timestamp and headers as they were, in order.

    A header source-offset tells where a record comes from; a recorded gap becomes a Reset with a header source-gap.
    Ctrl-C ends the run, and Ctrl-Z pauses it, after a commit; a run that was killed goes on too, without loss or
    repeat.
    """
    if context.invoked_subcommand is not None:
        return
    from fluxforge import bronze  # noqa: PLC0415  Arrow takes a moment to import
    from fluxforge.replay import Replay  # noqa: PLC0415

    settings = load(config)
    chosen = selection(exchange, symbol, channel, start, end, source_topic)
    root = settings.storage.input.elsewhere(data_dir)
    pace, name = _speed(speed), named(run)
    log = service.open_log(settings)
    try:
        made = Replay(
            log, bronze.tree(root), name, chosen,
            target=topic, prefix=settings.broker.prefix, partitions=partitions, speed=pace, force=force,
        )  # fmt: skip
        service.spare_the_collector()
        with made, _stopping(made), _bar(made) as told:
            complete = made.run(told, hold=_suspend(made))
    finally:
        log.close()
    if as_json:
        print_json(_summary(name, made.state, complete))
    else:
        state = made.state
        end_text = "complete" if complete else "stopped; the same command goes on with it"
        console().print(f"{name}: {state.written:,} records in {state.target}, {end_text}", markup=False)
    if not complete:
        raise typer.Exit(service.INTERRUPTED)


@app.command()
def clean(
    run: RunOption = None,
    every: Annotated[bool, typer.Option("--all", help="All runs.")] = False,
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, run to topics.")] = False,
) -> None:
    """Remove the topics that a run, or a pipeline behind it, has made; without a name, say which runs there are."""
    from fluxforge.replay import clean as remove  # noqa: PLC0415
    from fluxforge.replay import runs  # noqa: PLC0415

    log = service.open_log(load(config))
    try:
        known = runs(log)
        if run is None and not every:
            if as_json:
                print_json({name: [] for name in known})
            else:
                console().print("\n".join(known) or "there are no runs", markup=False)
            return
        if run is not None and run not in known:
            raise ConfigError(f"there is no run {run}", hint=f"there are: {', '.join(known) or 'none'}")
        removed = {name: remove(log, name) for name in (known if run is None else [run])}
    finally:
        log.close()
    if as_json:
        print_json(removed)
    else:
        for name, topics in removed.items():
            console().print(f"{name}: removed {', '.join(topics)}", markup=False)


def _speed(text: str) -> float | None:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)x", text)
    if text == "max":
        return None
    if match is None or not float(match[1]):
        raise ConfigError(f"--speed {text!r} is no speed", hint="max, or as 1x, 10x, 0.5x")
    return float(match[1])


def _summary(name: str, state: State, complete: bool) -> dict[str, object]:
    gaps = sum(position.gap is not None for position in state.positions)
    return {
        "run": name, "topic": state.target, "partitions": state.partitions, "records": state.written,
        "complete": complete, "chains": len(state.positions), "chains_with_gaps": gaps,
    }  # fmt: skip


@contextmanager
def _stopping(made: Replay) -> Iterator[None]:
    """SIGTERM and SIGINT end the run after a commit, SIGTSTP pauses it."""
    before = {
        number: signal.signal(number, handle)
        for number, handle in (
            (signal.SIGTERM, lambda *_: made.stop()),
            (signal.SIGINT, lambda *_: made.stop()),
            (signal.SIGTSTP, lambda *_: made.pause()),
        )
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _suspend(made: Replay) -> Callable[[], None]:
    """What a shell expects of Ctrl-Z: the process stands until `fg` or SIGCONT."""

    def hold() -> None:
        os.kill(os.getpid(), signal.SIGSTOP)
        made.resume()

    return hold


@contextmanager
def _bar(made: Replay) -> Iterator[Callable[[Told], None]]:
    """Share, rate, the market's time and time left, on a terminal."""
    stream = console(stderr=True)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[told]}"),
        TimeRemainingColumn(),
    )
    clock = SystemClock()
    began, before = clock.monotonic(), made.state.written
    with Progress(*columns, console=stream, transient=True, disable=not stream.is_terminal) as progress:
        done, total = made.state.done
        task = progress.add_task(made.state.target, total=total, completed=done, told="")

        def tell(told: Told) -> None:
            rate = (told.records - before) / max(clock.monotonic() - began, 1e-9)
            at = datetime.fromtimestamp(told.at // NS, UTC)
            text = f"{told.records:,} records, {rate:,.0f}/s, at {at:%Y-%m-%d %H:%M:%S}"
            progress.update(task, completed=told.done, total=told.total, told=text)

        yield tell
