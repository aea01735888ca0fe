"""How long partitions stand still, as the group's offsets and the readers of its output see it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import confluent_kafka as ck
from confluent_kafka import IsolationLevel
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec

from fluxforge.log import Log, TopicPartition, open_log
from fluxforge.log.kafka.client import library_log

SAMPLE_SECONDS = 0.05
ANSWER_SECONDS = 2.0


class Insight:
    """What a log knows at once, open transactions or not."""

    def __init__(self, url: str, group: str) -> None:
        self._log, self._group = open_log(url), group
        self._admin: AdminClient | None = None
        if url.startswith("kafka://"):
            broker = {"bootstrap.servers": url.removeprefix("kafka://")}
            self._admin = AdminClient(broker, logger=library_log())
            outsider = {**broker, "group.id": group, "isolation.level": "read_uncommitted"}
            self._outsider = ck.Consumer(outsider, logger=library_log())

    def committed(self, topic: str) -> dict[int, int]:
        """The group's offsets, none without an answer; `Log.group_offsets` would wait for what a dead worker left."""
        if self._admin is None:
            return self._log.group_offsets(self._group, topic)
        tps = [ck.TopicPartition(topic, partition) for partition in range(self._log.partitions(topic))]
        try:
            found = self._outsider.committed(tps, timeout=ANSWER_SECONDS)
        except ck.KafkaException:
            return {}
        return {tp.partition: tp.offset for tp in found if tp.offset >= 0}

    def ends(self, topic: str) -> dict[int, int]:
        """Where a read_committed reader ends."""
        return {p: self._log.bounds(TopicPartition(topic, p)).next for p in range(self._log.partitions(topic))}

    def settled(self, topics: Iterable[str]) -> bool:
        """Whether no open transaction holds readers up."""
        if self._admin is None:
            return True
        for topic in topics:
            asked = {ck.TopicPartition(topic, p): OffsetSpec.latest() for p in range(self._log.partitions(topic))}
            found = self._admin.list_offsets(asked, isolation_level=IsolationLevel.READ_UNCOMMITTED)
            if {tp.partition: future.result(10).offset for tp, future in found.items()} != self.ends(topic):
                return False
        return True

    def close(self) -> None:
        self._log.close()


class Stalls(NamedTuple):
    """The longest time without progress of any partition (s): of what is committed, where, and of what can be read."""

    committed: float
    partition: int
    read: float


class Gauge:
    """Watches a group's offsets and follows its output while a feed runs."""

    def __init__(self, url: str, group: str, raw: str, output: str) -> None:
        self._insight, self._raw = Insight(url, group), raw
        self._log: Log = open_log(url)
        self._readers = [self._log.reader(TopicPartition(output, p), 0) for p in range(self._log.partitions(output))]
        self._lock = threading.Lock()
        self._lines: dict[tuple[str, int], _Line] = {}
        self._committed: dict[int, int] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.error: BaseException | None = None
        self._thread.start()

    def begin(self) -> None:
        """Forget the stalls so far."""
        with self._lock:
            for line in self._lines.values():
                line.worst = 0.0

    def stalls(self) -> Stalls:
        """Since `begin`, with what stands still now."""
        with self._lock:
            now = time.monotonic()
            stalls = [(max(line.worst, now - line.since), *name) for name, line in self._lines.items()]
        committed = max((seconds, partition) for seconds, kind, partition in stalls if kind == "committed")
        return Stalls(*committed, max(seconds for seconds, kind, _ in stalls if kind == "read"))

    def ends(self) -> dict[int, int]:
        """The input's."""
        return self._insight.ends(self._raw)

    def await_past(self, ends: Mapping[int, int], whole: Callable[[], bool], seconds: float = 60.0) -> None:
        """Until every partition is committed up to `ends` and the group is whole."""
        deadline = time.monotonic() + seconds
        while True:
            if self.error:
                raise self.error
            ready = whole()
            if ready and all(self._committed.get(p, 0) >= end for p, end in ends.items()):
                return
            assert time.monotonic() < deadline, f"after {seconds} s: {self._committed} of {ends}, whole: {ready}"
            time.sleep(SAMPLE_SECONDS)

    def reading(self) -> bool:
        """Whether readers have had something of every partition."""
        with self._lock:
            return sum(kind == "read" and line.moved for (kind, _), line in self._lines.items()) == len(self._readers)

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        for reader in self._readers:
            reader.close()
        self._insight.close()
        self._log.close()

    def _run(self) -> None:
        try:
            while not self._stop.wait(SAMPLE_SECONDS):
                committed = self._insight.committed(self._raw)
                self._moved("committed", committed)
                self._committed = {**self._committed, **committed}
                self._moved("read", {p: reader.read(2000).next_offset for p, reader in enumerate(self._readers)})
        except BaseException as error:
            self.error = error

    def _moved(self, kind: str, positions: Mapping[int, int]) -> None:
        now = time.monotonic()
        with self._lock:
            for partition, position in positions.items():
                line = self._lines.setdefault((kind, partition), _Line(position, now))
                if position > line.position:
                    line.worst = max(line.worst, now - line.since)
                    line.position, line.since, line.moved = position, now, True


class _Line:
    """One partition's way: where it is, since when, the longest stop (s), and whether it has moved at all."""

    def __init__(self, position: int, since: float) -> None:
        self.position, self.since, self.worst, self.moved = position, since, 0.0, False


class Feed:
    """Appends records at a steady rate (1/s) from a thread, so that faults meet running work."""

    def __init__(self, append: Callable[[int], bool], rate: float) -> None:
        self._append, self._rate = append, rate
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._error: BaseException | None = None
        self._thread.start()

    def stop(self) -> None:
        """Raises what the thread died of."""
        self._stop.set()
        self._thread.join()
        if self._error:
            raise self._error

    def _run(self) -> None:
        done, start = 0, time.monotonic()
        try:
            while not self._stop.wait(0.02):
                due = int((time.monotonic() - start) * self._rate)
                if due > done:
                    assert self._append(due - done), "the market is shorter than the faults take"
                    done = due
        except BaseException as error:
            self._error = error
