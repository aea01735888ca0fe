"""From a feature row's publication to its pixel in a real browser: 50 markets with 20 rows/s each.

Producer, `fluxforge dashboard` as it is shipped and Chromium are processes of their own on one machine, and so share
its clock. Each row is stamped (`capture_ts`) just before it is appended; the page notes how old the newest row's stamp
is in the frame after the one that drew it: in the ladder, and in the charts of three features. Then once more beside
ten browsers that are connected and read nothing. What a row takes from its event to its topic comes on top; the
benchmark `latency` measures that. On the embedded log and on a real Kafka.
"""

from __future__ import annotations

import json
import math
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import yaml
from benchmarks.broker import broker
from benchmarks.history import REPOSITORY
from benchmarks.pipeline import usage

from benchmarks import report
from fluxforge import catalogue, rows
from fluxforge.clock import MS, NS
from fluxforge.kernels.config import FeatureConfig
from fluxforge.log import Output, open_log
from fluxforge.settings import load

MARKETS, RATE = 50, 20
WARM_S, MEASURED_S = 5.0, 20.0
ALLOWED_MS = 1000.0
STUCK = 10
SIDES = {"alone": 0, f"beside {STUCK} stuck": STUCK}


def run() -> None:
    """Print the table."""
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="fluxforge-dashboard-") as folder:
        found["sqlite"] = measure(f"sqlite:///{folder}/log.db", Path(folder), MARKETS, RATE)
        with broker() as bootstrap:
            found["kafka"] = measure(f"kafka://{bootstrap}", Path(folder), MARKETS, RATE)
    report.table(
        f"ms from a row's append to its pixel; {MARKETS} markets, {RATE} rows/s each, {MEASURED_S:g} s",
        ("log", "rows/s", "drawn/s", "book p50", "p99", "max", "charts p50", "p99", "server CPU %"),
        [(f"{log}, {side}", *(of[k] for k in KEYS)) for log, sides in found.items() for side, of in sides.items()],
    )
    told = {
        f"{log}{'_beside_stuck' if SIDES[side] else ''}_{k}": of[k]
        for log, sides in found.items()
        for side, of in sides.items()
        for k in KEYS
    }
    report.result("dashboard", {"allowed_ms": ALLOWED_MS, **told})


DRAWN = "() => fluxforge.ages.book.length && fluxforge.ages.features.length"
KEYS = ("rows_per_s", "drawn", "book_p50", "book_p99", "book_max", "charts_p50", "charts_p99", "cpu")


def measure(
    url: str, folder: Path, markets: int, rate: float, seconds: float = MEASURED_S
) -> dict[str, dict[str, float]]:
    """Of one log and each side: its figures, rows/s that were reached, and % of a core that the server took."""
    settings = load(None, environ={}, overrides={"broker.url": url, "broker.prefix": "pixels"})
    with closing(open_log(url)) as log:
        log.create(settings.topic_specs())
    config = folder / "config.yaml"
    storage = {"input": {"path": str(folder)}, "output": {"path": str(folder)}}
    config.write_text(yaml.safe_dump({"broker": {"url": url, "prefix": "pixels"}, "storage": storage}))
    found = {}
    with producing(config, markets, rate), serving(config) as (address, pid), looking(address) as page:
        for side, number in SIDES.items():
            with stuck(address, number):
                time.sleep(WARM_S)
                page.evaluate("for (const list of Object.values(fluxforge.ages)) list.length = 0")
                before, began, seen = usage(pid), time.monotonic(), count(page)
                time.sleep(seconds)
                page.wait_for_function(DRAWN, timeout=60_000)
                took = time.monotonic() - began
                found[side] = {
                    **figures(page.evaluate("fluxforge.ages"), took),
                    "rows_per_s": (count(page) - seen) / took,
                    "cpu": 100 * (usage(pid).cpu - before.cpu) / took,
                }
    return found


def count(page: Any) -> int:
    """Records in the topic of features, as the page tells them."""
    found: int = page.evaluate("fluxforge.records")
    return found


def figures(ages: dict[str, list[float]], seconds: float) -> dict[str, float]:
    """Percentiles in ms, and how often the ladder was drawn anew."""
    book, charts = np.array(ages["book"]), np.array(ages["features"])
    return {
        "drawn": len(book) / seconds,
        **dict(zip(("book_p50", "book_p99", "book_max"), np.percentile(book, (50, 99, 100)).tolist(), strict=True)),
        **dict(zip(("charts_p50", "charts_p99"), np.percentile(charts, (50, 99)).tolist(), strict=True)),
    }


@contextmanager
def producing(config: Path, markets: int, rate: float) -> Iterator[None]:
    """Rows of all markets as long as the block runs."""
    with child("-m", "benchmarks.dashboard", str(config), str(markets), str(rate)) as process:
        assert process.stdout
        process.stdout.readline()  # it has begun
        yield


@contextmanager
def serving(config: Path) -> Iterator[tuple[str, int]]:
    """The address of the page, and its server's process id."""
    command = "from fluxforge_cli.main import main; main()"
    with child("-c", command, "dashboard", "--port", "0", "--config", str(config)) as process:
        assert process.stdout
        line = process.stdout.readline()
        match = re.search(r"http://\S+", line)
        if match is None:
            raise RuntimeError(f"the dashboard says {line!r} and ends with {process.wait()}")
        yield match[0], process.pid


@contextmanager
def looking(address: str) -> Iterator[Any]:
    """A page that has begun to draw."""
    sys.path.insert(0, str(REPOSITORY / "tests"))
    from chromium_browser import launched  # noqa: PLC0415  lies with the tests

    with launched() as browser:
        page = browser.new_page(viewport={"width": 1440, "height": 1000})
        page.goto(f"{address}/?duration=1s")
        page.wait_for_function("() => fluxforge.ages.book.length > 5", timeout=60_000)
        yield page


@contextmanager
def stuck(address: str, number: int) -> Iterator[None]:
    """Browsers that are connected, have chosen a market and read nothing."""
    place = urlsplit(address)
    ask = (
        f"GET /ws HTTP/1.1\r\nHost: {place.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
    ).encode()
    chosen = b"\x81\x82\0\0\0\0{}"  # a masked text frame
    with ExitStack() as held:
        for _ in range(number):
            made = held.enter_context(socket.socket())
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            made.connect((place.hostname, place.port))
            made.sendall(ask + chosen)
        yield


@contextmanager
def child(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A Python process that ends with the block."""
    process = subprocess.Popen([sys.executable, *arguments], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


def produce(config: Path, markets: int, rate: float) -> None:
    """Rows of every market, spread evenly, and bars of 1 s, until it is ended."""
    settings = load(config, environ={})
    topics, started = settings.topic_names(), time.monotonic()
    names = [feature.name for feature in catalogue.features(FeatureConfig())]
    appender = open_log(settings.broker.url, linger=0.02).appender()
    print(json.dumps({"columns": len(names)}), flush=True)
    sent, second = 0, 0
    while True:
        due = int((time.monotonic() - started) * rate * markets)
        for number in range(sent, due):
            now = time.time_ns()
            symbol = f"S{number % markets:02d}/USDT"
            row = feature_row(names, symbol, now)
            appender.append(Output(topics.features, f"made|{symbol}".encode(), rows.encode(row), (), now // MS))
        sent = due
        if time.time_ns() // NS != second:
            second = time.time_ns() // NS
            for number in range(markets):
                bar = bar_row(f"S{number:02d}/USDT", second - 1)
                appender.append(Output(topics.bars, f"made|S{number:02d}/USDT".encode(), rows.encode(bar)))
        time.sleep(0.002)


def feature_row(names: list[str], symbol: str, now: int) -> dict[str, Any]:
    """With every column; the book moves with time."""
    phase = now / NS
    bid = 1000 + round(20 * math.sin(phase / 30)) / 2
    row: dict[str, Any] = {"exchange": "made", "symbol": symbol, "source": "made", "timestamp": now, "capture_ts": now}
    row |= {name: math.sin(phase + k) for k, name in enumerate(names)}
    for k in range(FeatureConfig().max_levels):
        row |= {f"bid_price_L{k}": bid - k / 2, f"ask_price_L{k}": bid + (k + 1) / 2}
        row |= {f"bid_size_L{k}": 1 + math.sin(phase + k) ** 2, f"ask_size_L{k}": 1 + math.cos(phase + k) ** 2}
    return row | {"source_partition": 0, "source_offset": 0, "updates_since_last": 1, "sampling": "event", "quality": 0}


def bar_row(symbol: str, start: int) -> dict[str, Any]:
    """Of one second; `start` in s."""
    row: dict[str, Any] = {"exchange": "made", "symbol": symbol, "source": "made", "timestamp": start * NS}
    prices = {name: 1000 + math.sin(start / 30 + k) for k, name in enumerate(("open", "high", "low", "close"))}
    return row | prices | {"duration": 1, "bar_type": "time", "volume": 1.0, "trade_count": 1, "incomplete": False}


if __name__ == "__main__":
    produce(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
