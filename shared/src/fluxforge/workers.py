"""`--workers N`: N processes of one service in one group, watched over by the process that was started.

Worker k is the same program under the member name `{member}-{k}`, which stays its own over restarts. One that dies is
started again after 0.2 s, 0.4 s … up to 10 s; one that finds its configuration wrong ends them all. When the
supervisor ends, however it ends, so do they.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Protocol

from fluxforge.errors import ConfigError, FluxForgeError

_log = logging.getLogger(__name__)

FIRST_WAIT, LONGEST_WAIT = 0.2, 10.0
STEADY = 30.0
"""A worker that lived this long (s) starts its backoff anew."""
STOP_SECONDS = 60.0
_MISCONFIGURED = 2


class Worker:
    """One process, started again when it dies."""

    def __init__(self, name: str, command: Sequence[str], environ: Mapping[str, str]) -> None:
        self.name = name
        self._command = [sys.executable, "-m", "fluxforge.guarded", *command]
        self._environ = {**os.environ, **environ}
        self._deaths = 0
        self._again_at: float | None = None
        self._start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def watch(self) -> None:
        """Notice a death, and start again when the wait is over. Raises ConfigError when that cannot help."""
        now = time.monotonic()
        if self._again_at is not None:
            if now >= self._again_at:
                self._start()
        elif (code := self._process.poll()) is not None:
            self._close_input()
            if code == _MISCONFIGURED:
                raise ConfigError(f"worker {self.name} refuses its configuration")
            self._deaths = 0 if now - self._since >= STEADY else self._deaths + 1
            wait = min(FIRST_WAIT * 2 ** max(self._deaths - 1, 0), LONGEST_WAIT)
            _log.warning("worker %s ended with code %d, starting it again in %.1f s", self.name, code, wait)
            self._again_at = now + wait

    def terminate(self) -> None:
        """Ask it to end, once: its input stays open, for a guard that sees it close asks a second time."""
        if self._process.poll() is None:
            self._process.terminate()

    def join(self, seconds: float) -> str:
        """Wait for its end, and kill it after `seconds`; says what was wrong with that end, if anything."""
        if self._again_at is not None:
            return ""  # its death has been told
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return "had to be killed"
        finally:
            self._close_input()
        # Until it serves, no handler stands: the signal itself ends it, and there is nothing to finish.
        return "" if code in (0, -signal.SIGTERM) else f"ended with code {code}"

    def _start(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603
            self._command, stdin=subprocess.PIPE, env=self._environ, start_new_session=True
        )
        self._since = time.monotonic()
        self._again_at = None
        _log.info("worker %s is process %d", self.name, self.pid)

    def _close_input(self) -> None:
        if self._process.stdin:
            self._process.stdin.close()


class Stopped(Protocol):
    """Set once, by a signal."""

    def wait(self, timeout: float | None = None) -> bool: ...


def supervise(workers: Sequence[Worker], stopped: Stopped) -> None:
    """Keep them alive until `stopped`; then end them in order. Raises FluxForgeError for one that did not."""
    try:
        while not stopped.wait(0.05):
            for worker in workers:
                worker.watch()
    finally:
        for worker in workers:
            worker.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        ends = [(worker.name, worker.join(max(0.1, deadline - time.monotonic()))) for worker in workers]
    failed = [f"worker {name} {end}" for name, end in ends if end]
    if failed:
        raise FluxForgeError("; ".join(failed))
