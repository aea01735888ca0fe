"""Worker processes that are killed, stopped, joined and sent away, and what their group's offsets say meanwhile."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from fluxforge.errors import LogUnavailable
from fluxforge.log import Log, TopicPartition

FAULTS = ("kill", "kill for good", "freeze", "freeze past the session", "join", "leave")
WEIGHTS = (5, 2, 4, 1, 5, 5)
SESSION = 6.0


class Fault(NamedTuple):
    """What was done, and the s until every partition had commits of later work."""

    kind: str
    seconds: float


class Crew:
    """Up to `most` processes of a service in one group; at least one is always meant to live."""

    def __init__(self, module: str, environ: Mapping[str, str], folder: Path, most: int = 3) -> None:
        self._module, self._environ, self._folder, self._most = module, dict(environ), folder, most
        self._alive: dict[str, subprocess.Popen[bytes]] = {}
        self._leaving: list[subprocess.Popen[bytes]] = []

    def __len__(self) -> int:
        return len(self._alive)

    def start(self, name: str | None = None) -> str:
        """A worker under a name, or under the first free one."""
        name = name or next(n for n in map(str, range(1, 99)) if n not in self._alive)
        environ = {**os.environ, **self._environ, "FLUXFORGE_PROCESSOR__MEMBER": name}
        with (self._folder / f"{self._module}-{name}.log").open("ab") as log:
            self._alive[name] = subprocess.Popen(
                [sys.executable, "-m", "fluxforge.guarded", self._module, "--metrics-port", "off"],
                env=environ, stdin=subprocess.PIPE, stdout=log, stderr=log,
            )  # fmt: skip
        return name

    def inflict(self, kind: str, rng: random.Random) -> str:
        """One fault; returns what it came to (a join where all are there is a leave, and the other way round)."""
        if kind == "join" and len(self._alive) >= self._most:
            kind = "leave"
        if kind in ("leave", "kill for good") and len(self._alive) < 2:
            kind = "join"
        if kind == "join":
            self.start()
            return kind
        name = rng.choice(sorted(self._alive))
        process = self._alive[name]
        if kind == "leave":
            process.terminate()
            self._leaving.append(self._alive.pop(name))
        elif kind.startswith("kill"):
            process.kill()
            process.wait()
            self._close(self._alive.pop(name))
            if kind == "kill":
                self.start(name)
        else:
            process.send_signal(signal.SIGSTOP)
            time.sleep(rng.uniform(0.1, 2.5) if kind == "freeze" else SESSION + rng.uniform(1.0, 6.0))
            process.send_signal(signal.SIGCONT)
        return kind

    def revive(self) -> int:
        """Start again what ended by itself; how many that were. A supervisor does this in real life."""
        ended = [name for name, process in self._alive.items() if process.poll() is not None]
        for name in ended:
            self._close(self._alive.pop(name))
            self.start(name)
        return len(ended)

    def end(self) -> list[int]:
        """Ask all to leave; the exit codes of all that were asked to."""
        for process in self._alive.values():
            process.terminate()
        codes = []
        for process in [*self._alive.values(), *self._leaving]:
            try:
                codes.append(process.wait(30))
            finally:
                self._close(process)
        self._alive.clear()
        self._leaving.clear()
        return codes

    @staticmethod
    def _close(process: subprocess.Popen[bytes]) -> None:
        if process.poll() is None:
            process.kill()
            process.wait()
        assert process.stdin is not None
        process.stdin.close()


class Feed:
    """Appends records at a steady rate from a thread, so that faults meet running work."""

    def __init__(self, append: Callable[[int], bool], rate: float) -> None:
        self._append, self._rate = append, rate
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.error: BaseException | None = None
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        if self.error:
            raise self.error

    def _run(self) -> None:
        done, start = 0, time.monotonic()
        try:
            while not self._stop.wait(0.02):
                due = int((time.monotonic() - start) * self._rate)
                if due > done:
                    assert self._append(due - done), "the market is shorter than the faults take"
                    done = due
        except BaseException as error:
            self.error = error


class Lookout:
    """Waits for a group to have done all that was there at some moment, and measures how long."""

    def __init__(self, log: Log, group: str, topic: str) -> None:
        self._log, self._group, self._topic = log, group, topic
        self._partitions = range(log.partitions(topic))

    def ends(self) -> dict[int, int]:
        return {p: self._log.bounds(TopicPartition(self._topic, p)).next for p in self._partitions}

    def committed(self) -> dict[int, int]:
        """Empty where the broker has no answer: a frozen worker's open transaction keeps it back."""
        try:
            return self._log.group_offsets(self._group, self._topic)
        except LogUnavailable:
            return {}

    def await_past(self, ends: Mapping[int, int], seconds: float, meanwhile: Callable[[], object]) -> float:
        """Until every partition is committed up to `ends`; returns s."""
        start = time.monotonic()
        while True:
            done = self.committed()
            if all(done.get(p, 0) >= end for p, end in ends.items()):
                return time.monotonic() - start
            assert time.monotonic() - start < seconds, f"after {seconds} s: {done} of {dict(ends)}"
            meanwhile()
            time.sleep(0.05)
