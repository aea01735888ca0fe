"""The command `fluxforge`: its subcommands, and the one place where its errors are printed."""

from __future__ import annotations

import logging
import sys
from importlib.metadata import version
from typing import Annotated

import typer

from fluxforge import service
from fluxforge.errors import FluxForgeError
from fluxforge_cli import (
    compact,
    configuration,
    coverage,
    demo,
    diff_lake,
    etl,
    exchanges,
    features,
    health,
    importing,
    lake,
    ls,
    maintain,
    migrate,
    plot,
    programs,
    query,
    repair,
    replay,
    reprocess,
    retain,
    sync,
    tail,
    top,
    topics,
    up,
    validate,
)
from fluxforge_cli.dashboard import command as dashboard

app = typer.Typer(
    name="fluxforge",
    help="Market-data infrastructure: exchange sockets to one ordered log, Bronze, features, bars and a lake.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
    rich_markup_mode=None,
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"fluxforge {version('fluxforge-cli')}")
        raise typer.Exit


@app.callback()
def options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options before any command."""


app.command("demo")(demo.demo)
app.command("up")(up.up)
app.command("dashboard")(dashboard.dashboard)
app.command("top")(top.top)
app.command("tail")(tail.tail)
app.command("health")(health.health)
app.command("exchanges")(exchanges.exchanges)
programs.register(app)
importing.register(app)
etl.register(app)
app.command("reprocess")(reprocess.reprocess)
app.command("coverage")(coverage.coverage)
app.command("ls")(ls.ls)
app.command("describe")(ls.describe)
app.command("query")(query.query)
app.command("plot")(plot.plot)
app.command("diff-lake")(diff_lake.diff_lake)
app.command("validate")(validate.validate)
app.command("migrate")(migrate.migrate)
app.command("sync")(sync.sync)
app.command("compact")(compact.compact)
app.command("retain")(retain.retain)
app.command("maintain")(maintain.maintain)
app.add_typer(lake.app, name="lake")
app.add_typer(replay.app, name="replay")
app.add_typer(repair.app, name="repair")
app.add_typer(topics.app, name="topics")
app.add_typer(configuration.app, name="config")
app.add_typer(features.app, name="features")


def main() -> None:
    """Run the command line; an error of ours ends in two lines and an exit code, never in a traceback."""
    try:
        app()
    except FluxForgeError as error:
        sys.exit(service.report(error, debug=logging.getLogger().isEnabledFor(logging.DEBUG)))
    except KeyboardInterrupt:
        sys.exit(service.INTERRUPTED)
    except BrokenPipeError:  # `fluxforge … | head` is no error
        sys.stderr.close()
        sys.exit(0)
