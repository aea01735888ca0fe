"""`fluxforge collector`, `bronze-sink`, `feature-engine`, `bar-builder`, `simulator`: a program of its own each.

The command becomes that program (`exec`), so signals, exit codes and options are the program's own.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import typer

PROGRAMS = {
    "collector": ("collector", "Exchange sockets to the raw topic."),
    "bronze-sink": ("bronze_sink", "Raw topic to Bronze files, exactly once."),
    "feature-engine": ("feature_engine", "Raw topic to feature rows, and those to the lake (--role lake)."),
    "bar-builder": ("bar_builder", "Raw topic to bars, and those to the lake (--role lake)."),
    "simulator": ("simulator", "An exchange on this machine, with a recorded or a synthetic market."),
}
_AS_GIVEN = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def register(app: typer.Typer) -> None:
    """Add one command for each program."""
    for name, (module, text) in PROGRAMS.items():
        app.command(name, help=f"{text} Takes the options of `python -m {module}`.", context_settings=_AS_GIVEN)(
            _runner(module)
        )


def _runner(module: str) -> Callable[[typer.Context], None]:
    def run(context: typer.Context) -> None:
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, "-m", module, *context.args])  # noqa: S606

    return run
