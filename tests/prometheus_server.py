"""A real Prometheus for tests: the one at hand, or Debian's package unpacked once into `.cache/prometheus`.

Unpacked, not installed: that needs no root and starts nothing. Where neither is there the tests are skipped, saying so.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from kafka_broker import die_with_parent, free_ports, locked

CACHE = Path(__file__).resolve().parents[1] / ".cache" / "prometheus"
READY_SECONDS = 30


def program(name: str) -> Path:
    """`prometheus` or `promtool`. Skips the test where there is none to be had."""
    if found := shutil.which(name):
        return Path(found)
    with locked(CACHE):
        binary = CACHE / "unpacked" / "usr" / "bin" / name
        if not binary.exists():
            _unpack()
    return binary


def _unpack() -> None:
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        pytest.skip("no Prometheus: neither on PATH nor, without apt-get, to be had from Debian")
    own = ["-o", f"Dir::State::Lists={CACHE / 'lists'}", "-o", f"Dir::Cache={CACHE / 'archives'}"]
    for folder in (CACHE / "lists" / "partial", CACHE / "archives" / "archives" / "partial"):
        folder.mkdir(parents=True, exist_ok=True)
    download = ["download", "prometheus"]
    if not (
        _run(["apt-get", "-qq", *download])
        or (_run(["apt-get", "-qq", *own, "update"]) and _run(["apt-get", "-qq", *own, *download]))
    ):
        pytest.skip("no Prometheus: not on PATH, and apt-get cannot download Debian's package")
    (package,) = CACHE.glob("prometheus_*.deb")
    staging = CACHE / "staging"
    shutil.rmtree(staging, ignore_errors=True)
    assert _run(["dpkg-deb", "-x", str(package), str(staging)])
    staging.rename(CACHE / "unpacked")
    package.unlink()


def _run(command: list[str]) -> bool:
    return subprocess.run(command, cwd=CACHE, capture_output=True, check=False, timeout=120).returncode == 0


class Prometheus:
    """Scrapes targets (`host:port` → labels) as `fluxforge`, once a second, and evaluates the rules of `rules`."""

    def __init__(self, folder: Path, targets: dict[str, dict[str, str]], rules: Path) -> None:
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(rules)],
            "scrape_configs": [
                {
                    "job_name": "fluxforge",
                    "static_configs": [{"targets": [at], "labels": labels} for at, labels in targets.items()],
                }
            ],
        }
        (folder / "prometheus.yml").write_text(json.dumps(config))
        with (folder / "prometheus.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(program("prometheus"), f"--config.file={folder / 'prometheus.yml'}"),
                    *(f"--storage.tsdb.path={folder / 'tsdb'}", f"--web.listen-address=127.0.0.1:{port}"),
                ],
                stdout=log, stderr=log, preexec_fn=die_with_parent,
            )  # fmt: skip
        until = time.monotonic() + READY_SECONDS
        while not self._is_ready():
            if time.monotonic() > until or self._process.poll() is not None:
                raise RuntimeError(f"Prometheus was not ready:\n{(folder / 'prometheus.log').read_text()[-2000:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(30)

    def get(self, path: str, **parameters: str) -> Any:
        """`data` of an answer of the HTTP API. Raises AssertionError with what it says is wrong."""
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from None

    def query(self, expr: str) -> list[dict[str, Any]]:
        """The samples of an expression now."""
        return list(self.get("query", query=expr)["result"])

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=5):
                return True
        except OSError:
            return False
