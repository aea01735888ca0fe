"""500 symbols through one native collector process: what arrives, how late, what it costs, what overload does.

Simulator (Binance's protocol, a seeded market, all three channels), collector (as shipped, on the embedded log) and
this reader of the log are processes of their own on one machine. The market begins when everything is subscribed to.
What was sent is the simulator's own count; the trades expected are all that happened in it.

Latency is from an event's exchange time, and from its arrival, to the moment another process can read it from the log.
The simulator's clock may begin some milliseconds late: the least difference that any event showed between exchange
time and arrival is taken off.

The last run holds the log's write lock for LOCKED_S while the market goes on, with a queue for less than that: the
queue must stay within its bound, books be given up behind a Reset and come back whole, and no trade be lost.
"""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import yaml
from benchmarks.collector_watch import Found, Tail, metrics_of

from benchmarks import report

SYMBOLS, STREAMS = 500, 4
RATES = (20.0, 40.0)
"""Messages/s of a symbol; the first is what is asked for."""
SECONDS = 30.0
QUEUE = 100_000
LOCKED_S, LOCKED_QUEUE = 4.0, 15_000
SETTLE_S = 3.0
"""Behind the last frame: counts are told once a second."""


class Run(NamedTuple):
    """One run. Counts are of the whole run, rates and costs of its middle.

    offered         frames/s that the simulator sent
    sent            frames of the market, each one event; `stored`: events in the log
    waited          events between sockets and log, the most at once; `bound` what it must stay under
    shed            events dropped, by kind
    expected        trades that happened; `matched`: those of symbols of which the log has each once, and in order
    broken          diffs that do not follow the one before, without a Reset between, and books gone at the end
    exchange        ms since the exchange time at p50, p99 and most, `arrival` since the arrival
    cpu, simulator  shares of one core
    resident        MB
    """

    offered: float
    sent: int
    stored: int
    waited: int
    bound: int
    shed: Counter[str]
    expected: int
    matched: int
    broken: int
    resets: Counter[str]
    exchange: tuple[float, ...]
    arrival: tuple[float, ...]
    cpu: float
    simulator: float
    resident: float


def run() -> None:
    """Measure and print."""
    runs = {f"{rate:g} msg/s": measure(rate, SECONDS, QUEUE) for rate in RATES}
    runs[f"{RATES[0]:g}, log locked {LOCKED_S:g} s"] = measure(RATES[0], SECONDS, LOCKED_QUEUE, LOCKED_S)
    report.table(
        f"{SYMBOLS} symbols, one collector process, {SECONDS:g} s; {os.cpu_count()} cores for all processes",
        ("a symbol", "sent/s", "sent", "in the log", "shed", "queue", "bound", "trades", "in the log", "broken"),
        [
            (name, round(r.offered), r.sent, r.stored, r.shed.total(), r.waited, r.bound, r.expected, r.matched,
             r.broken)
            for name, r in runs.items()
        ],
    )  # fmt: skip
    report.table(
        "ms until it can be read from the log, and what the collector took",
        ("a symbol", *(f"{of} {q}" for of in ("exchange", "arrival") for q in ("p50", "p99", "max")), "CPU %", "MB"),
        [(name, *map(round, (*r.exchange, *r.arrival, r.cpu * 100, r.resident))) for name, r in runs.items()],
    )
    asked, *_, locked = runs.values()
    print(f"the simulator took {asked.simulator:.0%} of a core for {asked.offered:,.0f} msg/s")
    print(f"while the log was locked: shed {dict(locked.shed)}, Resets {dict(locked.resets)}")
    report.result(
        "collector_scale",
        {
            "offered_per_s": asked.offered,
            "events_lost": sum(r.sent - r.stored - r.shed.total() for r in runs.values()),
            "trades_lost": sum(r.expected - r.matched for r in runs.values()),
            "books_broken": sum(r.broken for r in runs.values()),
            "shed": asked.shed.total(),
            "queue_most": asked.waited,
            "cpu_us_per_message": asked.cpu / asked.offered * 1e6,
            "resident_mb": asked.resident,
            **dict(zip(("latency_p50_ms", "latency_p99_ms", "latency_max_ms"), asked.exchange, strict=True)),
            "locked_queue_ratio": locked.waited / locked.bound,
            "locked_shed": locked.shed.total(),
        },
    )


def measure(rate: float, seconds: float, queue: int, locked: float = 0.0, symbols: int = SYMBOLS) -> Run:
    """One run; `locked`: s for which the log cannot be written, in its middle."""
    with tempfile.TemporaryDirectory(prefix="fluxforge-bench-") as name, _simulator(symbols, rate) as (exchange, url):
        path = Path(name) / "raw.db"
        listed = _get(f"{url}/api/v3/exchangeInfo")["symbols"]
        natives = {each["symbol"]: f"{each['baseAsset']}/{each['quoteAsset']}" for each in listed}
        with _collector(path, url, list(natives.values()), queue) as (collector, page):
            _until(lambda: metrics_of(page).get("fluxforge_resyncs_total", 0) >= symbols, 120.0)
            tail = Tail(path)
            before, started = (_cpu(collector), _cpu(exchange), _sent(url)), time.monotonic()
            time.sleep((seconds - locked) / 2)
            _lock(path, locked)
            time.sleep((seconds - locked) / 2)
            spent = time.monotonic() - started
            after = (_cpu(collector), _cpu(exchange), _sent(url))
            tail.stop()
            resident = report.resident_mb(collector)
            _get(f"{url}/control/pause", b"")
            _until(lambda: metrics_of(page)["fluxforge_queue_events"] == 0, 60.0)
            time.sleep(SETTLE_S)
            sent, last = _sent(url), metrics_of(page)
        trades = {symbol: _get(f"{url}/control/trades?symbol={native}") for native, symbol in natives.items()}
        found = Found(path)
    cpu, simulator, offered = ((b - a) / spent for a, b in zip(before, after, strict=True))
    return Run(
        offered=offered,
        sent=sent,
        stored=found.events,
        waited=int(last["fluxforge_queue_most_events"]),
        bound=2 * queue,
        shed=last.shed,
        expected=sum(map(len, trades.values())),
        matched=sum(len(ids) for symbol, ids in trades.items() if found.trades[symbol] == ids),
        broken=found.broken + symbols - len(found.synced),
        resets=found.resets,
        exchange=tail.percentiles(0),
        arrival=tail.percentiles(1),
        cpu=cpu,
        simulator=simulator,
        resident=resident,
    )


@contextmanager
def _simulator(symbols: int, rate: float) -> Iterator[tuple[int, str]]:
    """Its process and its address; the market begins when every stream has been subscribed to."""
    options = ["--symbols", str(symbols), "--rate", str(rate), "--start", str(STREAMS * symbols), "--port", "0"]
    command = [sys.executable, "-m", "simulator", "--rebase-time", *options]
    with _running(subprocess.Popen(command, stdout=subprocess.PIPE, text=True)) as process:
        assert process.stdout
        yield process.pid, process.stdout.readline().strip()


@contextmanager
def _collector(path: Path, url: str, symbols: list[str], queue: int) -> Iterator[tuple[int, str]]:
    """Its process and the address of its metrics."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = {
        "broker": {"url": f"sqlite:///{path}"},
        "binance": {"symbols": symbols, "rest": url, "ws": url.replace("http", "ws", 1)},
        "ingestion": {"queue_size": queue},
        "metrics": {"port": port},
        "log_level": "ERROR",
    }
    file = path.with_name("config.yaml")
    file.write_text(yaml.safe_dump(config))
    with _running(subprocess.Popen([sys.executable, "-m", "collector", "--config", str(file)])) as process:
        yield process.pid, f"http://127.0.0.1:{port}/metrics"


@contextmanager
def _running(process: subprocess.Popen[Any]) -> Iterator[subprocess.Popen[Any]]:
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


def _lock(path: Path, seconds: float) -> None:
    """Hold the log's write lock."""
    if seconds:
        db = sqlite3.connect(path, isolation_level=None)
        db.execute("BEGIN IMMEDIATE")
        time.sleep(seconds)
        db.execute("ROLLBACK")
        db.close()


def _cpu(process: int) -> float:
    """User and system time of all its threads, s (Linux)."""
    words = Path(f"/proc/{process}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def _until(holds: Callable[[], bool], seconds: float) -> None:
    """Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not so within {seconds:g} s")
        time.sleep(0.2)


def _get(url: str, post: bytes | None = None) -> Any:
    with urllib.request.urlopen(url, post) as answer:
        return orjson.loads(answer.read())


def _sent(url: str) -> int:
    """Frames of the market that somebody has subscribed to."""
    status = _get(f"{url}/control/status")
    return sum(status["frames"].get(stream, 0) for stream in status["streams"])
