"""Log records to a kernel's batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fluxforge import codec
from fluxforge.batch import EventBatch, build
from fluxforge.errors import CodecError
from fluxforge.events import AnyEvent
from fluxforge.log import Record


class Run(NamedTuple):
    """Records of one partition in log order; what comes of those below `committed` is visible already."""

    partition: int
    records: Sequence[Record]
    committed: int


class Decoded(NamedTuple):
    """Runs of any number of partitions, decoded together.

    records     the good records; `batch.events` and everything below runs alongside
    events      the decoded structs
    batch       the same as arrays
    partitions  int32, of the raw topic
    fresh       bool, false where the outputs are visible already: they are not made again
    bad         fresh records that are no event of ours, each with the reason
    """

    records: Sequence[Record]
    events: Sequence[AnyEvent]
    batch: EventBatch
    partitions: NDArray[np.int32]
    fresh: NDArray[np.bool_]
    bad: Sequence[tuple[Record, str]]


class Decoder:
    """Decodes runs; remembers which key of which partition has which slot."""

    def __init__(self, slot: Callable[[int, str], int]) -> None:
        self._slot = slot
        self._slots: dict[tuple[int, str, str], int] = {}

    def forget(self) -> None:
        """The slots are others now."""
        self._slots.clear()

    def decode(self, runs: Sequence[Run]) -> Decoded:
        """Records that do not decode are set aside, the others keep their order."""
        good: list[Record] = []
        events: list[AnyEvent] = []
        slots: list[int] = []
        bad: list[tuple[Record, str]] = []
        for partition, records, committed in runs:
            for record in records:
                try:
                    event = codec.decode(record.value)
                except CodecError as error:
                    if record.offset >= committed:
                        bad.append((record, str(error)))
                    continue
                name = (partition, event.exchange, event.symbol)
                slot = self._slots.get(name)
                if slot is None:
                    slot = self._slots[name] = self._slot(partition, event.key)
                good.append(record)
                events.append(event)
                slots.append(slot)
        batch = build(events, slots, [record.offset for record in good])
        partitions = np.array([record.partition for record in good], np.int32)
        committed_at = np.zeros(max((run.partition for run in runs), default=0) + 1, np.int64)
        for run in runs:
            committed_at[run.partition] = run.committed
        fresh = batch.events["offset"] >= committed_at[partitions]
        return Decoded(good, events, batch, partitions, fresh, bad)
