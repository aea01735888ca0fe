"""`fluxforge top`: a pipeline that runs elsewhere, watched from its log and its files."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from fluxforge import service
from fluxforge.service import Stop
from fluxforge.settings import load
from fluxforge_cli.configuration import ConfigOption
from fluxforge_cli.console import console, print_json

if TYPE_CHECKING:
    from fluxforge_cli.pipeline.picture import Picture

STEP_S = 0.05


def top(
    config: ConfigOption = None,
    seconds: Annotated[float | None, typer.Option("--seconds", min=1, help="End after this long.")] = None,
    every: Annotated[float, typer.Option("--every", min=0.1, help="With --json: seconds between two lines.")] = 1.0,
    ui: Annotated[bool, typer.Option("--ui/--no-ui", help="Live view, or plain lines.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON for each look.")] = False,
) -> None:
    """Watch a running pipeline until Ctrl+C: rates, what waits at each stage, markets, gaps, latency.

    Counts begin with the command. It reads the log and the commit records, asks no service and changes nothing.
    """
    from fluxforge_cli.pipeline.display import choose  # noqa: PLC0415  Arrow takes a moment to import
    from fluxforge_cli.pipeline.outside import Outside  # noqa: PLC0415

    stop = Stop()
    service.on_signals(stop)
    with Outside(load(config)) as outside:
        if as_json:
            while not stop.is_set() and (seconds is None or outside.elapsed() < seconds):
                stop.wait(every)
                outside.observe()
                print_json(_as_json(outside.picture()))
            return
        with choose(console(), plain=not ui) as display:
            shown = 0.0
            while not stop.is_set() and (seconds is None or outside.elapsed() < seconds):
                outside.observe()
                if outside.elapsed() >= shown:
                    display.show(outside.picture())
                    shown = outside.elapsed() + display.every_s
                stop.wait(STEP_S)


def _as_json(picture: Picture) -> dict[str, object]:
    told = asdict(picture)
    p50, p99 = picture.latency or (None, None)
    for name in ("title", "seconds", "queue", "capacity", "news", "latency"):
        del told[name]
    told["latency_ms"] = {"p50": p50, "p99": p99}
    told["services"] = [{"name": line.name, "state": line.state, "rate": line.rate, "behind": line.lag}
                        for line in picture.services]  # fmt: skip
    told["markets"] = [{**asdict(market), "bar": market.bar and msgspec.to_builtins(market.bar), "events_s": rate}
                       for market, rate in picture.markets]  # fmt: skip
    return told
