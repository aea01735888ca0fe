"""`python -m simulator` as a person runs it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from simulator.__main__ import main, parser
from simulator.faults import KINDS


@contextmanager
def running(*options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = [sys.executable, "-m", "simulator", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def test_it_prints_its_url_serves_and_ends_clean_on_sigterm() -> None:
    with running("--port", "0", "--synthetic", "--symbols", "3") as (process, url):
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", url)
        with urllib.request.urlopen(f"{url}/control/status") as answer:
            assert json.load(answer)["symbols"] == ["BTCUSDT", "ETHUSDT", "SOLUSDT"]
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out, err) == (0, "", "")


@pytest.mark.parametrize(
    ("exchange", "symbols"), [("coinbase", ["BTC-USD", "ETH-USD"]), ("okx", ["BTC-USDT", "ETH-USDT"])]
)
def test_it_speaks_as_another_exchange_and_writes_its_ledger(exchange: str, symbols: list[str], tmp_path: Path) -> None:
    ledger = tmp_path / "faults.ndjson"
    options = ["--port", "0", "--exchange", exchange, "--ledger", str(ledger), "--start", "now", "--speed", "50"]
    with running(*options, "--faults", "7:clock=600") as (_, url):
        with urllib.request.urlopen(f"{url}/control/status") as answer:
            status = json.load(answer)
        assert (status["exchange"], status["symbols"]) == (exchange, symbols)
        while not ledger.read_bytes().endswith(b"\n"):
            pass
    assert json.loads(ledger.read_text().splitlines()[0])["kind"] == "clock"


def test_a_port_in_use_is_named_and_exits_with_2() -> None:
    with running("--port", "0") as (_, url):
        port = url.rpartition(":")[2]
        second = subprocess.run(
            [sys.executable, "-m", "simulator", "--port", port], capture_output=True, text=True, check=False
        )
    assert second.returncode == 2
    assert second.stderr.startswith(f"simulator: port {port} on 127.0.0.1 is in use (")
    assert "Traceback" not in second.stderr


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--speed", "fast"], "--speed fast"),
        (["--speed", "-1"], "speed = -1"),
        (["--start", "later"], "later"),
        (["--faults", "7"], "--faults 7"),
        (["--faults", "7:explode=1"], "explode"),
        (["--symbols", "0"], "symbols = 0"),
        (["--recording", "/nowhere/btcusdt.gz"], "/nowhere/btcusdt.gz"),
    ],
)
def test_a_wrong_option_is_named_and_exits_with_2(
    options: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--port", "0", *options]) == 2
    assert named in capsys.readouterr().err


def test_help_explains_every_option_and_fault() -> None:
    text = parser().format_help()
    assert all(f'"{kind}"' in text for kind in KINDS)
    assert all(action.help for action in parser()._actions)
