"""A chart as PNG or SVG, drawn by matplotlib."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import IO, Any

import numpy as np
from matplotlib import dates
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fluxforge_cli.charts.chart import Candles, Chart, Line, Seen
from fluxforge_cli.charts.style import HEIGHTS, Style

WIDTH_IN, UNIT_IN, DPI = 14.0, 1.2, 110


def write(chart: Chart, file: IO[bytes], form: str, style: Style) -> None:
    """Write the picture; `form` is png or svg."""
    panels = chart.panels
    heights = [HEIGHTS[kind] for kind, _ in panels]
    figure = Figure(
        figsize=(WIDTH_IN, UNIT_IN * sum(heights) + 1), dpi=DPI, layout="constrained", facecolor=style.ground
    )
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for axis, (kind, shown) in zip(axes, panels, strict=True):
        axis.set_ylabel(_DRAW[kind](axis, shown, style), color=style.text)
        axis.set_facecolor(style.ground)
        axis.grid(color=style.grid, linewidth=0.6)
        axis.set_axisbelow(True)
        axis.tick_params(colors=style.text)
        for spine in axis.spines.values():
            spine.set_color(style.grid)
    locator = dates.AutoDateLocator()  # type: ignore[no-untyped-call]
    axes[-1].xaxis.set_major_locator(locator)
    axes[-1].xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    axes[-1].set_xlim(chart.start, chart.end)
    axes[-1].xaxis.get_offset_text().set_color(style.text)
    figure.suptitle(chart.title, color=style.text)
    figure.align_ylabels()
    figure.savefig(file, format=form)


def _candles(axis: Axes, bars: Candles, style: Style) -> str:
    width = np.timedelta64(int(bars.duration * 0.8e9), "ns")
    middle = bars.begin + np.timedelta64(bars.duration * 500_000_000, "ns")
    up = bars.close >= bars.open
    for mine, colour in ((up, style.up), (~up, style.down)):
        at = middle[mine]
        axis.vlines(at, bars.low[mine], bars.high[mine], color=colour, linewidth=0.8)
        bottom, top = np.minimum(bars.open, bars.close)[mine], np.maximum(bars.open, bars.close)[mine]
        axis.bar(at, top - bottom, width, bottom, color=colour, edgecolor=colour, linewidth=0.5)
    return f"price, {bars.duration} s"


def _volume(axis: Axes, bars: Candles, style: Style) -> str:
    width = np.timedelta64(int(bars.duration * 0.8e9), "ns")
    middle = bars.begin + np.timedelta64(bars.duration * 500_000_000, "ns")
    axis.bar(middle, bars.volume, width, color=np.where(bars.close >= bars.open, style.up, style.down).tolist())
    return "volume"


def _line(axis: Axes, line: Line, style: Style) -> str:
    axis.plot(line.time, line.value, color=style.line, linewidth=0.9)
    return line.name


def _seen(axis: Axes, seen: list[Seen], style: Style) -> str:
    hour = np.timedelta64(1, "h")
    for one in seen:
        axis.bar(one.hour, one.share * 100, hour, align="edge", color=style.seen)
    axis.set_ylim(0, 100)
    return "watched, %"


_DRAW: Mapping[str, Callable[[Axes, Any, Style], str]] = {
    "candles": _candles,
    "volume": _volume,
    "line": _line,
    "seen": _seen,
}
