"""`fluxforge dashboard` as a process."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from fluxforge.healthcheck import main as healthcheck
from fluxforge.log import open_log
from fluxforge.settings import load
from made_market import publish_past

RUN = (sys.executable, "-c", "from fluxforge_cli.main import main; main()", "dashboard")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "config.yaml"
    place = {"path": str(tmp_path)}
    url = f"sqlite:///{tmp_path}/log.db"
    file.write_text(yaml.safe_dump({"broker": {"url": url}, "storage": {"input": place, "output": place}}))
    return file


@contextmanager
def served(*options: str | Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    process = subprocess.Popen([*RUN, "--port", "0", *map(str, options)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        line = process.stdout.readline()
        match = re.fullmatch(r"dashboard on (http://127\.0\.0\.1:\d+)\n", line)
        assert match, line
        yield process, match[1]
    finally:
        process.kill()
        process.wait()


def ready(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def until_ready(url: str) -> None:
    end = time.monotonic() + 30
    while ready(url)[0] != 200:
        assert time.monotonic() < end, ready(url)
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_follows_the_log_and_ends_when_told_to(config: Path, number: signal.Signals) -> None:
    settings = load(config, environ={})
    with served("--config", config) as (process, url):
        assert healthcheck([f"{url}/livez"]) == 0
        end = time.monotonic() + 20
        while "is not there" not in ready(url)[1]:
            assert time.monotonic() < end, ready(url)
        assert ready(url)[0] == 503
        log = open_log(settings.broker.url)
        log.create(settings.topic_specs())
        publish_past(log, settings.topic_names(), ["BTC/USDT"], time.time_ns(), 5)
        log.close()
        until_ready(url)
        process.send_signal(number)
        assert process.wait(20) == 0


def test_a_lake_needs_no_log(config: Path, tmp_path: Path) -> None:
    with served("--config", config, "--source", "lake", "--data-dir", tmp_path / "other") as (_, url):
        until_ready(url)
    assert not (tmp_path / "log.db").exists() and not (tmp_path / "other").exists(), "looking must not write"


def test_a_port_that_is_taken_is_told(config: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        ended = subprocess.run([*RUN, "--config", config, "--port", port], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert f"dashboard: 127.0.0.1:{port} cannot be listened on: Address already in use" in ended.stderr
    assert "--port 0" in ended.stderr and "Traceback" not in ended.stderr
