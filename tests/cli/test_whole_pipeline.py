"""`fluxforge demo` and `fluxforge up` as a person runs them: every process real, counted afterwards from the files."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from fluxforge import lake
from fluxforge.settings import load

FLUXFORGE = [sys.executable, "-c", "from fluxforge_cli.main import main; main()"]
PATIENCE_S = 120.0
"""The kernels may have to be compiled first."""


@pytest.fixture
def environ() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("FLUXFORGE_")}


def wait(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def child_of(config: Path, module: str) -> int | None:
    """Process id of the service that runs with this configuration."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode().split("\0")
        except OSError:
            continue
        if module in words and str(config) in words and "lake" not in words:
            return int(folder.name)
    return None


def rows_in(folder: Path) -> int:
    return sum(pq.ParquetFile(path).metadata.num_rows for path in folder.rglob("*.parquet"))


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the children in /proc")
@pytest.mark.timeout(300)
def test_a_demo_whose_services_are_killed_still_counts_every_event_once(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    data = tmp_path / "demo"
    arguments = ["--seconds", "7", "--no-ui", "--json", "--symbols", "3", "--data-dir", str(data)]
    with (tmp_path / "progress").open("w+") as progress:
        demo = subprocess.Popen(
            [*FLUXFORGE, "demo", *arguments],
            stdout=subprocess.PIPE,
            stderr=progress,
            stdin=subprocess.DEVNULL,
            text=True,
            cwd=tmp_path,
            env=environ,
        )
        try:
            wait(lambda: "running" in (tmp_path / "progress").read_text() or demo.poll() is not None, "never ran")
            for module in ("bronze_sink", "feature_engine"):
                pid = child_of(data / "config.yaml", module)
                assert pid is not None, (tmp_path / "progress").read_text()
                os.kill(pid, signal.SIGKILL)
            out, _ = demo.communicate(timeout=PATIENCE_S)
        finally:
            demo.kill()
    said = (tmp_path / "progress").read_text()
    assert demo.returncode == 0, said
    summary = json.loads(out.splitlines()[-1])
    assert list(summary) == ["events", "bronze_rows", "feature_rows", "bars", "gaps", "latency_ms", "data_dir"]
    assert summary["data_dir"] == str(data)
    assert summary["events"] > 500
    assert summary["bronze_rows"] == summary["events"] == rows_in(data / "raw" / "ready")
    assert summary["gaps"] == 0
    assert 0 < summary["latency_ms"]["p50"] <= summary["latency_ms"]["p99"]
    assert lake.scan(data, "hf").count_rows() == summary["feature_rows"] > 0
    assert lake.scan(data, "bars").count_rows() == summary["bars"] > 0
    sources = {path.name for path in (data / "processed").iterdir() if not path.name.startswith("_")}
    assert sources == {"binance", "ccxt", "cross"}
    assert "bronze sink died (exit code -9) and is restarted" in said
    assert "feature engine died (exit code -9) and is restarted" in said
    assert load(data / "config.yaml", environ={}).collector.id == "demo"


@pytest.fixture
def exchange() -> Iterator[str]:
    """The URL of a simulated exchange."""
    with subprocess.Popen(
        [sys.executable, "-m", "simulator", "--port", "0", "--synthetic", "--symbols", "2", "--rebase-time"],
        stdout=subprocess.PIPE,
        text=True,
    ) as simulator:
        assert simulator.stdout is not None
        yield simulator.stdout.readline().strip()
        simulator.terminate()


@pytest.mark.timeout(300)
def test_up_stops_when_told_and_goes_on_where_it_ended(tmp_path: Path, environ: dict[str, str], exchange: str) -> None:
    stored = 0
    for symbols in ("BTC/USDT, ETH/USDT", "ETH/USDT"):  # then BTC's partition is idle, and has nothing to wait for
        text = up_until_features(tmp_path, environ, exchange, symbols)
        assert "collector ccxt" not in text
        events, rows = (re.search(rf"{name} +([\d,]+)", text) for name in ("events in", "Bronze rows"))
        assert events and rows and events[1] == rows[1]
        stored += int(rows[1].replace(",", ""))
        assert stored == rows_in(tmp_path / "data" / "raw" / "ready")
    (command,) = [line.strip() for line in text.splitlines() if "pyarrow.dataset" in line]
    done = subprocess.run(shlex.split(command), capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert re.match(r"(BTC|ETH)-USDT \d{19} \d+\.\d+ ", done.stdout)


def up_until_features(tmp_path: Path, environ: dict[str, str], exchange: str, symbols: str) -> str:
    """What `fluxforge up` prints when it is interrupted after its first feature rows."""
    (tmp_path / "config.yaml").write_text(
        f"binance: {{symbols: [{symbols}], rest: '{exchange}', ws: '{exchange.replace('http', 'ws')}'}}\n"
        "processor: {commit_interval: 0.1}\n"
        "ccxt: {exchanges: {kraken: {symbols: [BTC/USD]}}}\n"
    )
    said = tmp_path / "said"
    with said.open("w") as output:
        up = subprocess.Popen(
            [*FLUXFORGE, "up", "--sources", "binance", "--no-ui"],
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            cwd=tmp_path,
            env=environ,
        )
        try:
            wait(lambda: "running" in said.read_text() or up.poll() is not None, "no feature row")
            up.send_signal(signal.SIGINT)
            up.wait(PATIENCE_S)
        finally:
            up.kill()
    assert up.returncode == 0, said.read_text()
    assert re.search(r"feature rows +[1-9]", said.read_text())
    return said.read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["up"], "error: no exchange is configured"),
        (["up", "--config", "c.yaml", "--sources", "kraken"], "error: --sources kraken: not configured"),
        (["demo", "--data-dir", "full"], "error: --data-dir full: not an empty folder"),
        (["demo", "--speed", "fast"], "error: --speed 'fast' is no speed"),
    ],
)
def test_what_cannot_run_is_said_before_anything_starts(
    tmp_path: Path, environ: dict[str, str], arguments: list[str], said: str
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    (tmp_path / "c.yaml").write_text("binance: {symbols: [BTC/USDT]}\n")
    done = subprocess.run(
        [*FLUXFORGE, *arguments], capture_output=True, text=True, cwd=tmp_path, env=environ, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith(said)
    assert "hint: " in done.stderr and "Traceback" not in done.stderr
