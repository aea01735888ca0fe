"""`fluxforge maintain`: copy, compact and drop stored data, once or on a schedule."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from fluxforge.errors import ConfigError, StorageError
from fluxforge.settings import load
from fluxforge_cli.configuration import ConfigOption
from fluxforge_cli.console import print_json

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def maintain(
    every: Annotated[
        str | None,
        typer.Option("--every", help="From one round to the next, as 15m or 1h; maintenance.every_s by default."),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="One round, and end; exit code 1 where a step failed.")] = False,
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="With --once: one JSON list of steps.")] = False,
) -> None:
    """Copy stored data to maintenance.sync_to, compact closed days, and drop what is older than it is to be kept.

    With sync_to nothing is dropped that has no copy there: where copying fails, retention waits for a round in which
    it does not. A step that fails does not stop the others. Where nothing is configured closed days are compacted, and
    all data is kept.

    Runs until it is stopped (SIGTERM or Ctrl-C ends it in order), as `python -m fluxforge.maintain` does with metrics.
    """
    from fluxforge import logs, maintain, service  # noqa: PLC0415  Arrow takes a moment to import

    settings = load(config)
    if every is not None:
        kept = settings.maintenance.model_copy(update={"every_s": _seconds(every)})
        settings = settings.model_copy(update={"maintenance": kept})
    logs.setup(settings.log_level, levels=settings.log_levels, fmt=settings.log_format, secrets=settings.secrets())
    stop = service.Stop()
    service.on_signals(stop)
    if not once:
        maintain.run(settings, stop)
        return
    done = maintain.once(settings, stop)
    if as_json:
        print_json([each._asdict() for each in done])
    failed = [each.step for each in done if each.outcome == "failed"]
    if failed:
        raise StorageError(f"failed: {', '.join(failed)}", hint="the lines above say why; the next round tries again")


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    if match is None or not float(match[1]):
        raise ConfigError(f"--every {text!r} is no time", hint="as 90s, 15m, 1h or 1d")
    return float(match[1]) * _UNITS[match[2]]
