"""`fluxforge plot`: a market as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fluxforge.errors import ConfigError
from fluxforge.settings import load
from fluxforge_cli.configuration import ConfigOption, RootOption, root_of
from fluxforge_cli.console import console, print_json

FORMS = (".png", ".svg", ".html")


def plot(
    output: Annotated[Path, typer.Argument(help="The file to write: .png, .svg or .html.")],
    symbol: Annotated[str, typer.Option("--symbol", help="The market, as BTC/USDT.")],
    exchange: Annotated[str | None, typer.Option("--exchange", help="Needed where several have the symbol.")] = None,
    start: Annotated[
        str | None, typer.Option("--from", help="UTC, as 2026-01-31T12:00; by default the last day there is.")
    ] = None,
    end: Annotated[str | None, typer.Option("--to", help="UTC, not included.")] = None,
    duration: Annotated[
        int | None, typer.Option("--duration", min=1, help="Of the candles, s; one that suits the range by default.")
    ] = None,
    features: Annotated[
        str | None,
        typer.Option(
            "--features", help="A panel for each of these columns: ofi_sum_5s,rv_60s; '' for none.", metavar="A,B"
        ),
    ] = None,
    dark: Annotated[bool, typer.Option("--dark", help="Light on dark.")] = False,
    data_dir: RootOption = None,
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object: file, candles, points, range.")] = False,
) -> None:
    """Draw what is stored of a market: candles with volume, features, and which hours it was watched.

    HTML can be zoomed and needs no network; PNG and SVG need matplotlib (`pip install 'fluxforge-cli[plot]'`).
    """
    if output.suffix not in FORMS:
        raise ConfigError(f"{output}: no such format", hint=f"name a file that ends in {', '.join(FORMS)}")
    from fluxforge.lake.scan import time_ns  # noqa: PLC0415  Arrow takes a moment to import
    from fluxforge_cli.charts import chart, style  # noqa: PLC0415

    settings = load(config)
    if features is None:
        horizon = settings.feature_config().horizons[0]
        wanted = [f"ofi_sum_{horizon}s", "imbalance_L0", "relative_spread"]
    else:
        wanted = [name.strip() for name in features.split(",") if name.strip()]
    raw, lake = root_of(settings, data_dir, "bronze"), root_of(settings, data_dir, "lake")
    drawn = chart.gather(raw, lake, symbol, exchange, time_ns(start), time_ns(end), duration, wanted)
    colours = style.DARK if dark else style.LIGHT
    output.parent.mkdir(parents=True, exist_ok=True)
    if output.suffix == ".html":
        from fluxforge_cli.charts import page  # noqa: PLC0415

        with output.open("w", encoding="utf-8") as text:
            page.write(drawn, text, colours)
    else:
        try:
            from fluxforge_cli.charts import picture  # noqa: PLC0415
        except ImportError as error:
            raise ConfigError(
                "pictures need matplotlib", hint="pip install 'fluxforge-cli[plot]', or name a .html file"
            ) from error
        with output.open("wb") as file:
            picture.write(drawn, file, output.suffix[1:], colours)
    bars = 0 if drawn.candles is None else len(drawn.candles.begin)
    if as_json:
        points = {line.name: len(line.time) for line in drawn.lines}
        times = {"from": str(drawn.start), "to": str(drawn.end)}
        print_json({"file": str(output), "exchange": drawn.exchange, "candles": bars, "points": points, **times})
        return
    shape = "no candles" if drawn.candles is None else f"{bars} candles of {drawn.candles.duration} s"
    console().print(f"{output}: {drawn.title}; {shape}", highlight=False, markup=False)
