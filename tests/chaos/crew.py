"""Worker processes of one group that are killed, stopped, joined and sent away."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from chaos.recorder import At, Recorder, Word

KINDS = {"kill": 5, "kill for good": 2, "freeze": 4, "freeze past the session": 1, "join": 5, "leave": 5}
"""Faults and how often each is drawn."""
AIMS = {None: 3, At.COMMIT: 2, At.SNAPSHOT: 1, At.RESTORE: 1, At.CATCH_UP: 1, At.HAND_OVER: 1}
"""What a worker is at when it is killed or frozen, None for whatever it may be, and how often each is drawn."""
MOVING = At.RESTORE | At.CATCH_UP | At.HAND_OVER
"""There is such a moment only when partitions move."""
SESSION = 6.0
"""s."""
AIM_SECONDS = 12.0


class Fault(NamedTuple):
    """What was done.

    met     what the worker was at
    frozen  s
    moved   whether another worker was started or sent away for it
    """

    kind: str
    met: At = At(0)
    frozen: float = 0.0
    moved: bool = False


class Member(NamedTuple):
    process: subprocess.Popen[bytes]
    recorder: Recorder


class Crew:
    """Up to `most` processes of a service; at least one is always meant to live."""

    def __init__(self, module: str, environ: Mapping[str, str], folder: Path, most: int = 3) -> None:
        self._module, self._environ, self._folder, self._most = module, dict(environ), folder, most
        self._alive: dict[str, Member] = {}
        self._leaving: list[subprocess.Popen[bytes]] = []
        self._recorders: list[Recorder] = []
        self.ended: list[int] = []
        """Exit codes of workers that ended by themselves."""

    def start(self, name: str | None = None) -> None:
        """A worker under a name, or under the first free one."""
        name = name or next(n for n in map(str, range(1, 99)) if n not in self._alive)
        path = self._folder / f"{self._module}-{len(self._recorders)}.recorder"
        environ = {
            **os.environ,
            **self._environ,
            "FLUXFORGE_PROCESSOR__MEMBER": name,
            "RECORDER": str(path),
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]),
            "PYTHONFAULTHANDLER": "1",
        }
        recorder = Recorder(path)
        with (self._folder / f"{self._module}-{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "fluxforge.guarded", "chaos.worker", self._module, "--metrics-port", "off"],
                env=environ, stdin=subprocess.PIPE, stdout=log, stderr=log,
            )  # fmt: skip
        self._alive[name] = Member(process, recorder)
        self._recorders.append(recorder)

    def inflict(self, kind: str, aim: At | None, rng: random.Random) -> Fault:
        """One fault; returns what it came to (a join where all are there is a leave, and the other way round)."""
        if kind == "join" and len(self._alive) >= self._most:
            kind = "leave"
        if kind in ("leave", "kill for good") and len(self._alive) < 2:
            kind = "join"
        if kind == "join":
            self.start()
            return Fault(kind)
        if kind == "leave":
            self._send_away(rng)
            return Fault(kind)
        moved = aim is not None and bool(aim & MOVING)
        if moved:
            self._move(rng)
        name = self._find(aim, rng)
        alone = len(self._alive) == 1
        if kind.startswith("freeze"):
            member, seconds = self._alive[name], rng.uniform(0.1, 2.5)
            if kind == "freeze past the session":
                seconds = SESSION + rng.uniform(1.0, 6.0)
            member.process.send_signal(signal.SIGSTOP)
            time.sleep(seconds)
            met = member.recorder.at
            member.process.send_signal(signal.SIGCONT)
            return Fault(kind, met, seconds, moved)
        member = self._alive.pop(name)
        member.process.kill()
        member.process.wait()
        self._close(member.process)
        if kind == "kill" or alone:
            self.start(name)
        return Fault(kind, member.recorder.at, 0.0, moved)

    def whole(self, partitions: int) -> bool:
        """Whether every worker holds partitions and all are held; starts again what ended by itself."""
        for name in [name for name, member in self._alive.items() if member.process.poll() is not None]:
            process = self._alive.pop(name).process
            self.ended.append(process.returncode)
            self._close(process)
            self.start(name)
        held = [member.recorder[Word.HELD] for member in self._alive.values()]
        return all(held) and sum(held) == partitions

    def counts(self) -> dict[str, int]:
        """How often each happened to any worker so far."""
        counts: Counter[str] = Counter()
        for recorder in self._recorders:
            counts.update({word.name.lower(): recorder[word] for word in Word if word >= Word.TAKEN})
        return dict(counts)

    def end(self) -> list[int]:
        """Ask all to leave; the exit codes of all that were asked to."""
        for member in self._alive.values():
            member.process.terminate()
        codes = []
        for process in [*(member.process for member in self._alive.values()), *self._leaving]:
            try:
                codes.append(process.wait(30))
            finally:
                self._close(process)
        self._alive.clear()
        self._leaving.clear()
        return codes

    def _move(self, rng: random.Random) -> None:
        """Make partitions move: one more worker, or one less."""
        if len(self._alive) < self._most:
            self.start()
        else:
            self._send_away(rng)

    def _send_away(self, rng: random.Random) -> None:
        member = self._alive.pop(rng.choice(sorted(self._alive)))
        member.process.terminate()
        self._leaving.append(member.process)

    def _find(self, aim: At | None, rng: random.Random) -> str:
        """A worker that is at `aim` now; any, where that comes about for none."""
        deadline = time.monotonic() + (AIM_SECONDS if aim else 0.0)
        while time.monotonic() < deadline:
            for name, member in self._alive.items():
                if aim and member.recorder.at & aim:
                    time.sleep(rng.choice((0.0, 0.001, 0.01)))  # not always at its very beginning
                    return name
            time.sleep(0.0002)
        return rng.choice(sorted(self._alive))

    @staticmethod
    def _close(process: subprocess.Popen[bytes]) -> None:
        if process.poll() is None:
            process.kill()
            process.wait()
        assert process.stdin is not None
        process.stdin.close()
