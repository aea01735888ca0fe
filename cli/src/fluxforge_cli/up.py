"""`fluxforge up`: every service on this machine, against real exchanges."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from fluxforge import service
from fluxforge.errors import ConfigError
from fluxforge.service import Stop
from fluxforge.settings import Settings, load_with_origins
from fluxforge_cli.configuration import ConfigOption
from fluxforge_cli.console import console, print_json
from fluxforge_cli.demo import compile_kernels
from fluxforge_cli.pipeline import plan, summary
from fluxforge_cli.pipeline.child import PipelineFailed
from fluxforge_cli.pipeline.display import choose


def up(
    config: ConfigOption = None,
    sources: Annotated[
        str | None,
        typer.Option("--sources", help="Only these of the configured ones: ccxt, binance, binanceus.", metavar="A,B"),
    ] = None,
    seconds: Annotated[float | None, typer.Option("--seconds", min=1, help="End after this long.")] = None,
    ui: Annotated[bool, typer.Option("--ui/--no-ui", help="Live view, or plain lines.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="End with the summary as one line of JSON.")] = False,
) -> None:
    """Run collectors, Bronze, features, bars and lake under one supervisor until Ctrl+C."""
    from fluxforge_cli.pipeline.run import Run  # noqa: PLC0415  the kernels' compiler takes a second to import

    loaded = load_with_origins(config)
    settings = loaded.settings
    chosen = chosen_sources(settings, sources)
    root = settings.storage.output.path.resolve()
    stop = Stop()
    service.on_signals(stop)
    with choose(console(stderr=as_json), plain=not ui) as display:
        compile_kernels(display, stop)
        run = Run("FluxForge", settings, root / "logs", os.environ, display, seconds=seconds, from_end=True)
        try:
            readers = plan.consumers(run.topics, loaded.file)
            lakes = plan.lakes(run.topics, loaded.file)
            collectors = plan.collectors(settings, chosen, loaded.file)
            run.wait_ready(run.start([*readers, *lakes, *collectors]), stop)
            run.wait_flowing(plan.exchanges(settings, chosen), readers, stop)
            run.begin()
            run.run(stop)
            elapsed, rate = run.elapsed(), run.rate()
            names = [[p.name for p in stage] for stage in (collectors, readers, lakes)]
            trouble = run.shut_down([(names[0], False), (names[1], True), (names[2], True)])
            result = summary.make(run, root, elapsed, rate, trouble)
        finally:
            run.kill()
            run.close()
    if as_json:
        print_json(result.as_json())
    else:
        typer.echo(summary.text(result))
    if result.trouble:
        raise PipelineFailed("; ".join(result.trouble), hint=f"the logs are in {root / 'logs'}")


def chosen_sources(settings: Settings, wanted: str | None) -> tuple[str, ...]:
    """The sources to run. Raises ConfigError for one that is not configured, and where there is none."""
    configured = [*settings.native, *(["ccxt"] if settings.ccxt.exchanges else [])]
    if not configured:
        raise ConfigError("no exchange is configured", hint="see ccxt.exchanges and binance in config.example.yaml")
    names = configured if wanted is None else [name.strip() for name in wanted.split(",") if name.strip()]
    for name in names:
        if name not in configured:
            raise ConfigError(f"--sources {name}: not configured", hint=f"configured: {', '.join(configured)}")
    if not names:
        raise ConfigError("--sources names none", hint=f"configured: {', '.join(configured)}")
    return tuple(dict.fromkeys(names))
