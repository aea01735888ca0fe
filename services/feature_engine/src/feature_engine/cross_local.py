"""The role cross on the embedded log: one process reads every partition of feature rows.

    market.features ─ kernel ─▶ market.features.cross
                                market.features.cross.state: what changed of the memory, and how far was read

All of it is one transaction, so that a process killed anywhere goes on where its last one ended; a second process shuts
out the first. There is no broker to lose sight of, and reading is cheap: nothing need go through one partition first.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from feature_engine.cross_step import ROLE, Step, columns, headers, key_of
from fluxforge import condition, metrics, rows
from fluxforge.clock import SystemClock
from fluxforge.errors import CodecError, OffsetOutOfRange
from fluxforge.lag import Lag
from fluxforge.log import Batch, Log, Output, TopicPartition, records_between
from fluxforge.service import Stop, open_log
from fluxforge.settings import Settings
from fluxforge.topics import TopicSpec

BATCH = 500
IDLE_S = 0.25
"""Nobody looks for new rows less often."""
READ = "read"
"""Key of the next offset of each partition."""


_log = logging.getLogger(__name__)


class Kept:
    """The state store: everything in memory, and which of it a commit must write."""

    def __init__(self, values: dict[str, bytes]) -> None:
        self._values = values
        self._changed: set[str] = set()

    def get_bytes(self, key: str) -> bytes | None:
        return self._values.get(key)

    def set_bytes(self, key: str, value: bytes) -> None:
        self._values[key] = value
        self._changed.add(key)

    def take_changed(self) -> dict[str, bytes]:
        """What was set since the last time."""
        found = {key: self._values[key] for key in sorted(self._changed)}
        self._changed.clear()
        return found


class CrossLoop:
    """One run of the role. Raises OffsetOutOfRange where unread rows have left the log."""

    def __init__(self, settings: Settings, log: Log) -> None:
        names, config = settings.topic_names(), settings.cross.config()
        self._log, self._names, self._columns = log, names, columns(settings)
        self._tps = [TopicPartition(names.features, number) for number in range(log.partitions(names.features))]
        self._owned = [tp.partition for tp in self._tps]
        self._commit_interval = settings.cross.commit_interval
        log.create([TopicSpec(names.cross_state, 1, compact=True)])
        self._transactor = log.transactor(f"{settings.broker.prefix}.{ROLE}")  # first: it ends what another left open
        self._prefix = f"{log.topic_id(names.features)}:"
        values = self._restored()
        self._at = self._positions(values.get(READ))
        self._state = Kept(values)
        self._readers = {tp: log.reader(tp, self._at[tp]) for tp in self._tps}
        self._step = Step(config, len(self._tps), names.features_cross)
        self._headers = headers(config)
        self._lag = Lag(ROLE, log, SystemClock())
        for tp, at in self._at.items():
            self._lag.at(tp, at)
        told = ", ".join(f"[{tp.partition}] from {at}" for tp, at in self._at.items())
        _log.info("%s: %s", names.features, told)
        self._dead = metrics.DEAD.labels(ROLE, "undecodable")
        self._consumed = metrics.CONSUMED.labels(ROLE, names.features)

    def run(self, stop: Stop) -> None:
        """Until `stop` is set; what was read is committed then. Raises Fenced where another has taken over."""
        due = time.monotonic() + self._commit_interval
        while not stop.is_set():
            if not self.turn():
                stop.wait(min(self._commit_interval / 4, IDLE_S))
            if time.monotonic() >= due:
                self.commit()
                due = time.monotonic() + self._commit_interval
            self._lag.look(self._at)
            condition.PROCESS.turned("")
        self.commit()

    def turn(self) -> int:
        """Read what is there of each partition, up to a batch; how many records those were."""
        ends = self._log.ends(self._tps)
        found = 0
        for tp in self._tps:
            if self._at[tp] < ends[tp]:
                unread = [each.partition for each in self._tps if self._at[each] < ends[each]]
                batch = self._readers[tp].read(BATCH)
                self._take(batch, unread)
                found += len(batch.records)
        return found

    def commit(self) -> None:
        """Rows, memory and positions become visible together."""
        for key, value in self._state.take_changed().items():
            self._transactor.append(Output(self._names.cross_state, (self._prefix + key).encode(), value, partition=0))
        self._transactor.commit()

    def close(self) -> None:
        for reader in self._readers.values():
            reader.close()
        self._transactor.close()

    def _take(self, batch: Batch, unread: list[int]) -> None:
        for record in batch.records:
            if (row := self._decoded(record.value, batch)) is None:
                continue
            for made in self._step({**row, "reading": (self._owned, unread)}, self._state):
                key = key_of(made).encode()
                self._transactor.append(Output(self._names.features_cross, key, rows.encode(made), self._headers))
        if batch.next_offset != self._at[batch.tp]:
            self._at[batch.tp] = batch.next_offset
            self._state.set_bytes(READ, msgspec.msgpack.encode({tp.partition: at for tp, at in self._at.items()}))
        self._consumed.inc(len(batch.records))
        self._lag.read(batch)

    def _decoded(self, value: bytes, batch: Batch) -> Mapping[str, Any] | None:
        try:
            return rows.decode_columns(value, self._columns)
        except CodecError as error:
            self._dead.inc()
            _log.warning("%s: %s", batch.tp.topic, error)
            return None

    def _restored(self) -> dict[str, bytes]:
        """What a run before this one knew, of the same feature topic."""
        tp, prefix = TopicPartition(self._names.cross_state, 0), self._prefix.encode()
        return {
            record.key.removeprefix(prefix).decode(): record.value
            for record in records_between(self._log, tp, *self._log.bounds(tp))
            if record.key is not None and record.key.startswith(prefix)
        }

    def _positions(self, told: bytes | None) -> dict[TopicPartition, int]:
        bounds = {tp: self._log.bounds(tp) for tp in self._tps}
        if told is None:
            return {tp: first for tp, (first, _) in bounds.items()}
        read = msgspec.msgpack.decode(told, type=dict[int, int])
        for tp, (first, end) in bounds.items():
            if read[tp.partition] < first:
                raise OffsetOutOfRange(*tp, read[tp.partition], first, end)
        return {tp: read[tp.partition] for tp in self._tps}


def serve(settings: Settings, stop: Stop) -> None:
    """Rows across markets until stopped."""
    log = open_log(settings)
    try:
        log.create(settings.topic_specs())
        loop = CrossLoop(settings, log)
        try:
            loop.run(stop)
        finally:
            loop.close()
    finally:
        log.close()
