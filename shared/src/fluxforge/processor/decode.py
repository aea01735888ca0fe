"""Log records to a kernel's batch."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fluxforge import codec
from fluxforge.batch import EVENT, EventBatch, build
from fluxforge.errors import CodecError
from fluxforge.events import AnyEvent
from fluxforge.kernels import packed
from fluxforge.log import Record, columns
from fluxforge.processor.heads import Heads
from fluxforge.rows import Market


class Run(NamedTuple):
    """Records of one partition in log order; what comes of those below `committed` is visible already."""

    partition: int
    records: Sequence[Record]
    committed: int


@dataclass(frozen=True)
class Decoded:
    """Runs of any number of partitions, decoded together.

    batch       the good events as arrays; what follows runs alongside
    partitions  int32, of the raw topic
    fresh       bool, false where the outputs are visible already: they are not made again
    bad         fresh records that are no event of ours, each with the reason

    Structs, names and records of single events are made when they are asked for.
    """

    batch: EventBatch
    partitions: NDArray[np.int32]
    fresh: NDArray[np.bool_]
    bad: Sequence[tuple[Record, str]]
    _records: _Records
    _places: NDArray[np.int64]
    _odd: Mapping[int, AnyEvent]
    _beside: NDArray[np.int64]
    _heads: Sequence[Market]

    def record(self, event: int) -> Record:
        """The record of an event."""
        return self._records[int(self._places[event])]

    def event(self, event: int) -> AnyEvent:
        """An event as the codec gives it."""
        place = int(self._places[event])
        return self._odd.get(place) or codec.decode(self._records.values[place])

    def markets(self, events: NDArray[np.int64]) -> list[Market]:
        """Of each event."""
        heads = self._beside[self._places[events], packed.HEAD].tolist()
        found = [self._heads[head] if head >= 0 else None for head in heads]
        if None in found:
            return [market or _market(self.event(i)) for market, i in zip(found, events.tolist(), strict=True)]
        return found  # type: ignore[return-value]

    def trade_ids(self, events: NDArray[np.int64]) -> list[str]:
        """Of each event: all are trades."""
        places = self._places[events]
        values, odd = self._records.values, self._odd
        return [
            odd[place].id if head < 0 else values[place][at : at + size].decode()  # type: ignore[union-attr]
            for place, (head, at, size) in zip(places.tolist(), self._beside[places].tolist(), strict=True)
        ]


class Decoder:
    """Decodes runs; remembers which key of which partition has which slot."""

    def __init__(self, slot: Callable[[int, str], int]) -> None:
        self._slot = slot
        self._heads = Heads()

    def forget(self) -> None:
        """The slots are others now."""
        self._heads = Heads()

    def decode(self, runs: Sequence[Run]) -> Decoded:
        """Records that do not decode are set aside, the others keep their order."""
        records = _Records(runs)
        count = len(records.values)
        data = b"".join(records.values)
        bounds = np.fromiter(accumulate(map(len, records.values), initial=0), np.int64, count + 1)
        events, beside = np.empty(count, EVENT), np.full((count, 3), -1, np.int64)
        levels = np.empty(len(data) // 8, np.float64)
        rows, heads = packed.words(events), self._heads
        markets = heads.markets  # these, should the table be begun anew below
        used = packed.read(
            np.frombuffer(data, np.uint8),
            bounds,
            records.offsets,
            records.partitions,
            packed.FIELDS,
            heads.table,
            heads.rows,
            heads.pool,
            *rows,
            levels.view(np.uint8),
            beside,
        )
        beside[:, packed.ID_AT] -= bounds[:-1]
        levels = levels[:used]
        odd, bad = self._decode_odd(records, np.flatnonzero(events["kind"] == packed.ODD).tolist())
        if odd:
            places = list(odd)
            beside[places, packed.HEAD] = -1
            slots = [self._slot_of(records.partition(place), event) for place, event in odd.items()]
            few = build(odd.values(), slots, records.offsets[places].tolist())
            events[places] = few.events
            events["levels"][places] += used
            levels = np.concatenate([levels, few.levels])
        good = np.delete(np.arange(count), list(bad)) if bad else np.arange(count)
        if bad:
            events = events[good]
        committed = np.zeros(max((run.partition for run in runs), default=0) + 1, np.int64)
        for run in runs:
            committed[run.partition] = run.committed
        partitions = records.partitions[good].astype(np.int32)
        for array in (events, levels):
            array.flags.writeable = False
        return Decoded(
            EventBatch(events, levels),
            partitions,
            events["offset"] >= committed[partitions],
            [
                (records[place], reason)
                for place, reason in bad.items()
                if records.offsets[place] >= committed[records.partition(place)]
            ],
            records,
            good,
            odd,
            beside,
            markets,
        )

    def _decode_odd(self, records: _Records, places: Iterable[int]) -> tuple[dict[int, AnyEvent], dict[int, str]]:
        """What the codec makes of records that the kernel left to it: events, and the reasons where there is none."""
        odd: dict[int, AnyEvent] = {}
        bad: dict[int, str] = {}
        for place in places:
            try:
                odd[place] = codec.decode(records.values[place])
            except CodecError as error:
                bad[place] = str(error)
        return odd, bad

    def _slot_of(self, partition: int, event: AnyEvent) -> int:
        slot = self._slot(partition, event.key)
        self._heads.learn(partition, event, slot)
        return slot


class _Records:
    """The records of all runs, one behind the other, as columns; single ones are made when they are asked for."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self._runs = runs
        self.values: list[bytes] = []
        offsets: list[int] = []
        for run in runs:
            values, of_run = columns(run.records)
            self.values += values
            offsets += of_run
        self.offsets: NDArray[np.int64] = np.array(offsets, np.int64)
        lengths = [len(run.records) for run in runs]
        self._starts = list(accumulate(lengths, initial=0))
        self.partitions: NDArray[np.int64] = np.repeat(np.array([r.partition for r in runs], np.int64), lengths)

    def __getitem__(self, place: int) -> Record:
        run = bisect_right(self._starts, place) - 1
        return self._runs[run].records[place - self._starts[run]]

    def partition(self, place: int) -> int:
        return int(self.partitions[place])


def _market(event: AnyEvent) -> Market:
    return Market(event.exchange, event.symbol, event.source)
