"""Supervision of one child process: restarts with backoff, final failures, an end when the supervisor ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fluxforge_cli.pipeline.child import FIRST_WAIT, LONGEST_WAIT, STEADY, Child, State

PROGRAM = """
import signal, sys, threading
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=stop.set).start())
print("begun", flush=True)
if sys.argv[1] == "serve":
    stop.wait()
    print("ended in order", flush=True)
else:
    sys.exit(int(sys.argv[1]))
"""


class OwnClock:
    """Time that moves when told to."""

    def __init__(self) -> None:
        self.at = 100.0

    def now(self) -> int:
        return int(self.at * 1e9)

    def monotonic(self) -> float:
        return self.at


@pytest.fixture
def clock() -> OwnClock:
    return OwnClock()


@pytest.fixture
def make(tmp_path: Path, clock: OwnClock) -> Iterator[Callable[[str], Child]]:
    (tmp_path / "probe_program.py").write_text(textwrap.dedent(PROGRAM))
    made: list[Child] = []

    def child(argument: str) -> Child:
        environ = {**os.environ, "PYTHONPATH": str(tmp_path)}
        made.append(Child("probe", ["probe_program", argument], tmp_path / "logs" / "probe.log", clock, environ))
        return made[-1]

    yield child
    for one in made:
        if one.pid is not None:
            one.kill()


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def poll_until(child: Child, *states: State) -> None:
    def reached() -> bool:
        child.poll()
        return child.state in states

    until(reached)


def test_a_stop_is_orderly(make: Callable[[str], Child]) -> None:
    child = make("serve")
    assert child.state is State.NEW
    child.start()
    until(lambda: child.tail(1) == ["begun"])
    child.terminate()
    poll_until(child, State.STOPPED)
    assert (child.exit_code, child.restarts, child.tail(1)) == (0, 0, ["ended in order"])
    child.poll()
    assert child.state is State.STOPPED


def test_each_death_doubles_the_wait_and_five_are_given_up(make: Callable[[str], Child], clock: OwnClock) -> None:
    child = make("1")
    child.start()
    for death in range(1, 6):
        poll_until(child, State.WAITING)
        assert child.given_up is (death == 5)
        clock.at += FIRST_WAIT * 2 ** (death - 1) - 0.001
        child.poll()
        assert child.state is State.WAITING
        clock.at += 0.001
        child.poll()
        assert (child.state, child.restarts) == (State.RUNNING, death)
    poll_until(child, State.WAITING)
    assert "probe keeps failing\n  | begun" in str(child.failure("keeps failing"))


def test_a_long_life_starts_the_backoff_anew(make: Callable[[str], Child], clock: OwnClock) -> None:
    child = make("serve")
    child.start()
    for _ in range(7):
        pid = child.pid
        assert pid is not None
        clock.at += STEADY
        os.kill(pid, signal.SIGKILL)
        poll_until(child, State.WAITING)
        assert not child.given_up
        clock.at += FIRST_WAIT
        child.poll()
        assert child.state is State.RUNNING
    assert child.restarts == 7
    assert FIRST_WAIT < LONGEST_WAIT


def test_a_wrong_configuration_is_final(make: Callable[[str], Child]) -> None:
    child = make("2")
    child.start()
    poll_until(child, State.FAILED)
    assert child.given_up
    assert child.restarts == 0


def test_lines_since_start_are_of_the_last_life(make: Callable[[str], Child], clock: OwnClock) -> None:
    child = make("serve")
    child.start()
    until(lambda: child.lines_since_start() == ["begun"])
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    poll_until(child, State.WAITING)
    clock.at += 1
    child.poll()
    until(lambda: child.lines_since_start() == ["begun"])
    assert child.tail(9) == ["begun", "begun"]


SUPERVISOR = """
import sys, time
from pathlib import Path
from fluxforge.clock import SystemClock
from fluxforge_cli.pipeline.child import Child
child = Child("probe", ["probe_program", "serve"], Path(sys.argv[1]), SystemClock())
child.start()
print(child.pid, flush=True)
time.sleep(60)
"""


def test_no_orphan_outlives_a_killed_supervisor(tmp_path: Path) -> None:
    (tmp_path / "probe_program.py").write_text(textwrap.dedent(PROGRAM))
    log = tmp_path / "probe.log"
    with subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, str(log)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    ) as supervisor:
        assert supervisor.stdout is not None
        assert int(supervisor.stdout.readline()) > 0
        until(lambda: "begun" in log.read_text())
        supervisor.kill()
    until(lambda: "ended in order" in log.read_text())
