"""The pure part of the loop: records in, outputs out, one kernel call for all partitions."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from fluxforge import dead_letter, metrics
from fluxforge.batch import EventBatch
from fluxforge.errors import FluxForgeError
from fluxforge.kernels.arena import Arena
from fluxforge.log import Output, Record
from fluxforge.processor.decode import Decoded, Decoder, Run

_log = logging.getLogger(__name__)

CAREFUL_CALLS = 100
"""So many calls after a failure the state is copied before each."""


class Kernel(Protocol):
    """A compiled kernel with the state of its keys."""

    arena: Arena

    def run(self, batch: EventBatch) -> Any: ...


class Processor(Protocol):
    """What a service adds to the runtime: a kernel, and what its results become.

    role         names group and metrics
    state_topic  compacted topic of its snapshots
    dlq_topic    where a record goes that the kernel fails on
    config_hash  a snapshot of another one is never used
    warm_up_s    how far back a key without a usable snapshot is rebuilt from
    """

    role: str
    state_topic: str
    dlq_topic: str
    config_hash: str
    warm_up_s: float

    def kernel(self) -> Kernel: ...

    def outputs(self, result: Any, decoded: Decoded) -> Iterable[Output]:
        """The outputs of the fresh events, those of one topic and partition in the order of their events.

        Each names its partition: the raw record's. Must not depend on anything but its arguments.
        """


class Spoilt(Exception):
    """A kernel call failed half-way: the state is neither here nor there and must be restored from the log."""


class Done(NamedTuple):
    """What runs gave: the outputs, and the slots of the keys that changed."""

    outputs: list[Output]
    slots: NDArray[np.int64]


class Compute:
    """Kernel, state and outputs of one member. Free of any I/O.

    A kernel that fails leaves its state half changed. The first failure is therefore `Spoilt`, and restoring is the
    caller's; from then on, for a while, the state is copied before each call, and a run that fails is halved until
    the record is found that no call survives. That record is dead-lettered and leaves no trace in the state, wherever
    a run begins or ends: so the rows stay the same however often it is met.
    """

    def __init__(self, processor: Processor, raw_topic: str) -> None:
        self._processor, self._raw = processor, raw_topic
        self.kernel = processor.kernel()
        self._decoder = Decoder(lambda partition, key: self.arena.slot(name_of(partition, key)))
        self._careful = 0
        self.newest = 0
        """The newest event time so far, ns."""

    @property
    def arena(self) -> Arena:
        return self.kernel.arena

    def run(self, runs: Sequence[Run]) -> Done:
        """Process the runs. Raises Spoilt."""
        if self._careful:
            self._careful -= 1
            return self._carefully(runs)
        try:
            return self._once(runs)
        except (MemoryError, FluxForgeError):
            raise
        except Exception as error:
            self._careful = CAREFUL_CALLS
            raise Spoilt(f"{type(error).__name__}: {error}") from error

    def slots(self, partition: int) -> list[int]:
        """Of a partition's keys."""
        names = self.arena.keys()
        return [self.arena.slot(name) for name in names if parse_name(name)[0] == partition]

    def drop(self, partition: int) -> None:
        """Forget a partition's keys."""
        for slot in self.slots(partition):
            self.arena.drop(self.arena.key(slot))
        self._decoder.forget()

    def _once(self, runs: Sequence[Run]) -> Done:
        return self._finish(self._decoder.decode(runs))

    def _finish(self, decoded: Decoded) -> Done:
        result = self.kernel.run(decoded.batch)
        self.newest = max(self.newest, int(decoded.batch.events["ts"].max(initial=0)))
        return Done(list(self._processor.outputs(result, decoded)), np.unique(decoded.batch.events["slot"]))

    def _carefully(self, runs: Sequence[Run]) -> Done:
        # Decoded first: a new key's empty record harms nothing, and slots stay what they are.
        decoded = self._decoder.decode(runs)
        before = self.arena.copy()
        try:
            return self._finish(decoded)
        except (MemoryError, FluxForgeError):
            raise
        except Exception as error:
            self._careful = CAREFUL_CALLS
            self.kernel.arena = before
            records = [(run, record) for run in runs for record in run.records]
            if len(records) == 1:
                return Done(list(self._letter(*records[0], error)), np.zeros(0, np.int64))
        middle = len(records) // 2
        first, second = (self._carefully(_runs(half)) for half in (records[:middle], records[middle:]))
        return Done(first.outputs + second.outputs, np.union1d(first.slots, second.slots))

    def _letter(self, run: Run, record: Record, error: Exception) -> Iterator[Output]:
        role, reason = self._processor.role, f"{type(error).__name__}: {error}"
        if record.offset < run.committed:
            return
        _log.error("%s fails on %s[%d] offset %d: %s", role, self._raw, record.partition, record.offset, reason)
        metrics.DEAD.labels(role, "failed").inc()
        yield dead_letter.output(self._processor.dlq_topic, self._raw, record, f"{role}: {reason}")


def name_of(partition: int, key: str) -> str:
    """An arena's name of a key: one key in two partitions is two."""
    return f"{partition}:{key}"


def parse_name(name: str) -> tuple[int, str]:
    """Partition and key of an arena's name."""
    partition, _, key = name.partition(":")
    return int(partition), key


def _runs(records: Sequence[tuple[Run, Record]]) -> list[Run]:
    """Records, each with the run it is of, as runs again."""
    made: dict[int, tuple[Run, list[Record]]] = {}
    for run, record in records:
        made.setdefault(run.partition, (run, []))[1].append(record)
    return [Run(run.partition, of_run, run.committed) for run, of_run in made.values()]
