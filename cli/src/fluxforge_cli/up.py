"""`fluxforge up`: every service on this machine, against real exchanges."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from fluxforge import service
from fluxforge.errors import ConfigError
from fluxforge.service import Stop
from fluxforge.settings import Settings
from fluxforge_cli.configuration import ConfigOption, ProfileOption, with_profile
from fluxforge_cli.console import console
from fluxforge_cli.pipeline.display import choose
from fluxforge_cli.pipeline.kernels import compile_kernels
from fluxforge_cli.pipeline.summary import conclude


def up(
    config: ConfigOption = None,
    profile: ProfileOption = None,
    sources: Annotated[
        str | None,
        typer.Option("--sources", help="Only these of the configured ones: ccxt, binance, binanceus.", metavar="A,B"),
    ] = None,
    seconds: Annotated[float | None, typer.Option("--seconds", min=1, help="End after this long.")] = None,
    ui: Annotated[bool, typer.Option("--ui/--no-ui", help="Live view, or plain lines.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="End with the summary as one line of JSON.")] = False,
) -> None:
    """Run collectors, Bronze, features, bars and lake under one supervisor until Ctrl+C."""
    from fluxforge_cli.pipeline import session  # noqa: PLC0415  Arrow and numba take a second to import

    loaded = with_profile(config, profile)
    settings = loaded.settings
    environ = {**os.environ, **({"FLUXFORGE_PROFILE": profile} if profile else {})}
    chosen = chosen_sources(settings, sources)
    root = settings.storage.output.path.resolve()
    stop = Stop()
    service.on_signals(stop)
    with choose(console(stderr=as_json), plain=not ui) as display:
        compile_kernels(display, stop)
        whole = session.Session("FluxForge", settings, loaded.file, chosen, root, environ, seconds, fresh=False)
        result = session.run(whole, display, stop)
    conclude(result, as_json=as_json)


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
