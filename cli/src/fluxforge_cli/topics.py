"""`fluxforge topics apply|check`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich import box
from rich.table import Table

from fluxforge import service
from fluxforge.errors import UnknownTopic
from fluxforge.log import Log
from fluxforge.settings import Settings, load
from fluxforge.topics import TopicSpec
from fluxforge_cli.configuration import ConfigOption
from fluxforge_cli.console import console, print_json

app = typer.Typer(help="Create the topics, or check them.", no_args_is_help=True)

JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object, topic to state.")]


@app.command()
def apply(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Create the topics that are missing. An existing topic is checked and never changed."""
    settings = load(config)
    log = service.open_log(settings)
    try:
        before = states(log, settings)
        log.create(settings.topic_specs())
        _print(settings, {name: "created" if was == "missing" else was for name, was in before.items()}, as_json)
    finally:
        log.close()


@app.command()
def check(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Say which topics are there and whether their partitions agree; exit code 1 where one does not."""
    settings = load(config)
    log = service.open_log(settings)
    try:
        found = states(log, settings)
    finally:
        log.close()
    _print(settings, found, as_json)
    wrong = [name for name, state in found.items() if state != "ok"]
    if wrong:
        raise UnknownTopic(
            f"not as configured: {', '.join(wrong)}", hint="fluxforge topics apply creates what is missing"
        )


def states(log: Log, settings: Settings) -> dict[str, str]:
    """Topic → `ok`, `missing` or what differs."""
    return {spec.name: _state(log, spec) for spec in settings.topic_specs()}


def _state(log: Log, spec: TopicSpec) -> str:
    try:
        count = log.partitions(spec.name)
    except UnknownTopic:
        return "missing"
    return "ok" if count == spec.partitions else f"has {count} partitions, not {spec.partitions}"


def _print(settings: Settings, found: dict[str, str], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("topic", "partitions", "kept", "state"):
        table.add_column(column)
    for spec in settings.topic_specs():
        table.add_row(spec.name, str(spec.partitions), _kept(spec), found[spec.name])
    console().print(table)


def _kept(spec: TopicSpec) -> str:
    if spec.compact:
        return "newest of each key"
    age = "for ever" if spec.retention_ms == -1 else f"{spec.retention_ms / 3_600_000:g} h"
    return age if spec.retention_bytes == -1 else f"{age}, {spec.retention_bytes / 1e6:g} MB a partition"
