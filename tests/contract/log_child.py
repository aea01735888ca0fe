"""A process that works on a log and can be killed at any point; started by the contract tests.

append URL TOPIC FROM TO        append the numbers, flush, say "flushed", then append without a flush until killed
step URL IN OUT GROUP STEP      one transaction that stops at STEP, says "there" and waits to be killed
statements URL IN OUT GROUP     commits killed at each of their SQL statements in turn; says "n outputs offset"
copy URL IN OUT GROUP MEMBER    copy IN to OUT exactly once until SIGTERM
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from typing import Any

from fluxforge.errors import Fenced, LogUnavailable
from fluxforge.log import Consumer, Log, Output, TopicPartition, Transactor, open_log


def say(line: str) -> None:
    print(line, flush=True)


def there() -> None:
    say("there")
    while True:
        time.sleep(60)


def append(log: Log, topic: str, start: str, end: str) -> None:
    appender = log.appender()
    for number in range(int(start), int(end)):
        appender.append(Output(topic, f"k{number % 7}".encode(), str(number).encode()))
    appender.flush()
    say("flushed")
    number = int(end)
    while True:
        appender.append(Output(topic, f"k{number % 7}".encode(), str(number).encode()))
        number += 1
        if number % 1000 == 0:
            time.sleep(0.02)


class Copier:
    """Copies one topic to another with transactions; what is not committed is done again."""

    def __init__(self, log: Log, source: str, target: str, group: str, member: str) -> None:
        self.log, self.source, self.target, self.group, self.member = log, source, target, group, member
        self.transactor: Transactor | None = None
        self.consumer: Consumer = log.consumer(group, [source], member, self)

    def assigned(self, tps: Sequence[TopicPartition]) -> None:
        if self.transactor is None:
            self.transactor = self.log.transactor(f"{self.group}-{self.member}")
        self.rewind(tps)
        say("assigned")

    def rewind(self, tps: Sequence[TopicPartition]) -> None:
        stands = self.log.group_offsets(self.group, self.source)
        for tp in tps:
            self.consumer.seek(tp, stands.get(tp.partition, 0))

    def revoked(self, tps: Sequence[TopicPartition]) -> None:
        say("revoked")

    def lost(self, tps: Sequence[TopicPartition]) -> None:
        say("lost")

    def step(self) -> None:
        batches = self.consumer.poll(50, 0.05)
        if not batches or self.transactor is None:
            return
        for batch in batches:
            for record in batch.records:
                self.transactor.append(
                    Output(self.target, record.key, record.value, record.headers, record.timestamp, record.partition)
                )
        try:
            self.transactor.commit({batch.tp: batch.next_offset for batch in batches}, self.consumer)
            say("committed")
        except (Fenced, LogUnavailable) as error:
            say(f"started over: {error}")
            self.transactor.close()
            self.transactor = self.log.transactor(f"{self.group}-{self.member}")
            self.rewind(sorted(self.consumer.assignment()))


def copy(log: Log, source: str, target: str, group: str, member: str) -> None:
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: stopping.append(number))
    copier = Copier(log, source, target, group, member)
    while not stopping:
        copier.step()
    copier.consumer.close()
    if copier.transactor is not None:
        copier.transactor.close()
    say("left")


def step(log: Log, source: str, target: str, group: str, at: str) -> None:
    copier = Copier(log, source, target, group, "stepper")
    while copier.transactor is None:
        copier.consumer.poll(1, 0.05)
    transactor, tp = copier.transactor, TopicPartition(source, 0)
    if at == "joined":
        there()
    transactor.append(Output(target, b"k", b"first", partition=0))
    if at == "begun":
        there()
    for number in range(100):
        transactor.append(Output(target, b"k", str(number).encode(), partition=0))
    if at == "appended":
        time.sleep(0.2)  # time for the records to reach the log
        there()
    if at == "aborted":
        transactor.abort()
        there()
    transactor.commit({tp: 5}, copier.consumer)
    there()


def statements(url: str, source: str, target: str, group: str) -> None:
    """Commits one record in a process of its own, killed at its n-th SQL statement, for n = 0, 1, 2… until it lives."""
    for statement in range(1000):
        child = os.fork()
        if child == 0:
            _commit_and_die(open_log(url), source, target, group, statement)
        _, status = os.waitpid(child, 0)
        log = open_log(url)
        copied = log.bounds(TopicPartition(target, 0)).next
        say(f"{statement} {copied} {log.group_offsets(group, source).get(0, 0)}")
        log.close()
        if os.WIFEXITED(status):
            return


def _commit_and_die(log: Log, source: str, target: str, group: str, statement: int) -> None:
    copier = Copier(log, source, target, group, "stepper")
    while copier.transactor is None:
        copier.consumer.poll(1, 0.05)
    transactor: Any = copier.transactor
    at = log.group_offsets(group, source).get(0, 0)
    transactor.append(Output(target, b"k", str(at).encode(), partition=0))
    left = [statement]

    def count(_: str) -> None:
        left[0] -= 1
        if left[0] < 0:
            signal.raise_signal(signal.SIGKILL)

    transactor._store.db.set_trace_callback(count)
    transactor.commit({TopicPartition(source, 0): at + 1}, copier.consumer)
    os._exit(0)


if __name__ == "__main__":
    command, url, *rest = sys.argv[1:]
    if command == "statements":
        statements(url, *rest)
    else:
        {"append": append, "copy": copy, "step": step}[command](open_log(url), *rest)
