"""`fluxforge ls` and `fluxforge describe`: what data there is."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.table import Table

from fluxforge.errors import ConfigError
from fluxforge.settings import load
from fluxforge_cli.configuration import ConfigOption, OnlyOption, RootOption, root_of
from fluxforge_cli.console import console, counted, print_json, size

if TYPE_CHECKING:
    from fluxforge.inventory import Entry, Layer, Name

_DICTIONARY = re.compile(r"dictionary<values=(\w+), [^>]*>")
JsonOption = Annotated[bool, typer.Option("--json", help="JSON on standard output.")]


def layers(only: str | None) -> tuple[Layer, ...]:
    """Those asked for."""
    return tuple(layer for layer in ("bronze", "lake") if only in (None, layer))


def ls(
    exchange: Annotated[str | None, typer.Option("--exchange", help="Only this exchange.")] = None,
    symbol: Annotated[str | None, typer.Option("--symbol", help="Only this symbol, as BTC/USDT or BTC-USDT.")] = None,
    only: OnlyOption = None,
    fast: Annotated[
        bool, typer.Option("--fast", help="Read no segment: Bronze is then listed by source and channel.")
    ] = False,
    data_dir: RootOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List what is stored: market, table or channel, from when to when, rows, bytes, files, gaps.

    Tables named raw.… are Bronze's channels, whose times are those of capture; the others are the lake's. A market's
    part of segments that it shares is estimated by rows. Gap offsets are records that the log had dropped before they
    were read; dropped rows are gone by retention.
    """
    from fluxforge.inventory import inventory  # noqa: PLC0415  Arrow takes a moment to import
    from fluxforge.lake.layout import hive_symbol  # noqa: PLC0415

    settings = load(config)
    if fast and only != "lake" and (exchange or symbol):
        raise ConfigError("--fast does not tell Bronze's markets apart", hint="leave out --fast, or take --only lake")
    found = [
        entry
        for layer in layers(only)
        for entry in inventory(root_of(settings, data_dir, layer), layer, symbols=not fast)
        if exchange in (None, entry.name.exchange)
        and (symbol is None or hive_symbol(symbol) == hive_symbol(entry.name.symbol))
    ]
    if as_json:
        print_json([_as_json(entry) for entry in found])
    elif found:
        console().print(_table(found), markup=False)
    else:
        console().print("nothing is stored here")


def describe(
    name: Annotated[
        str,
        typer.Argument(
            help="A table of the lake (hf, cross, bars, trades, ticker), or a Bronze channel as raw.trades."
        ),
    ],
    exchange: Annotated[str | None, typer.Option("--exchange", help="Only this exchange; the lake only.")] = None,
    symbol: Annotated[str | None, typer.Option("--symbol", help="Only this symbol; the lake only.")] = None,
    source: Annotated[str | None, typer.Option("--source", help="Only this source, as ccxt.")] = None,
    data_dir: RootOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print all there is to know of a table: columns, days, configurations, gaps, what retention dropped."""
    from fluxforge.bronze.schema import CHANNELS  # noqa: PLC0415  Arrow takes a moment to import
    from fluxforge.inventory import description  # noqa: PLC0415
    from fluxforge.lake.layout import hive_symbol  # noqa: PLC0415
    from fluxforge.lake.scan import FOLDERS  # noqa: PLC0415

    known = [*FOLDERS, *(f"raw.{channel}" for channel in CHANNELS)]
    if name not in known:
        raise ConfigError(f"there is no table {name!r}", hint=f"one of {', '.join(known)}")
    layer: Layer = "bronze" if name.startswith("raw.") else "lake"
    if layer == "bronze" and (exchange or symbol):
        raise ConfigError("a Bronze segment holds many markets", hint="`fluxforge ls` tells them apart")

    def wanted(one: Name) -> bool:
        return (
            one.table == name.removeprefix("raw.")
            and source in (None, one.source)
            and exchange in (None, one.exchange)
            and (symbol is None or hive_symbol(symbol) == one.symbol)
        )

    found = description(root_of(load(config), data_dir, layer), layer, wanted)
    if as_json:
        print_json({"name": name, **found})
        return
    _describe(name, found)


def _describe(name: str, found: dict[str, Any]) -> None:
    out = console()
    files = counted(found["files"], "file")
    out.print(f"{name}: {counted(found['rows'], 'row')} in {files}, {size(found['bytes'])}", markup=False)
    out.print(f"from {_time(found['first_ts'])} to {_time(found['last_ts'])}", markup=False)
    out.print(f"schemas {', '.join(found['schemas'])}; configurations {', '.join(found['config_hashes']) or 'none'}")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("column", "type", "nulls", "min", "max"):
        table.add_column(heading, overflow="fold")
    for column in found["columns"]:
        table.add_row(*(_cell(column[key]) for key in ("name", "type", "nulls", "min", "max")))
    out.print(table, markup=False)
    days = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    days.add_column("day, UTC")
    days.add_column("rows", justify="right")
    for day, count in found["days"].items():
        days.add_row(day, f"{count:,}")
    out.print(days, markup=False)
    for chain in found["chains"]:
        batches = counted(chain["batches"], "batch", "batches")
        out.print(f"{chain['chain']}: offsets [{chain['start']}, {chain['next_offset']}), {batches}")
        for first, after in chain["gaps"]:
            out.print(f"  gap: [{first}, {after}) left the log before they were read", markup=False)
        for first, after, count in chain["dropped"]:
            out.print(f"  dropped on purpose: [{first}, {after}), {counted(count, 'row')}", markup=False)
        for left in chain["left_out"]:
            out.print(
                f"  left out by a sync: {counted(left['files'], 'file')} of {', '.join(left['patterns'])}", markup=False
            )


def _cell(value: Any) -> str:
    """A type without what only Arrow's encoding says, a text without its quotes."""
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    return "" if value is None else _DICTIONARY.sub(r"\1", str(value))


def _table(found: list[Entry]) -> Table:
    """Times fold where the terminal is narrow, numbers do not; losses have columns where there are any."""
    losses = [name for name in ("gap_offsets", "dropped_rows") if any(getattr(entry, name) for entry in found)]
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in ("table", "source", "exchange", "symbol"):
        table.add_column(heading, overflow="fold")
    for heading in ("from, UTC", "to, UTC"):
        table.add_column(heading, min_width=10)
    for heading in ("rows", "size", "files", *(name.replace("_", " ") for name in losses)):
        table.add_column(heading, justify="right", no_wrap=" " not in heading)
    for entry in found:
        name = entry.name
        table.add_row(
            f"raw.{name.table}" if name.layer == "bronze" else name.table, name.source, name.exchange, name.symbol,
            _time(entry.first_ts), _time(entry.last_ts), f"{entry.rows:,}", size(entry.bytes), f"{entry.files:,}",
            *(f"{getattr(entry, loss):,}" for loss in losses),
        )  # fmt: skip
    return table


def _as_json(entry: Entry) -> dict[str, Any]:
    told = ("rows", "bytes", "files", "first_ts", "last_ts", "gap_offsets", "dropped_rows")
    return {**entry.name._asdict(), **{key: getattr(entry, key) for key in told}}


def _time(ns: int | None) -> str:
    return "" if ns is None else f"{datetime.fromtimestamp(ns // 1_000_000_000, UTC):%Y-%m-%d %H:%M:%S}"
