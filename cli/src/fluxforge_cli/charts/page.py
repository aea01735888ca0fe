"""A chart as one HTML file that needs nothing else: drawn by plotly, whose script is in the file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import IO, Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from fluxforge_cli.charts.chart import Candles, Chart, Line, Seen
from fluxforge_cli.charts.style import HEIGHTS, Style

_UNIT_PX = 110


def write(chart: Chart, file: IO[str], style: Style) -> None:
    """Write the page."""
    panels = chart.panels
    heights = [HEIGHTS[kind] for kind, _ in panels]
    figure = make_subplots(rows=len(panels), cols=1, shared_xaxes=True, vertical_spacing=0.02, row_heights=heights)
    for row, (kind, shown) in enumerate(panels, 1):
        title = _ADD[kind](figure, row, shown, style)
        figure.update_yaxes(title_text=title, row=row, col=1)
    axis = {"gridcolor": style.grid, "zeroline": False, "linecolor": style.grid}
    figure.update_xaxes(**axis, range=[str(chart.start), str(chart.end)])
    figure.update_yaxes(**axis)
    figure.update_layout(
        title=chart.title,
        height=round(_UNIT_PX * sum(heights)) + 120,
        paper_bgcolor=style.ground,
        plot_bgcolor=style.ground,
        font={"color": style.text, "family": "system-ui, sans-serif"},
        showlegend=False,
        hovermode="x unified",
        xaxis_rangeslider_visible=False,
        margin={"l": 80, "r": 20, "t": 60, "b": 40},
    )
    file.write(figure.to_html(include_plotlyjs=True, full_html=True, config={"displaylogo": False}))


def _candles(figure: go.Figure, row: int, bars: Candles, style: Style) -> str:
    trace = go.Candlestick(
        x=bars.begin, open=bars.open, high=bars.high, low=bars.low, close=bars.close, name="price",
        increasing={"line": {"color": style.up, "width": 1}}, decreasing={"line": {"color": style.down, "width": 1}},
    )  # fmt: skip
    figure.add_trace(trace, row=row, col=1)
    return f"price, {bars.duration} s"


def _volume(figure: go.Figure, row: int, bars: Candles, style: Style) -> str:
    colours = [style.up if up else style.down for up in (bars.close >= bars.open).tolist()]
    trace = go.Bar(x=bars.begin, y=bars.volume, marker={"color": colours, "line": {"width": 0}}, name="volume")
    figure.add_trace(trace, row=row, col=1)
    return "volume"


def _line(figure: go.Figure, row: int, line: Line, style: Style) -> str:
    pen = {"color": style.line, "width": 1}
    figure.add_trace(go.Scattergl(x=line.time, y=line.value, mode="lines", line=pen, name=line.name), row=row, col=1)
    return line.name


def _seen(figure: go.Figure, row: int, seen: list[Seen], style: Style) -> str:
    for one in seen:
        told = [f"{share:.0%} watched, {gaps} gaps" for share, gaps in zip(one.share, one.gaps, strict=True)]
        middle = one.hour + 1_800_000_000_000
        trace = go.Bar(x=middle, y=one.share * 100, width=3_600_000, marker={"color": style.seen}, name=one.collector,
                       text=told, textposition="none", hovertemplate="%{text}")  # fmt: skip
        figure.add_trace(trace, row=row, col=1)
    figure.update_yaxes(range=[0, 100], row=row, col=1)
    return "watched, %"


_ADD: Mapping[str, Callable[[go.Figure, int, Any, Style], str]] = {
    "candles": _candles,
    "volume": _volume,
    "line": _line,
    "seen": _seen,
}
