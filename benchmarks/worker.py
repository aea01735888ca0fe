"""A feature engine in a process of its own that does as it is told on standard input.

    python -m benchmarks.worker BOOTSTRAP PREFIX MEMBER PARTITIONS COMMIT_INTERVAL

It takes part in the group until it holds so many partitions and says {"ready": true}. Then each line is an order:

    hold   stop reading, so that a topic can be filled; {"held": true}
    drain  read to the end of its partitions as it is now, commit, and hold; {"cpu", "events", "started", "ended"}:
           CPU s of the whole process, and CLOCK_MONOTONIC s, which all processes of a machine share

The end of its input is the order to leave; {"commits": [[ended, s]…]} says how long each commit took.
"""

from __future__ import annotations

import json
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from benchmarks.history import REPOSITORY

from feature_engine.processor import FeatureProcessor
from fluxforge.kernels.config import FeatureConfig
from fluxforge.log import Consumer, Log, TopicPartition, Transactor, open_log
from fluxforge.processor import Runtime
from fluxforge.processor.service import compile_kernel
from fluxforge.service import spare_the_collector
from fluxforge.topics import Topics

READY_SECONDS = 90.0


class Worker:
    """The other end: a worker process as its parent sees it."""

    def __init__(self, bootstrap: str, prefix: str, member: str, partitions: int, commit_interval: float = 1.0) -> None:
        words = (bootstrap, prefix, member, str(partitions), str(commit_interval))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", *words],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def tell(self, order: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(order + "\n")
        self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """Its next line. Raises RuntimeError where it has died."""
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a worker ended with code {self._process.wait()}")
        said: dict[str, Any] = json.loads(line)
        return said

    def leave(self) -> dict[str, Any]:
        """Let it go; its last words."""
        assert self._process.stdin
        self._process.stdin.close()
        said = self.answer()
        self._process.wait(60)
        return said

    def end(self) -> None:
        """Whatever it does."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()


@contextmanager
def crew(
    bootstrap: str, prefix: str, partitions: int, count: int = 1, commit_interval: float = 1.0
) -> Iterator[list[Worker]]:
    """`count` workers that share the partitions evenly, all of them ready."""
    share = partitions // count
    workers = [Worker(bootstrap, prefix, f"w{k}", share, commit_interval) for k in range(count)]
    try:
        for worker in workers:
            worker.answer()
        yield workers
    finally:
        for worker in workers:
            worker.end()


def order(workers: Sequence[Worker], what: str) -> list[dict[str, Any]]:
    """Tell all of them at once; their answers."""
    for worker in workers:
        worker.tell(what)
    return [worker.answer() for worker in workers]


class _TimedLog:
    """A log whose transactors note when each commit ended, and how long it took, s."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.commits: list[tuple[float, float]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def transactor(self, transactional_id: str) -> Transactor:
        return _TimedTransactor(self._log.transactor(transactional_id), self.commits)


class _TimedTransactor:
    def __init__(self, transactor: Transactor, commits: list[tuple[float, float]]) -> None:
        self._transactor, self._commits = transactor, commits
        self.append = transactor.append

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transactor, name)

    def commit(self, offsets: Mapping[TopicPartition, int], consumer: Consumer) -> None:
        started = time.monotonic()
        self._transactor.commit(offsets, consumer)
        ended = time.monotonic()
        self._commits.append((ended, ended - started))


class _Drained(Runtime):
    """A runtime that can pause what it holds."""

    held: set[TopicPartition]

    def hold(self) -> None:
        self.held = self._consumer.assignment()
        self._consumer.pause(self.held)

    def drain(self, log: Log, events: int) -> tuple[float, float, float]:
        """Read so many events and commit them; CPU s, and when it began and ended."""
        cpu, started = time.process_time(), time.monotonic()
        self._consumer.resume(self.held)
        while events > 0:
            events -= self.turn(0.05)
        self.commit()
        spent, ended = time.process_time() - cpu, time.monotonic()
        self._consumer.pause(self.held)
        return spent, started, ended


def main(bootstrap: str, prefix: str, member: str, partitions: str, commit_interval: str) -> None:
    """See above."""
    log: Any = _TimedLog(open_log(f"kafka://{bootstrap}"))
    topics = Topics(prefix)
    processor = FeatureProcessor(FeatureConfig(), topics)
    compile_kernel(processor)
    spare_the_collector()
    runtime = _Drained(log, processor, topics.raw, prefix, member, commit_interval=float(commit_interval))
    ready, held, read = False, False, 0
    while True:
        if select.select([sys.stdin], [], [], 1.0 if held else 0.0)[0]:
            match sys.stdin.readline().strip():
                case "hold":
                    runtime.hold()
                    held = True
                    _say(held=True)
                case "drain":
                    events = sum(log.bounds(tp).next for tp in runtime.held) - read
                    cpu, started, ended = runtime.drain(log, events)
                    read += events
                    _say(cpu=cpu, events=events, started=started, ended=ended)
                case _:
                    break
        elif not held:
            read += runtime.turn(min(0.05, float(commit_interval) / 2))
            if not ready and len(runtime._consumer.assignment()) == int(partitions):
                ready = True
                _say(ready=True)
    runtime.close()
    _say(commits=log.commits)


def _say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
