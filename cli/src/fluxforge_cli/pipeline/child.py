"""One child process: started, watched, restarted with backoff, stopped."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path

from fluxforge.clock import Clock
from fluxforge.errors import FluxForgeError
from fluxforge.service import MISCONFIGURED

FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0
STEADY = 30.0
"""A child that lived this long (s) starts its backoff anew."""


class PipelineFailed(FluxForgeError):
    """A program of the pipeline could not be kept running."""


class State(StrEnum):
    """Where a child is in its life."""

    NEW = "new"
    RUNNING = "running"
    WAITING = "restarting"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


class Child:
    """One program under supervision; its output goes to a log file of its own.

    A death is followed by a restart after 0.5 s, 1 s, 2 s… up to 30 s; one by wrong configuration (exit code 2) is
    final. `poll` must be called now and then; it never blocks.
    """

    def __init__(
        self, name: str, command: Sequence[str], log: Path, clock: Clock, environ: Mapping[str, str] | None = None
    ) -> None:
        self.name, self.log = name, log
        self.state = State.NEW
        self.restarts = 0
        self.exit_code: int | None = None
        self._command = [sys.executable, "-m", "fluxforge.guarded", *command]
        self._clock = clock
        self._environ = dict(os.environ if environ is None else environ)
        self._process: subprocess.Popen[bytes] | None = None
        self._deaths = 0
        self._since = 0.0
        self._begins = 0

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process and self.state in (State.RUNNING, State.STOPPING) else None

    def start(self) -> None:
        """Start the program, in a session of its own: a Ctrl+C in the terminal reaches the supervisor alone."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            self._begins = output.tell()
            self._process = subprocess.Popen(  # noqa: S603
                self._command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environ,
                start_new_session=True,
            )
        self.state, self._since = State.RUNNING, self._clock.monotonic()

    def poll(self) -> None:
        """Notice a death, and restart when the wait is over."""
        if self.state is State.WAITING:
            if self._clock.monotonic() >= self._since:
                self.restarts += 1
                self.start()
        elif self.state in (State.RUNNING, State.STOPPING) and self._ended():
            if self.state is State.STOPPING:
                self.state = State.STOPPED
            elif self.exit_code == MISCONFIGURED:
                self.state = State.FAILED
            else:
                self._wait_to_restart()

    def terminate(self) -> None:
        """Ask the program to end; `poll` notices when it has."""
        if self.state is State.RUNNING and self._process and not self._ended():
            self._process.terminate()
            self.state = State.STOPPING
        elif self.state is not State.STOPPING:
            self.state = State.STOPPED if self.state is not State.FAILED else State.FAILED

    def kill(self) -> None:
        """End the program at once."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._ended()
        self.state = State.STOPPED

    @property
    def given_up(self) -> bool:
        """True once it failed for good, or died five times in a row without living 30 s."""
        return self.state is State.FAILED or self._deaths >= 5

    def failure(self, what: str) -> PipelineFailed:
        """An error that shows the end of its log."""
        tail = "\n".join(f"  | {line}" for line in self.tail(8))
        return PipelineFailed(f"{self.name} {what}\n{tail}", hint=f"its log is {self.log}")

    def lines_since_start(self) -> list[str]:
        """What it has printed since it was last started, at most the first 64 KiB."""
        return self._lines(self._begins)

    def tail(self, count: int) -> list[str]:
        """The last lines of its log that are not empty."""
        size = self.log.stat().st_size if self.log.exists() else 0
        return [line for line in self._lines(max(0, size - 65_536)) if line.strip()][-count:]

    def _lines(self, start: int) -> list[str]:
        if not self.log.exists():
            return []
        with self.log.open("rb") as file:
            file.seek(start)
            return file.read(65_536).decode(errors="replace").splitlines()

    def _ended(self) -> bool:
        assert self._process is not None
        code = self._process.poll()
        if code is None:
            return False
        self.exit_code = code
        if self._process.stdin:
            self._process.stdin.close()
        return True

    def _wait_to_restart(self) -> None:
        now = self._clock.monotonic()
        self._deaths = 1 if now - self._since >= STEADY else self._deaths + 1
        self.state = State.WAITING
        self._since = now + min(FIRST_WAIT * 2 ** (self._deaths - 1), LONGEST_WAIT)
