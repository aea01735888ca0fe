"""docs/CLIENT.md and README's strategy: their programs run in the folder of a demo, live ones while it runs."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FLUXFORGE = [sys.executable, "-c", "from fluxforge_cli.main import main; main()"]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
PAPER = ROOT / "examples" / "paper.py"
PATIENCE_S = 120.0
"""The kernels may have to be compiled first."""


def programs(page: str) -> list[str]:
    return [body for body in BLOCK.findall((ROOT / page).read_text()) if "fluxforge.client" in body]


STRATEGY = programs("README.md")[0]
PROGRAMS = [*programs("README.md"), *programs("docs/CLIENT.md")]
HISTORY = [program for program in PROGRAMS if "source=" in program]
LIVE = [program for program in PROGRAMS if program not in HISTORY]


def test_the_strategy_is_short() -> None:
    assert len([line for line in STRATEGY.splitlines() if line.strip()]) <= 15
    assert STRATEGY in LIVE
    assert len(LIVE) == 4 and len(HISTORY) == 2


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[int, list[str]], list[str]]]:
    """Its folder when it has ended; what each live program printed meanwhile, and the paper strategy."""
    folder = tmp_path_factory.mktemp("demo")
    data = folder / "data"
    environ = {name: value for name, value in os.environ.items() if not name.startswith("FLUXFORGE_")}
    options = ["--seconds", "25", "--symbols", "2", "--no-ui", "--json", "--data-dir", str(data)]
    with ExitStack() as left, (folder / "progress").open("w+") as progress:
        running = subprocess.Popen(
            [*FLUXFORGE, "demo", *options], stdout=progress, stderr=progress, stdin=subprocess.DEVNULL, env=environ
        )
        left.callback(running.kill)
        deadline = time.monotonic() + PATIENCE_S
        while "features=" not in (told := (folder / "progress").read_text()) or "features=0" in told.splitlines()[-1]:
            assert running.poll() is None and time.monotonic() < deadline, told
            time.sleep(0.1)
        commands = [["-c", program] for program in LIVE] + [[str(PAPER), "live"]]
        started = []
        for number, command in enumerate(commands):
            out = left.enter_context((folder / f"{number}.out").open("w"))
            started.append(subprocess.Popen([sys.executable, *command], cwd=data, stdout=out, stderr=out, env=environ))
            left.callback(started[-1].kill)
        assert running.wait(PATIENCE_S) == 0, (folder / "progress").read_text()
        assert [program.poll() for program in started] == [None] * len(started), "they wait for more"
        started[-1].send_signal(signal.SIGINT)
        assert started[-1].wait(30) == 0
        printed = [(folder / f"{number}.out").read_text().splitlines() for number in range(len(commands))]
    yield data, dict(enumerate(printed[:-1])), printed[-1]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", range(len(LIVE)))
def test_its_live_programs_print_rows_as_they_come(
    demo: tuple[Path, dict[int, list[str]], list[str]], number: int
) -> None:
    lines = demo[1][number]
    assert lines and not any("Error" in line for line in lines), lines
    if LIVE[number] == STRATEGY:
        assert re.fullmatch(r"BTC/USDT: from \+0 to [+-]1 at \d+\.\d+", lines[0])


@pytest.mark.timeout(300)
def test_the_same_paper_strategy_runs_live_and_on_history(
    demo: tuple[Path, dict[int, list[str]], list[str]],
) -> None:
    data, _, live = demo
    assert re.fullmatch(r"\d markets, PnL .* after fees of .*", live[-1]), live
    outputs = []
    for source in ("topic", "lake"):
        done = subprocess.run([sys.executable, PAPER, source], cwd=data, capture_output=True, text=True, check=True)
        outputs.append(done.stdout.splitlines())
    assert outputs[0] == outputs[1]
    assert len(outputs[0]) > 5 and outputs[0][-1].startswith("4 markets")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("program", HISTORY)
def test_its_programs_of_history_end(demo: tuple[Path, dict[int, list[str]], list[str]], program: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=demo[0], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) >= 3
