"""The stack as `docker compose` runs it, under a project name of its own, with Apache Kafka in Redpanda's place."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import uuid
from pathlib import Path
from typing import Any

from kafka_broker import libraries

ROOT = Path(__file__).resolve().parents[2]
FILES = ("docker-compose.yml", "tests/compose/stand-in.yml")
BASES = {
    "PYTHON_IMAGE": ("python:3.11.14-slim-bookworm", "python:3.11-slim-bookworm"),
    "UV_IMAGE": ("ghcr.io/astral-sh/uv:0.13.9", "ghcr.io/astral-sh/uv:latest"),
}
"""Base images as they are pinned, and a tag that a machine without a registry may have made itself."""
INSIDE = ROOT / "tests/compose/inside.py"
_CRASH = """
import os, signal
for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
    if pid not in (1, os.getpid()):
        os.kill(pid, signal.SIGKILL)
"""
"""Everything of a container but process 1, which is docker's own."""


class Stack:
    """One project. `down` removes its containers, networks and volumes."""

    def __init__(self) -> None:
        libraries()  # Kafka's jars, which its image is made of
        self.project = f"fluxforge-test-{uuid.uuid4().hex[:6]}"
        self.bases = {name: _base(*tags) for name, tags in BASES.items()}
        files = [part for file in FILES for part in ("-f", file)]
        self._compose = ["docker", "compose", "-p", self.project, *files, "--profile", "demo"]

    def compose(self, *args: str, timeout: float = 300) -> str:
        """Standard output. Raises AssertionError with what it said."""
        return _run([*self._compose, *args], timeout, {**os.environ, **self.bases})

    def containers(self) -> dict[str, str]:
        """Name (feature-engine-2) → id of all that run."""
        listed = self.compose("ps", "--format", "json").splitlines()
        running = [one for one in map(json.loads, listed) if one["State"] == "running"]
        return {one["Name"].removeprefix(f"{self.project}-"): one["ID"] for one in running}

    def kill(self, container: str) -> None:
        """kill -9, as `docker kill` does it: Docker takes that for a wish, and does not start it again."""
        _run(["docker", "kill", container])

    def start(self, container: str) -> None:
        _run(["docker", "start", container])

    def crash(self, container: str) -> None:
        """Kill its program from within: Docker takes that for an accident."""
        self.run_in(container, "-c", _CRASH)

    def restarts(self, container: str) -> int:
        """How often Docker started it again by itself."""
        return int(_run(["docker", "inspect", "-f", "{{.RestartCount}}", container]))

    def wait_healthy(self, container: str, within: float = 150) -> None:
        deadline = time.monotonic() + within
        while (state := _run(["docker", "inspect", "-f", "{{.State.Health.Status}}", container]).strip()) != "healthy":
            assert time.monotonic() < deadline, f"{container} is {state} after {within} s"
            time.sleep(0.5)

    def run_in(self, container: str, *python: str) -> str:
        """Python in a container that runs."""
        return _run(["docker", "exec", container, "python", *python])

    def partitions(self, container: str) -> int:
        """Of the raw topic, how many a worker reads."""
        page = self.run_in(container, "-m", "fluxforge.healthcheck", "/metrics")
        return sum(
            line.startswith("fluxforge_position{") and 'topic="market.raw"' in line for line in page.splitlines()
        )

    def ask(self, question: str) -> dict[str, Any]:
        """An answer of inside.py."""
        mounted = ("-v", f"{INSIDE}:/inside.py:ro", "--entrypoint", "python")
        answer: dict[str, Any] = json.loads(self._cli(*mounted, "cli", "/inside.py", question).splitlines()[-1])
        return answer

    def fluxforge(self, *args: str) -> str:
        """The command line, beside the stack."""
        return self._cli("cli", *args)

    def down(self) -> None:
        self.compose("down", "-v", "--remove-orphans", "--timeout", "5")

    def _cli(self, *args: str) -> str:
        return self.compose("run", "--rm", "-T", "--no-deps", *args)


def docker_is_there() -> str:
    """Why the stack cannot run here; "" where it can."""
    if shutil.which("docker") is None:
        return "there is no docker"
    for command in (["docker", "info"], ["docker", "compose", "version"]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return f"{' '.join(command)}: {done.stderr.strip().splitlines()[-1]}"
    return ""


def images() -> dict[str, str]:
    """Our images and their sizes."""
    listed = _run(
        ["docker", "image", "ls", "--format", "{{.Repository}}:{{.Tag}} {{.Size}}", "--filter", "reference=fluxforge/*"]
    )
    return dict(line.split() for line in sorted(listed.splitlines()))


def _base(pinned: str, moving: str) -> str:
    """The pinned image, unless only the other one is at hand."""
    at_hand = [
        subprocess.run(["docker", "image", "inspect", tag], capture_output=True, check=False).returncode == 0
        for tag in (pinned, moving)
    ]
    return moving if at_hand == [False, True] else pinned


def _run(command: list[str], timeout: float = 120, environ: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout
