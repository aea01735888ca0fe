"""`python -m fluxforge_cli.reference`: every command and option as Markdown, for docs/CLI.md."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from importlib import import_module

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from fluxforge import service
from fluxforge_cli.main import app
from fluxforge_cli.programs import PROGRAMS

HEAD = """\
# Commands

Made from the programs themselves by `python -m fluxforge_cli.reference`.

Exit codes: 0 done, 1 failed, 2 wrong configuration or options, 130 interrupted.
"""


def reference() -> str:
    """The whole page."""
    return "\n".join([HEAD, *_commands(root(), "fluxforge"), *_programs()])


def root() -> TyperGroup:
    """The command tree of `fluxforge`."""
    made = typer.main.get_command(app)
    assert isinstance(made, TyperGroup)
    return made


def program_parser(name: str) -> argparse.ArgumentParser:
    """The parser of a program by its command, `bronze-sink`."""
    module, _ = PROGRAMS[name]
    main = import_module(f"{module}.__main__")
    made: argparse.ArgumentParser = main.parser() if name == "simulator" else service.parser(module, main.ROLES)
    return made


def _commands(command: TyperGroup | TyperCommand, path: str) -> Iterator[str]:
    if isinstance(command, TyperGroup):
        if command.invoke_without_command:
            yield from _own(command, path)
        for name, below in command.commands.items():
            if name not in PROGRAMS:
                assert isinstance(below, TyperGroup | TyperCommand)
                yield from _commands(below, f"{path} {name}")
        return
    yield from _own(command, path)


def _own(command: TyperGroup | TyperCommand, path: str) -> Iterator[str]:
    """What the command itself takes."""
    yield f"## `{path}`\n\n{command.help or ''}\n"
    arguments = [p for p in command.params if isinstance(p, TyperArgument)]
    options = [p for p in command.params if isinstance(p, TyperOption)]
    rows = [(f"`{(p.name or '').upper()}`", p.help or "", "") for p in arguments]
    rows += [(_flags(p), p.help or "", _default(p)) for p in options]
    yield from _table(rows)


def _flags(option: TyperOption) -> str:
    return ", ".join(f"`{flag}`" for flag in (*option.opts, *option.secondary_opts))


def _default(option: TyperOption) -> str:
    if option.default is None or callable(option.default) or isinstance(option.default, bool) or option.multiple:
        return ""
    return f"`{option.default:g}`" if isinstance(option.default, float) else f"`{option.default}`"


def _programs() -> Iterator[str]:
    for name in PROGRAMS:
        parser = program_parser(name)
        yield f"## `fluxforge {name}`\n\n{parser.description}\n"
        rows = [
            (_option(action), (action.help or "") % {"default": action.default}, "")
            for action in parser._actions
            if action.dest != "help"
        ]
        yield from _table(rows)


def _option(action: argparse.Action) -> str:
    choices = f" {{{','.join(map(str, action.choices))}}}" if action.choices else ""
    return ", ".join(f"`{flag}{choices}`" for flag in action.option_strings)


def _table(rows: list[tuple[str, str, str]]) -> Iterator[str]:
    if not rows:
        return
    yield "| option | what it does | default |\n|---|---|---|"
    for cells in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
    yield ""


if __name__ == "__main__":
    sys.stdout.write(reference())
