"""Whole collectors beside bare sockets, at a market's own pace: what they use of a core, and how much memory.

A simulator plays a few symbols; all sides follow it at the same time, so that they get the same frames at the same
moments and share whatever else the machine does. CPU and memory are read from outside (Linux), over the same seconds.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from fluxforge.log import TopicPartition, open_log
from fluxforge.topics import Topics

REPOSITORY = Path(__file__).parents[1]
BATCH_MS = 50
WARM_UP_S, SECONDS = 4.0, 20.0
START_S = 60.0
SYMBOLS = ("BTC/USDT", "ETH/USDT", "SOL/USDT", "BNB/USDT", "XRP/USDT", "DOGE/USDT")
FOLLOWED = 2
CCXT_FOLLOWED = {200: 6, 50: 4}
"""By rate: without best prices it takes so many symbols to get about as many messages."""
SIDES = ("aiohttp", "aiohttp, batched", "picows", "picows, batched", "native", "native, batched", "ccxt")
LIBRARIES = ("aiohttp", "picows")
"""Of the bare sides."""
CCXT_STREAMS = frozenset({"depth@100ms", "trade", "ticker"})
"""What ccxt subscribes to for books, trades and tickers."""
STREAMS = CCXT_STREAMS | {"bookTicker"}
"""What all others do."""


class Paced(NamedTuple):
    """One side: messages it got and CPU s it used over `seconds`; resident bytes at their end."""

    messages: int
    cpu: float
    seconds: float
    rss: int

    @property
    def share(self) -> float:
        """% of one core."""
        return 100 * self.cpu / self.seconds

    @property
    def micros(self) -> float:
        """CPU µs a message."""
        return self.cpu / self.messages * 1e6


def measure(rate: int, folder: Path) -> dict[str, Paced]:
    """All sides at `rate` messages/s. Raises RuntimeError where one does not collect what it is sent."""
    folder.mkdir()
    with simulator(rate / FOLLOWED) as url, running(url, folder, rate) as processes:
        _wait_until_all_are_served(url, processes)
        time.sleep(WARM_UP_S)
        before = {side: cpu_seconds(process.pid) for side, process in processes.items()}
        sent, started = status(url), time.monotonic()
        time.sleep(SECONDS)
        after = {side: cpu_seconds(process.pid) for side, process in processes.items()}
        seconds, received = time.monotonic() - started, status(url)
        sizes = {side: resident(process.pid) for side, process in processes.items()}
    found = {}
    for side in processes:
        messages = frames(received, side, rate) - frames(sent, side, rate)
        found[side] = Paced(messages, after[side] - before[side], seconds, sizes[side])
        if side.partition(",")[0] not in LIBRARIES:
            require_stored(folder, side, messages)
    return found


@contextmanager
def simulator(rate: float) -> Iterator[str]:
    """An exchange of all symbols with `rate` messages/s each; its URL."""
    command = [sys.executable, "-m", "simulator", "--port", "0", "--symbols", str(len(SYMBOLS)), "--rate", f"{rate:g}"]
    process = subprocess.Popen([*command, "--rebase-time"], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    try:
        yield process.stdout.readline().strip()
    finally:
        _end(process)


@contextmanager
def running(url: str, folder: Path, rate: int) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """Every side at work, from a start to a clean stop."""
    port = url.rpartition(":")[2]
    processes = {}
    try:
        for side in SIDES:
            milliseconds = BATCH_MS if side.endswith("batched") else 0
            if (library := side.partition(",")[0]) in LIBRARIES:
                words = ["benchmarks.collector_bare", library, port, str(milliseconds)]
            else:
                config = folder / f"{name_of(side)}.yaml"
                config.write_text(json.dumps(settings(side, rate, url, folder, milliseconds)))
                words = ["collector", "--config", str(config), "--metrics-port", "off"]
            processes[side] = subprocess.Popen([sys.executable, "-m", *words], cwd=REPOSITORY)
        yield processes
    finally:
        for process in processes.values():
            _end(process)


def settings(side: str, rate: int, url: str, folder: Path, milliseconds: int) -> dict[str, Any]:
    """A collector's configuration: everything else is as it is shipped."""
    ws = url.replace("http", "ws", 1)
    followed: dict[str, Any] = {"symbols": list(symbols(side, rate))}
    if side == "ccxt":
        api = {"public": f"{url}/api/v3", "ws": {"spot": f"{ws}/stream/ws"}}
        options = {"fetchMarkets": {"types": ["spot"]}}
        source: dict[str, Any] = {"ccxt": {"exchanges": {"binance": {**followed, "urls": {"api": api}}}}}
        source["ccxt"]["exchanges"]["binance"]["options"] = options
    else:
        source = {"binance": {**followed, "rest": url, "ws": ws}}
    return {
        **{"log_level": "WARNING", "broker": {"url": log_of(folder, side)}},
        **{"collector": {"id": "bench", "read_batch_ms": milliseconds}},
        **source,
    }


def name_of(side: str) -> str:
    """A side's name in file names."""
    return side.replace(", ", "-")


def log_of(folder: Path, side: str) -> str:
    """The URL of a side's log."""
    return f"sqlite:///{folder / name_of(side)}.db"


def require_stored(folder: Path, side: str, messages: int) -> None:
    """Raises RuntimeError where a collector's log has fewer events than it got messages."""
    log = open_log(log_of(folder, side))
    topic = Topics().raw
    stored = sum(log.bounds(TopicPartition(topic, partition)).next for partition in range(log.partitions(topic)))
    log.close()
    if stored < messages:
        raise RuntimeError(f"{side}: {stored} events in the log, {messages} messages sent")


def status(url: str) -> Mapping[str, Any]:
    """What the simulator says of itself."""
    with urllib.request.urlopen(f"{url}/control/status", timeout=10) as answer:
        found: Mapping[str, Any] = msgspec.json.decode(answer.read())
    return found


def symbols(side: str, rate: int) -> tuple[str, ...]:
    """What a side follows."""
    return SYMBOLS[: CCXT_FOLLOWED[rate] if side == "ccxt" else FOLLOWED]


def frames(said: Mapping[str, Any], side: str, rate: int) -> int:
    """Frames of the streams that a side follows."""
    natives = {symbol.replace("/", "").lower() for symbol in symbols(side, rate)}
    channels = CCXT_STREAMS if side == "ccxt" else STREAMS
    split = ((*stream.partition("@"), count) for stream, count in said["frames"].items())
    return sum(count for native, _, channel, count in split if native in natives and channel in channels)


def cpu_seconds(pid: int) -> float:
    """User and system time of all threads of a process: clock_getcpuclockid(3), as Linux numbers its clocks."""
    return time.clock_gettime((~pid << 3) | 2)


def resident(pid: int) -> int:
    """Bytes of memory a process holds."""
    words = Path(f"/proc/{pid}/statm").read_text("ascii").split()
    return int(words[1]) * os.sysconf("SC_PAGE_SIZE")


def _wait_until_all_are_served(url: str, processes: Mapping[str, subprocess.Popen[bytes]]) -> None:
    """ccxt opens a socket for each channel, and comes last: it takes seconds to import."""
    deadline = time.monotonic() + START_S
    while status(url)["connections"] < len(SIDES):
        for side, process in processes.items():
            if process.poll() is not None:
                raise RuntimeError(f"{side} ended with code {process.returncode}")
        if time.monotonic() > deadline:
            raise RuntimeError(f"not all sides were connected within {START_S:g} s")
        time.sleep(0.1)


def _end(process: subprocess.Popen[Any]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
