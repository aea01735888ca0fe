"""`fluxforge demo`: the whole pipeline on this machine, on a simulated exchange, for a minute."""

from __future__ import annotations

import json
import os
import re
import time
import urllib.request
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from fluxforge import service
from fluxforge.clock import SystemClock
from fluxforge.errors import ConfigError, FluxForgeError
from fluxforge.service import Stop
from fluxforge.settings import environment, load
from fluxforge_cli.console import console
from fluxforge_cli.pipeline.child import Child
from fluxforge_cli.pipeline.display import Display, choose
from fluxforge_cli.pipeline.kernels import compile_kernels
from fluxforge_cli.pipeline.summary import Summary, conclude

SOURCES = ("binance", "ccxt")
CCXT_EXCHANGE = "binanceus"
CCXT_SYMBOLS = 2
"""The second road into the log: so many symbols also come through ccxt Pro, as another exchange."""
SIMULATOR_S = 30.0
_URL = re.compile(r"http://127\.0\.0\.1:\d+")


def demo(
    seconds: Annotated[float, typer.Option("--seconds", min=1, help="How long to run.")] = 60.0,
    symbols: Annotated[int, typer.Option("--symbols", min=1, max=50, help="Synthetic symbols.")] = 4,
    rate: Annotated[float, typer.Option("--rate", min=1, help="Messages/s of each synthetic symbol.")] = 50.0,
    seed: Annotated[int, typer.Option("--seed", help="Of the synthetic market.")] = 1,
    recording: Annotated[
        list[Path] | None,
        typer.Option("--recording", exists=True, dir_okay=False, help="Replay this Binance capture; may be repeated."),
    ] = None,
    speed: Annotated[str, typer.Option("--speed", help="Market seconds per second, or max.")] = "1",
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="Empty or new folder; a fresh one in demo-data/.")
    ] = None,
    ui: Annotated[bool, typer.Option("--ui/--no-ui", help="Live view, or plain lines.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="End with the summary as one line of JSON.")] = False,
) -> None:
    """Run exchange, collectors, Bronze, features, bars and lake on the embedded log, and show them."""
    market = _market(symbols, rate, seed, recording or [], speed)
    root = _fresh(data_dir)
    stop = Stop()
    service.on_signals(stop)
    with choose(console(stderr=as_json), plain=not ui) as display:
        compile_kernels(display, stop)
        result = _run(root, market, seconds, stop, display)
    conclude(result, as_json=as_json)


def _run(root: Path, market: Sequence[str], seconds: float, stop: Stop, display: Display) -> Summary:
    from fluxforge_cli.pipeline import session  # noqa: PLC0415  Arrow and numba take a second to import

    clock = SystemClock()
    # Settings of the user's own environment are for the user's own pipeline.
    environ = {k: v for k, v in os.environ.items() if not k.startswith(environment.PREFIX) or k in environment.RESERVED}
    exchange = Child("simulator", ("simulator", *market), root / "logs" / "simulator.log", clock, environ)
    exchange.start()
    try:
        url = _address(exchange, clock)
        display.say(f"exchange on {url}, data in {root}")
        config = root / "config.yaml"
        config.write_text(yaml.safe_dump(_config(root, url), sort_keys=False))
        settings = load(config, environ={})
        whole = session.Session(
            "FluxForge demo", settings, config, SOURCES, root, environ, seconds, fresh=True, exchange=exchange
        )
        return session.run(whole, display, stop)
    finally:
        if exchange.pid is not None:
            exchange.kill()


def _fresh(data_dir: Path | None) -> Path:
    """The folder of this run, absolute. Raises ConfigError where it holds something already."""
    root = data_dir or Path("demo-data") / datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise ConfigError(f"--data-dir {root}: not an empty folder", hint="name a new folder, or leave the option out")
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--data-dir {root}: {error.strerror}", hint="name a folder that can be written") from None
    return root.resolve()


def _market(symbols: int, rate: float, seed: int, recording: Sequence[Path], speed: str) -> list[str]:
    """The simulator's options. Raises ConfigError."""
    if speed != "max":
        try:
            if not float(speed.removesuffix("x")) > 0:
                raise ValueError
        except ValueError:
            raise ConfigError(f"--speed {speed!r} is no speed", hint="a number above 0, or max") from None
    options = ["--port", "0", "--speed", speed]
    if recording:
        return [*options, "--recording", *map(str, recording)]
    made = ["--symbols", str(symbols), "--rate", f"{rate:g}", "--seed", str(seed)]
    return [*options, "--synthetic", *made, "--rebase-time"]


def _address(exchange: Child, clock: SystemClock) -> str:
    """The URL the simulator prints when it is ready. Raises PipelineFailed."""
    deadline = clock.monotonic() + SIMULATOR_S
    while clock.monotonic() < deadline:
        exchange.poll()
        for line in exchange.lines_since_start():
            if found := _URL.search(line):
                return found[0]
        if exchange.given_up or exchange.restarts:
            break
        time.sleep(0.05)
    raise exchange.failure("does not start")


def _symbols(url: str) -> list[str]:
    """What the exchange lists, unified."""
    try:
        with urllib.request.urlopen(f"{url}/api/v3/exchangeInfo", timeout=10) as answer:  # noqa: S310  on this machine
            listed = json.load(answer)["symbols"]
    except (OSError, ValueError, KeyError) as error:
        raise FluxForgeError(f"{url}: the simulator does not list its symbols: {error}") from None
    return [f"{one['baseAsset']}/{one['quoteAsset']}" for one in listed]


def _config(root: Path, url: str) -> dict[str, Any]:
    """The configuration of this run, as anyone could have written it."""
    symbols = _symbols(url)
    ws = url.replace("http://", "ws://")
    return {
        "broker": {"url": f"sqlite:///{root}/fluxforge.db"},
        "collector": {"id": "demo"},
        "binance": {"symbols": symbols, "rest": url, "ws": ws},
        "ccxt": {
            "exchanges": {
                CCXT_EXCHANGE: {
                    "symbols": symbols[:CCXT_SYMBOLS],
                    "urls": {
                        "api": {
                            "public": f"{url}/api/v3",
                            "ws": {"spot": f"{ws}/stream/ws"},
                        }
                    },
                    "options": {"fetchMarkets": {"types": ["spot"]}},
                }
            }
        },
        "ingestion": {"segment_max_age_s": 10, "stats_interval": 10},
        "processor": {"commit_interval": 0.1},
        "lake": {"segment_max_age_s": 10},
        "storage": {"input": {"path": str(root)}, "output": {"path": str(root)}},
    }
