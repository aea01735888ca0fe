"""docs/GETTING_STARTED.md, done as a newcomer would: its demo, its looks at it, its strategy, its configuration."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "GETTING_STARTED.md").read_text()
FLUXFORGE = [sys.executable, "-c", "from fluxforge_cli.main import main; main()"]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
PATIENCE_S = 120.0
"""The kernels may have to be compiled first."""
SHORT = {"top": ["--seconds", "2", "--json"], "tail": ["--count", "2", "--json"], "dashboard": ["--port", "0"]}
"""What makes a command that would go on end, or not collide."""
ASKS_EXCHANGES = {"collector", "up"}


def blocks(language: str) -> list[str]:
    return [body for kind, body in BLOCK.findall(PAGE) if kind == language]


DEMO, WHILE, AFTER, OWN = ([shlex.split(line) for line in block.splitlines()] for block in blocks("sh"))
(STRATEGY,) = blocks("python")
(CONFIG,) = blocks("yaml")


def run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*FLUXFORGE, *arguments], cwd=folder, env=environ(), capture_output=True, text=True, check=False, timeout=60
    )


def environ() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("FLUXFORGE_")}


def end(process: subprocess.Popen[str]) -> None:
    """By Ctrl+C: again, where the first one fell into code that cannot be interrupted."""
    deadline = time.monotonic() + PATIENCE_S
    while process.poll() is None:
        assert time.monotonic() < deadline, process.args
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)


@pytest.fixture(scope="module")
def looked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, str]]]:
    """The folder after the demo; what each command and the strategy, live, said meanwhile."""
    folder = tmp_path_factory.mktemp("newcomer")
    (folder / "strategy.py").write_text(STRATEGY)
    ((_, target, given),) = DEMO
    assert target == "demo"
    options = [*shlex.split(given.removeprefix("ARGS=")), "--seconds", "25", "--symbols", "2", "--no-ui"]
    said: dict[str, str] = {}
    with ExitStack() as left, (folder / "progress").open("w") as progress:
        demo = subprocess.Popen(
            [*FLUXFORGE, "demo", *options], cwd=folder, stdout=progress, stderr=progress, env=environ()
        )
        left.callback(demo.kill)
        deadline = time.monotonic() + PATIENCE_S
        while not re.search(r"bars=[1-9]", told := (folder / "progress").read_text()):
            assert demo.poll() is None and time.monotonic() < deadline, told
            time.sleep(0.1)
        started = {}
        for name, command in {
            **{" ".join(line): [*FLUXFORGE, *line[1:], *SHORT.get(line[1], ())] for line in WHILE},
            "strategy": [sys.executable, "strategy.py"],
        }.items():
            out = left.enter_context((folder / f"{len(started)}.out").open("w+"))
            started[name] = subprocess.Popen(command, cwd=folder, stdout=out, stderr=out, env=environ())
            left.callback(started[name].kill)
        assert demo.wait(PATIENCE_S) == 0, (folder / "progress").read_text()
        for number, (name, process) in enumerate(started.items()):
            end(process)
            said[name] = (folder / f"{number}.out").read_text()
    yield folder, said


@pytest.mark.timeout(300)
def test_looks_while_it_runs(looked: tuple[Path, dict[str, str]]) -> None:
    _, said = looked
    for line in WHILE:
        text = said[" ".join(line)]
        wanted = {
            "top": '"markets"',
            "tail": '"symbol":\\s*"[A-Z]+/USDT"',
            "health": r"collector",
            "dashboard": r"http://127\.0\.0\.1:\d+",
        }[line[1]]
        assert re.search(wanted, text), (line, text)
        assert "error:" not in text, text


@pytest.mark.timeout(300)
def test_looks_at_what_is_stored(looked: tuple[Path, dict[str, str]]) -> None:
    folder, _ = looked
    for line in AFTER:
        done = run(*line[1:], folder=folder)
        assert done.returncode == 0, (line, done.stderr)
    assert (folder / "first" / "btc.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.timeout(300)
def test_the_strategy_says_the_same_live_and_from_the_lake(looked: tuple[Path, dict[str, str]]) -> None:
    folder, said = looked
    live = [line for line in said["strategy"].splitlines() if re.match(r"\d{19} (buy|sell) ", line)]
    done = subprocess.run(
        [sys.executable, "strategy.py", "lake"], cwd=folder, env=environ(), capture_output=True, text=True, check=True
    )
    stored = done.stdout.splitlines()
    assert len(live) > 2
    assert stored[stored.index(live[0]) :][: len(live)] == live


@pytest.mark.timeout(300)
def test_its_folders_are_there(looked: tuple[Path, dict[str, str]]) -> None:
    named = re.findall(r"^\| `([\w./]+)` \|", PAGE, re.MULTILINE)
    assert len(named) == 4
    assert [name for name in named if not (looked[0] / "first" / name).exists()] == []


def test_its_configuration_is_one(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(CONFIG)
    for line in OWN:
        if line[1] not in ASKS_EXCHANGES:
            done = run(*line[1:], folder=tmp_path)
            assert done.returncode == 0, done.stderr
