"""`fluxforge up` as benchmarks run it: on a simulated exchange, in a folder of its own, watched from outside."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import yaml

STARTS_S, STOPS_S = 180.0, 300.0
SYMBOLS = ["BTC/USDT", "ETH/USDT", "SOL/USDT", "XRP/USDT"]


@dataclass(frozen=True)
class Usage:
    """One process since its start: CPU s, KB written towards the disk, times its threads slept; memory now, MB.

    shared  memory with each page shared between processes counted in parts
    """

    cpu: float
    written: float
    sleeps: int
    resident: float
    shared: float


@contextmanager
def exchange(rate: int) -> Iterator[str]:
    """The URL of a simulated exchange with the markets of SYMBOLS and so many messages/s of each."""
    market = ("--synthetic", "--symbols", str(len(SYMBOLS)), "--rate", str(rate), "--rebase-time")
    with subprocess.Popen(
        [sys.executable, "-m", "simulator", "--port", "0", *market], stdout=subprocess.PIPE, text=True
    ) as simulator:
        assert simulator.stdout is not None
        try:
            yield simulator.stdout.readline().strip()
        finally:
            simulator.terminate()


class Pipeline:
    """`fluxforge up` in a folder of its own; `settings` beside the exchange's."""

    def __init__(
        self, folder: Path, url: str, options: tuple[str, ...] = (), settings: Mapping[str, Any] | None = None
    ) -> None:
        folder.mkdir()
        self._said, self._folder = folder / "said", folder
        binance = {"symbols": SYMBOLS, "rest": url, "ws": url.replace("http", "ws")}
        (folder / "config.yaml").write_text(yaml.safe_dump({"binance": binance, **(settings or {})}))
        environ = {name: value for name, value in os.environ.items() if not name.startswith("FLUXFORGE_")}
        command = [sys.executable, "-c", "from fluxforge_cli.main import main; main()", "up", *options]
        self._out: IO[bytes] = (folder / "summary").open("wb")
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(
                [*command, "--no-ui", "--json"],
                cwd=folder,
                env=environ,
                stdout=self._out,
                stderr=said,
                stdin=subprocess.DEVNULL,
            )

    def wait_running(self) -> None:
        """Until every service works and rows come."""
        deadline = time.monotonic() + STARTS_S
        while "running:" not in self._said.read_text():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"does not run:\n{self._said.read_text()[-2000:]}")
            time.sleep(0.1)

    def usage(self) -> dict[str, Usage]:
        """By process: the supervisor and its children."""
        pids = {"supervisor": self._process.pid}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                words = (folder / "cmdline").read_text().split("\0")
            except OSError:
                continue
            if parent == self._process.pid:
                service = words[words.index("fluxforge.guarded") + 1].replace("_", " ")
                role = words[words.index("--role") + 1] if "--role" in words else ""
                pids[f"{service.split()[0]} {role}" if role else service] = int(folder.name)
        return {name: usage(pids[name]) for name in sorted(pids)}

    def stop(self) -> dict[str, Any]:
        """End it in order; the summary it prints. Raises RuntimeError where anything went wrong."""
        self._process.send_signal(signal.SIGINT)
        code = self._process.wait(STOPS_S)
        self._out.close()
        if code:
            raise RuntimeError(f"exit code {code}:\n{self._said.read_text()[-2000:]}")
        return dict(json.loads((self._folder / "summary").read_text().splitlines()[-1]))

    def kill(self) -> None:
        """End it at once; its children see their pipe close."""
        self._process.kill()
        self._process.wait()
        self._out.close()


def usage(pid: int) -> Usage:
    """Of one process, from /proc (Linux)."""
    process = Path(f"/proc/{pid}")
    fields = (process / "stat").read_text().rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])
    rollup = (process / "smaps_rollup").read_text()
    sleeps = 0
    for thread in (process / "task").iterdir():
        sleeps += _number(r"^voluntary_ctxt_switches:\s+(\d+)", (thread / "status").read_text())
    return Usage(
        cpu=ticks / os.sysconf("SC_CLK_TCK"),
        written=_number(r"^write_bytes: (\d+)", (process / "io").read_text()) / 1000,
        sleeps=sleeps,
        resident=_number(r"^Rss:\s+(\d+)", rollup) / 1024,
        shared=_number(r"^Pss:\s+(\d+)", rollup) / 1024,
    )


def _number(pattern: str, text: str) -> int:
    found = re.search(pattern, text, re.MULTILINE)
    if found is None:
        raise RuntimeError(f"no {pattern} in {text!r}")
    return int(found[1])
