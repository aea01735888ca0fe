"""Driving a log from tests: listeners, reading to the end, child processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from fluxforge.log import Batch, Consumer, Log, Record, TopicPartition

CHILD = Path(__file__).with_name("log_child.py")


class Follower:
    """A listener that goes on where the group stands, and notes what it hears."""

    def __init__(self, log: Log, group: str) -> None:
        self._log, self._group = log, group
        self.consumer: Consumer | None = None
        self.heard: list[tuple[str, tuple[TopicPartition, ...]]] = []

    def assigned(self, tps: Sequence[TopicPartition]) -> None:
        assert self.consumer is not None
        self.heard.append(("assigned", tuple(tps)))
        for tp in tps:
            committed = self._log.group_offsets(self._group, tp.topic).get(tp.partition)
            self.consumer.seek(tp, self._log.bounds(tp).first if committed is None else committed)

    def revoked(self, tps: Sequence[TopicPartition]) -> None:
        self.heard.append(("revoked", tuple(tps)))

    def lost(self, tps: Sequence[TopicPartition]) -> None:
        self.heard.append(("lost", tuple(tps)))


def join(log: Log, group: str, topic: str, member: str, *, static: bool = True) -> tuple[Consumer, Follower]:
    """A consumer of `topic` that follows the group's offsets."""
    follower = Follower(log, group)
    follower.consumer = log.consumer(group, [topic], member, follower, static=static)
    return follower.consumer, follower


def until(what: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait for another process or a broker."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.01)


def poll_until(consumer: Consumer, enough: Callable[[list[Batch]], bool], seconds: float = 30.0) -> list[Batch]:
    """Poll until `enough` of all batches so far."""
    batches: list[Batch] = []
    deadline = time.monotonic() + seconds
    while not enough(batches):
        assert time.monotonic() < deadline, f"not within {seconds} s: {len(batches)} batches"
        batches += consumer.poll(1000, 0.1)
    return batches


def read_all(log: Log, tp: TopicPartition, seconds: float = 30.0) -> list[Record]:
    """Every record of the partition, checked to come in order."""
    first, end = log.bounds(tp)
    reader = log.reader(tp, first)
    records: list[Record] = []
    at, deadline = first, time.monotonic() + seconds
    while at < end:
        assert time.monotonic() < deadline, f"{tp} stuck at {at} of {end}"
        batch = reader.read(700, 0.5)
        assert batch.tp == tp
        assert batch.next_offset >= at
        for record in batch.records:
            assert record.offset >= at
            assert record.partition == tp.partition
            at = record.offset + 1
        records += batch.records
        assert batch.next_offset >= at
        at = batch.next_offset
    reader.close()
    return records


def read_topic(log: Log, topic: str) -> dict[int, list[Record]]:
    """Every record of the topic by partition."""
    return {number: read_all(log, TopicPartition(topic, number)) for number in range(log.partitions(topic))}


class Child:
    """A process that works on the log; `tests/contract/log_child.py` says what it can do."""

    def __init__(self, *args: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(CHILD), *args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )

    def expect(self, line: str) -> None:
        """Read its lines up to `line`."""
        assert self.process.stdout is not None
        for got in self.process.stdout:
            if got.strip() == line:
                return
        raise AssertionError(f"the child ended with {self.process.wait()} before it said {line!r}")

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """kill -9, and gone."""
        self.process.kill()
        self.wait()

    def wait(self) -> int:
        code = self.process.wait(60)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        return code

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.wait()
