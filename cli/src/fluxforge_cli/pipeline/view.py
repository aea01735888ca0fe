"""The picture on a terminal: side by side from 116 columns, one above the other below that."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fluxforge_cli.pipeline.picture import Picture

NARROW, WIDE, FULL = 76, 116, 126
_ALL = ("ev/s", "mid", "bps", "OFI", "bar close", "volume")
_MOST = _ALL[:-1]
_FEW = ("mid", "OFI", "bar close")
_STYLES = {"running": "green", "restarting": "yellow", "failed": "bold red", "stopping": "cyan", "stopped": "dim"}
_STYLES |= {"stalled": "bold red", "silent": "bold red", "absent": "yellow"}


def render(picture: Picture, width: int, height: int) -> RenderableType:
    """The whole view, never wider than `width`; markets that do not fit into `height` are counted."""
    wide = width >= WIDE
    room = height - 11 if wide else height - len(picture.services) - 13
    columns = _ALL if width >= FULL or NARROW <= width < WIDE else _MOST if wide else _FEW
    services, markets = _services(picture), _markets(picture, max(3, room), columns)
    body: RenderableType = Group(services, Text(), markets)
    if wide:
        body = Table.grid(padding=(0, 2))
        body.add_row(services, markets)
    parts: list[RenderableType] = [_head(picture, width), body, _totals(picture)]
    parts += [Text(line, style="yellow", overflow="ellipsis", no_wrap=True) for line in picture.news[-3:]]
    return Panel(Group(*parts), title=picture.title, title_align="left", box=box.ROUNDED, width=width)


def _head(picture: Picture, width: int) -> RenderableType:
    grid = Table.grid(expand=True, padding=(0, 1))
    grid.add_column()
    grid.add_column(ratio=1)
    grid.add_column(justify="right")
    left = Text(picture.phase, style="bold")
    if picture.seconds is None:
        grid.add_row(left, "", f"{picture.elapsed:.0f} s   Ctrl+C ends it")
    else:
        bar = ProgressBar(total=picture.seconds, completed=min(picture.elapsed, picture.seconds), width=width // 3)
        grid.add_row(left, bar, f"{picture.elapsed:.0f} / {picture.seconds:.0f} s")
    return grid


def _services(picture: Picture) -> Table:
    table = _table()
    table.add_column("service", no_wrap=True)
    table.add_column("state", no_wrap=True, min_width=7)
    table.add_column("rate/s", justify="right", no_wrap=True, min_width=6)
    table.add_column("behind", justify="right", no_wrap=True, min_width=6)
    for line in picture.services:
        state = f"{line.state} ({line.restarts}x)" if line.restarts else line.state
        table.add_row(
            line.name,
            Text(state, style=_STYLES.get(line.state, "")),
            "" if line.rate is None else f"{line.rate:,.0f}",
            "" if line.lag is None else f"{line.lag:,}",
        )
    return table


def _markets(picture: Picture, room: int, columns: Sequence[str]) -> Table:
    horizon = picture.ofi_name.removeprefix("ofi_sum_")
    table = _table()
    table.add_column("market", no_wrap=True)
    for name in columns:
        title = f"OFI {horizon}" if name == "OFI" else name
        table.add_column(title, justify="right", no_wrap=True, min_width=9 if name in ("mid", "bar close") else 5)
    shown = picture.markets[:room]
    for market, rate in shown:
        exchange, _, symbol = market.key.partition("|")
        bar = market.bar
        cells: dict[str, RenderableType] = {
            "ev/s": f"{rate:.0f}",
            "mid": number(market.mid),
            "bps": "-" if market.spread_bps is None else f"{market.spread_bps:.2f}",
            "OFI": _signed(market.ofi),
            "bar close": "-" if bar is None else number(bar.close),
            "volume": "-" if bar is None else number(bar.volume, digits=4),
        }
        table.add_row(f"{symbol} [dim]{exchange}[/dim]", *(cells[name] for name in columns))
    if len(picture.markets) > len(shown):
        table.add_row(f"[dim]and {len(picture.markets) - len(shown)} more[/dim]")
    return table


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))


def _totals(picture: Picture) -> RenderableType:
    latency = "-" if picture.latency is None else f"{picture.latency[0]:.0f} / {picture.latency[1]:.0f} ms"
    pairs = [
        ("events", f"{picture.events:,}"),
        ("Bronze rows", f"{picture.bronze_rows:,}"),
        ("segments", f"{picture.segments:,}"),
        ("feature rows", f"{picture.feature_rows:,}"),
        ("bars", f"{picture.bars:,}"),
        ("lake rows", f"{picture.lake_rows:,}"),
        ("gaps, late, dead", f"{picture.gaps:,}, {picture.late:,}, {picture.dead:,}"),
        ("queue", "-" if picture.queue is None else f"{picture.queue:,} of {picture.capacity:,}"),
        ("p50 / p99", latency),
    ]
    grid = Table.grid(padding=(0, 2))
    for start in range(0, len(pairs), 3):
        grid.add_row(*(Text.assemble((f"{name} ", "dim"), (value, "bold")) for name, value in pairs[start : start + 3]))
    return Group(Text(), grid)


def number(value: float | None, digits: int = 6) -> str:
    """So many significant digits, or cents where the number is large."""
    if value is None:
        return "-"
    return f"{value:,.2f}" if abs(value) >= 1000 else f"{value:.{digits}g}"


def _signed(value: float | None) -> Text:
    if value is None:
        return Text("-")
    return Text(f"{value:+.4g}", style="green" if value > 0 else "red" if value < 0 else "")
