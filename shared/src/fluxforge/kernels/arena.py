"""The records of many keys in one array, so that one kernel call serves a batch of many keys.

A record is header, rings, then both sides of the book (see `layout`). Rings and sides start small and double when a
kernel says that it needs room; the record then moves to the arena's end, and the arena is packed when more than half
of it is waste.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fluxforge.batch import NO_TS
from fluxforge.kernels import layout as at

_FIRST_CAPACITY = 64
_SIDES = (at.SIDE_BID, at.SIDE_ASK)


class Ring(NamedTuple):
    """A ring in the record: where its four header words are, and its columns (words per entry)."""

    head: int
    columns: int


class Arena:
    """Keys and their records; `ints` and `floats` are two views of the same words."""

    def __init__(self, header_words: int, rings: Sequence[Ring]) -> None:
        self._header_words = header_words
        self._rings = tuple(rings)
        self._used = 0
        self._slots: dict[str, int] = {}
        self._keys: list[str] = []
        self.ints: NDArray[np.int64] = np.zeros(1 << 12, np.int64)
        self.floats: NDArray[np.float64] = self.ints.view(np.float64)
        self.bases: NDArray[np.int64] = np.zeros(16, np.int64)

    def __len__(self) -> int:
        return len(self._keys)

    def slot(self, key: str) -> int:
        """The index of a key; a new key gets an empty record."""
        slot = self._slots.get(key)
        if slot is None:
            slot = self._add(key)
            self._place(slot, self._empty_record())
        return slot

    def key(self, slot: int) -> str:
        return self._keys[slot]

    def keys(self) -> list[str]:
        return list(self._keys)

    def record(self, slot: int) -> NDArray[np.int64]:
        """The words of a record (a view)."""
        base = int(self.bases[slot])
        return self.ints[base : base + int(self.ints[base + at.SIZE])]

    def save(self, slot: int) -> bytes:
        """The record without its book levels: what a snapshot holds."""
        record = self.record(slot)
        return record[: int(record[at.HEAD])].tobytes()

    def restore(self, key: str, saved: bytes, resume: int) -> int:
        """Put a saved record back; events before offset `resume` will only rebuild its book. Returns the slot."""
        head = np.frombuffer(saved, np.int64)
        words = int(head[at.HEAD])
        if words != len(head):
            raise ValueError(f"a snapshot of {key} has {len(head)} words where its header says {words}")
        record = np.zeros(words + 4 * _FIRST_CAPACITY, np.int64)
        record[:words] = head
        record[at.SIZE], record[at.RESUME], record[at.HAVE_BOOK] = len(record), resume, 0
        self._lay_sides(record, (_FIRST_CAPACITY, _FIRST_CAPACITY))
        slot = self._slots.get(key)
        if slot is None:
            slot = self._add(key)
        self._place(slot, record)
        return slot

    def grow(self, slot: int, room: int) -> None:
        """Make sure that every ring of the record has a free place and each side `room` more slots."""
        old = self.record(slot)
        ring_capacities = [
            int(old[r.head + at.RING_CAP])
            * (2 if old[r.head + at.RING_N] - old[r.head + at.RING_LO] + 2 > old[r.head + at.RING_CAP] // 2 else 1)
            for r in self._rings
        ]
        side_capacities = [_at_least(int(old[s + at.SIDE_N]) + room + 1, int(old[s + at.SIDE_CAP])) for s in _SIDES]
        new = self._blank(ring_capacities, side_capacities)
        self._copy(old, new)
        self._place(slot, new)

    def _add(self, key: str) -> int:
        slot = len(self._keys)
        self._keys.append(key)
        self._slots[key] = slot
        if slot == len(self.bases):
            self.bases = np.concatenate([self.bases, np.zeros(slot, np.int64)])
        self.bases[slot] = -1
        return slot

    def _empty_record(self) -> NDArray[np.int64]:
        record = self._blank([_FIRST_CAPACITY] * len(self._rings), [_FIRST_CAPACITY] * 2)
        record[at.BOOK_OFFSET] = record[at.COLLECTOR] = -1
        record[at.TIME] = NO_TS
        record.view(np.float64)[[at.QUOTE_MID, at.QUOTE_SPREAD]] = np.nan
        return record

    def _blank(self, ring_capacities: Sequence[int], side_capacities: Sequence[int]) -> NDArray[np.int64]:
        """A zeroed record with its rings and sides laid out."""
        words = self._header_words + sum(c * r.columns for c, r in zip(ring_capacities, self._rings, strict=True))
        record = np.zeros(words + 2 * sum(side_capacities), np.int64)
        offset = self._header_words
        for capacity, ring in zip(ring_capacities, self._rings, strict=True):
            record[ring.head + at.RING_AT], record[ring.head + at.RING_CAP] = offset, capacity
            offset += capacity * ring.columns
        record[at.SIZE], record[at.HEAD] = len(record), offset
        self._lay_sides(record, side_capacities)
        return record

    @staticmethod
    def _lay_sides(record: NDArray[np.int64], capacities: Sequence[int]) -> None:
        offset = int(record[at.HEAD])
        for side, capacity in zip(_SIDES, capacities, strict=True):
            record[side : side + 4] = (offset, capacity, 0, 0)
            offset += 2 * capacity

    def _copy(self, old: NDArray[np.int64], new: NDArray[np.int64]) -> None:
        """Header, ring entries and levels of `old` into the roomier `new`."""
        laid = new[: self._header_words].copy()
        new[: self._header_words] = old[: self._header_words]
        new[at.SIZE], new[at.HEAD] = laid[at.SIZE], laid[at.HEAD]
        for ring in self._rings:
            new[ring.head : ring.head + 2] = laid[ring.head : ring.head + 2]
            entries = np.arange(old[ring.head + at.RING_LO], old[ring.head + at.RING_N])
            was, is_now = int(old[ring.head + at.RING_CAP]), int(new[ring.head + at.RING_CAP])
            for column in range(ring.columns):
                source = old[ring.head + at.RING_AT] + column * was + (entries & (was - 1))
                new[new[ring.head + at.RING_AT] + column * is_now + (entries & (is_now - 1))] = old[source]
        for side in _SIDES:
            new[side : side + 2] = laid[side : side + 2]
            for column in range(2):
                source = int(old[side + at.SIDE_AT] + column * old[side + at.SIDE_CAP])
                target = int(new[side + at.SIDE_AT] + column * new[side + at.SIDE_CAP])
                used = int(old[side + at.SIDE_N])
                new[target : target + used] = old[source : source + used]

    def _place(self, slot: int, record: NDArray[np.int64]) -> None:
        """Put a record at the arena's end and point the slot at it."""
        if self._used + len(record) > len(self.ints):
            self._pack(slot, len(record))
        base = self._used
        self.ints[base : base + len(record)] = record
        self.bases[slot] = base
        self._used = base + len(record)

    def _pack(self, leaving: int, room: int) -> None:
        """Move the live records together into an array at least twice their size; `leaving` is being replaced."""
        live = [s for s in range(len(self._keys)) if s != leaving and self.bases[s] >= 0]
        records = [self.record(s).copy() for s in live]
        need = sum(map(len, records)) + room
        self.ints = np.zeros(_at_least(2 * need, 1 << 12), np.int64)
        self.floats = self.ints.view(np.float64)
        self._used = 0
        for slot, record in zip(live, records, strict=True):
            self.ints[self._used : self._used + len(record)] = record
            self.bases[slot] = self._used
            self._used += len(record)


def _at_least(need: int, start: int) -> int:
    """`start` doubled until it holds `need`."""
    while start < need:
        start *= 2
    return start
