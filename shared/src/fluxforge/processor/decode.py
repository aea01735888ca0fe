"""Log records to a kernel's batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from fluxforge import codec
from fluxforge.batch import EventBatch, build
from fluxforge.errors import CodecError
from fluxforge.events import AnyEvent
from fluxforge.log import Record


class Decoded(NamedTuple):
    """One run of records of a partition, decoded.

    partition  of the raw topic
    records    the good records; `batch.events` and `events` run alongside
    events     the decoded structs
    batch      the same as arrays
    bad        records that are no event of ours, each with the reason
    """

    partition: int
    records: Sequence[Record]
    events: Sequence[AnyEvent]
    batch: EventBatch
    bad: Sequence[tuple[Record, str]]


class Decoder:
    """Decodes one partition's records; remembers which key has which slot."""

    def __init__(self, partition: int, slot: Callable[[str], int]) -> None:
        self._partition = partition
        self._slot = slot
        self._slots: dict[tuple[str, str], int] = {}

    def decode(self, records: Sequence[Record]) -> Decoded:
        """A run of records. Records that do not decode are set aside, the others keep their order."""
        good: list[Record] = []
        events: list[AnyEvent] = []
        slots: list[int] = []
        bad: list[tuple[Record, str]] = []
        for record in records:
            try:
                event = codec.decode(record.value)
            except CodecError as error:
                bad.append((record, str(error)))
                continue
            slot = self._slots.get((event.exchange, event.symbol))
            if slot is None:
                slot = self._slots[event.exchange, event.symbol] = self._slot(event.key)
            good.append(record)
            events.append(event)
            slots.append(slot)
        batch = build(events, slots, [record.offset for record in good])
        return Decoded(self._partition, good, events, batch, bad)
