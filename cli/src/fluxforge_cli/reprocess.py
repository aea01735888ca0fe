"""`fluxforge reprocess`: Bronze through a pipeline of its own into a version of the lake."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn

from fluxforge import service
from fluxforge.clock import SystemClock
from fluxforge.errors import LogUnavailable
from fluxforge.service import Stop
from fluxforge.settings import load_with_origins
from fluxforge_cli.configuration import ConfigOption, DataOption, root_of
from fluxforge_cli.console import console, print_json
from fluxforge_cli.pipeline.child import Child, State
from fluxforge_cli.pipeline.display import choose
from fluxforge_cli.pipeline.kernels import compile_kernels
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
    from fluxforge.reprocess import Reprocess

LOOK_S = 0.5
TELL_S = 2.0
STOP_S = 60.0
PROCESSORS = {"feature engine": "feature_engine", "bar builder": "bar_builder"}
LAKES = {"feature lake": "feature_engine", "bar lake": "bar_builder"}


def reprocess(
    run: RunOption = None,
    exchange: ExchangeOption = None,
    symbol: SymbolOption = None,
    channel: ChannelOption = None,
    start: FromOption = None,
    end: ToOption = None,
    source_topic: SourceTopicOption = None,
    data_dir: DataOption = None,
    output: Annotated[
        str | None,
        typer.Option("--output", help="Its processed/ gets the version; the data folder by default.", metavar="FOLDER"),
    ] = None,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes of each processor.")] = 1,
    keep_topics: Annotated[
        bool,
        typer.Option("--keep-topics", help="Leave the run's topics when all is in the lake; `replay clean` does it."),
    ] = False,
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="End with one line of JSON.")] = False,
) -> None:
    """Make the rows of Bronze anew, as a version of the lake beside the live one.

    Bronze is replayed as fast as it goes into topics of the run, processors and lake roles of its own read them, and
    the rows lie in processed/version=VERSION, which is a hash of what the configuration computes. Rows across markets
    are made of those in the end. Ends by itself, and removes the topics. Killed or interrupted (Ctrl-C), the same
    command goes on without loss or repeat.
    """
    from fluxforge.replay import clean, runs  # noqa: PLC0415  Arrow takes a moment to import
    from fluxforge.reprocess import Reprocess  # noqa: PLC0415

    loaded = load_with_origins(config)
    settings = loaded.settings
    target = root_of(settings, data_dir, "lake") if output is None else settings.storage.output.elsewhere(output)
    settings = settings.model_copy(update={"storage": settings.storage.model_copy(update={"output": target})})
    name, source = named(run), settings.storage.input.elsewhere(data_dir)
    chosen = selection(exchange, symbol, channel, start, end, source_topic)
    stop = Stop()
    log = service.open_log(settings)
    try:
        with _signals(stop), Reprocess(log, settings, source, name, chosen, workers=workers) as made:
            if made.complete is None:
                with choose(console(stderr=True), plain=True) as display:
                    compile_kernels(display, stop)
                service.spare_the_collector()
                _work(made, loaded.file, target.path / "logs" / f"reprocess-{name}", workers, stop)
        if made.complete is not None and not keep_topics and name in runs(log):
            clean(log, name)
    finally:
        log.close()
    _tell(made, name, str(target), as_json=as_json)
    if made.complete is None:
        raise typer.Exit(service.INTERRUPTED)


@contextmanager
def _signals(stop: Stop) -> Iterator[None]:
    """SIGTERM and SIGINT set `stop`."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    service.on_signals(stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _work(made: Reprocess, config: Path | None, logs: Path, workers: int, stop: Stop) -> None:
    """Until all is in the lake, or `stop`."""
    crew = _Crew(made, config, logs, workers)
    try:
        with _bars(made) as tell:
            told = time.monotonic()

            def look(*_: object) -> None:
                """Keep the processes alive; now and then, for it takes a moment, see how far they are."""
                nonlocal told
                crew.watch()
                if stop.is_set():
                    made.replay.stop()
                if time.monotonic() > told + TELL_S:
                    tell(_behind(made))
                    told = time.monotonic()

            done = made.replayed(look)
            while done and not stop.is_set() and ((behind := _behind(made)) is None or any(behind.values())):
                crew.watch()
                tell(behind)
                stop.wait(LOOK_S)
            crew.end(PROCESSORS)
            crew.end(LAKES)
            if done and not stop.is_set():
                made.store_rest(stop)
            if done and not stop.is_set():
                made.finish()
    finally:
        crew.kill()


def _behind(made: Reprocess) -> dict[str, int] | None:
    """As `Reprocess.behind`; None while the log does not answer, of which the processes will make an end."""
    try:
        return made.behind()
    except LogUnavailable:
        return None


class _Crew:
    """The processes of a run, started."""

    def __init__(self, made: Reprocess, config: Path | None, logs: Path, workers: int) -> None:
        clock = SystemClock()
        options = ("--metrics-port", "off", *(("--config", str(config)) if config else ()))
        commands = {name: (module, "--workers", str(workers), *options) for name, module in PROCESSORS.items()}
        commands |= {name: (module, "--role", "lake", *options) for name, module in LAKES.items()}
        environ = {**os.environ, **made.environ}
        self._children = {
            name: Child(name, command, logs / f"{name.replace(' ', '-')}.log", clock, environ)
            for name, command in commands.items()
        }
        for child in self._children.values():
            child.start()

    def watch(self) -> None:
        """Start again what has died. Raises PipelineFailed where that does not help."""
        for child in self._children.values():
            child.poll()
            if child.given_up:
                raise child.failure(f"keeps failing (exit code {child.exit_code})")

    def end(self, names: Iterable[str]) -> None:
        """Let them finish what they hold; what does not end is killed, and loses nothing by it."""
        children = [self._children[name] for name in names]
        for child in children:
            child.terminate()
        deadline = time.monotonic() + STOP_S
        while any(child.state is State.STOPPING for child in children) and time.monotonic() < deadline:
            time.sleep(0.05)
            for child in children:
                child.poll()
        for child in children:
            if child.state is State.STOPPING:
                child.kill()

    def kill(self) -> None:
        """End whatever still runs, at once."""
        for child in self._children.values():
            if child.pid is not None:
                child.kill()


@contextmanager
def _bars(made: Reprocess) -> Iterator[Callable[[dict[str, int] | None], None]]:
    """How far the replay and each processor are, on a terminal."""
    stream = console(stderr=True)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[told]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=stream, transient=True, disable=not stream.is_terminal) as progress:
        replay = progress.add_task("replay", total=None, told="")
        tasks = {name: progress.add_task(name, total=None, told="") for name in ("features", "bars")}

        def tell(behind: dict[str, int] | None) -> None:
            written, (done, total) = made.replay.state.written, made.replay.state.done
            progress.update(replay, completed=done, total=total, told=f"{written:,} records")
            for name, left in (behind or {}).items():
                progress.update(tasks[name], completed=max(0, written - left), total=written, told=f"{left:,} behind")

        yield tell


def _tell(made: Reprocess, name: str, target: str, *, as_json: bool) -> None:
    rows = {} if made.complete is None else made.complete.rows
    if as_json:
        told = {"run": name, "version": made.version, "lake": str(made.tree), "rows": rows}
        print_json({**told, "complete": made.complete is not None})
        return
    out = console()
    if made.complete is None:
        out.print(f"{name}: stopped; the same command goes on with it", markup=False)
        return
    counts = ", ".join(f"{count:,} {table}" for table, count in rows.items()) or "no"
    out.print(f"{name}: {counts} rows are version {made.version}, in {made.tree}", markup=False)
    out.print(f"read it as {target}@{made.version}, or `fluxforge lake use {made.version}`", markup=False)
