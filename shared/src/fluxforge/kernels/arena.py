"""The records of many keys in one array, so that one kernel call serves a batch of many keys.

A record is header, rings, then both sides of the book (see `layout`). Rings and sides start small and double when a
kernel says that it needs room; the record then moves to the arena's end, and the arena is packed when more than half
of it is waste.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fluxforge.batch import NO_TS, EventBatch
from fluxforge.kernels import layout as at

_FIRST_CAPACITY = 64
_SIDES = (at.SIDE_BID, at.SIDE_ASK)


class Ring(NamedTuple):
    """A ring in the record: where its four header words are, and its columns (words per entry)."""

    head: int
    columns: int


Parameters = Callable[[str], dict[int, float]]
"""Words of a key's header that hold its parameters, by place: float64."""


def _no_parameters(_: str) -> dict[int, float]:
    return {}


class Arena:
    """Keys and their records; `ints` and `floats` are two views of the same words.

    `parameters` are written into the record of a new key.
    """

    def __init__(self, header_words: int, rings: Sequence[Ring], parameters: Parameters = _no_parameters) -> None:
        self._header_words = header_words
        self._parameters = parameters
        self._rings = tuple(rings)
        self._used = 0
        self._slots: dict[str, int] = {}
        self._keys: list[str] = []
        self._free: list[int] = []
        self.ints: NDArray[np.int64] = np.zeros(1 << 12, np.int64)
        self.floats: NDArray[np.float64] = self.ints.view(np.float64)
        self.bases: NDArray[np.int64] = np.full(16, -1, np.int64)

    def __len__(self) -> int:
        return len(self._slots)

    def slot(self, key: str) -> int:
        """The index of a key; a new key gets an empty record."""
        slot = self._slots.get(key)
        if slot is None:
            slot = self._add(key)
            self._lay_empty(slot, key)
        return slot

    def key(self, slot: int) -> str:
        return self._keys[slot]

    def keys(self) -> list[str]:
        return list(self._slots)

    def drop(self, key: str) -> None:
        """Forget a key; its slot serves the next new one."""
        slot = self._slots.pop(key)
        self._free.append(slot)
        self._keys[slot], self.bases[slot] = "", -1

    def copy(self) -> Arena:
        """The same state in words of its own."""
        twin = copy(self)
        twin.ints, twin.bases = self.ints.copy(), self.bases.copy()
        twin.floats = twin.ints.view(np.float64)
        twin._slots, twin._keys, twin._free = dict(self._slots), list(self._keys), list(self._free)
        return twin

    def record(self, slot: int) -> NDArray[np.int64]:
        """The words of a record (a view)."""
        base = int(self.bases[slot])
        return self.ints[base : base + int(self.ints[base + at.SIZE])]

    def save(self, slot: int, *, book: bool = False) -> bytes:
        """The record, with its book levels or without."""
        record = self.record(slot)
        return record[: None if book else int(record[at.HEAD])].tobytes()

    def restore(self, key: str, saved: bytes, resume: int) -> int:
        """Put a saved record back; events before offset `resume` will at most rebuild its book. Returns the slot.

        Raises ValueError where the bytes are no record of this arena's layout: kernels look up no place twice.
        """
        words = np.frombuffer(saved, np.int64)
        if not self._is_record(words):
            raise ValueError(f"a snapshot of {key}, {len(words)} words, is no record of this layout")
        head = int(words[at.HEAD])
        if len(words) > head:
            record = words.copy()
            record[at.REBUILDS] = 0
        else:
            record = np.zeros(head + 4 * _FIRST_CAPACITY, np.int64)
            record[:head] = words
            record[at.SIZE], record[at.HAVE_BOOK], record[at.REBUILDS] = len(record), 0, 1
            self._lay_sides(record, (_FIRST_CAPACITY, _FIRST_CAPACITY))
        record[at.RESUME] = resume
        slot = self._slots.get(key)
        if slot is None:
            slot = self._add(key)
        self._place(slot, record)
        return slot

    def _is_record(self, words: NDArray[np.int64]) -> bool:
        """Whether every place that a kernel reads out of the header lies where this arena would have put it."""
        if len(words) < self._header_words:
            return False
        end = self._header_words
        for ring in self._rings:
            place, capacity, n, lo = (int(words[ring.head + k]) for k in range(at.RING_WORDS))
            if place != end or capacity.bit_count() != 1 or not 0 <= lo <= n <= lo + capacity:
                return False
            end += ring.columns * capacity
        if int(words[at.HEAD]) != end or len(words) == end:
            return int(words[at.HEAD]) == end
        for side in _SIDES:
            place, capacity, used, live = (int(words[side + k]) for k in range(4))
            if place != end or not 0 <= live <= used <= capacity:
                return False
            end += 2 * capacity
        return end == len(words) == int(words[at.SIZE])

    def serve(self, status: int, batch: EventBatch, index: int) -> None:
        """Give the kernel that stopped with `status` before event `index` the room it asks for.

        Raises ValueError for an event whose slot has no record or whose levels the batch does not hold.
        """
        event = batch.events[index]
        slot = int(event["slot"])
        if status == at.UNSOUND:
            raise ValueError(f"event {index} of the batch: no record in slot {slot}, or levels outside the batch's")
        self.grow(slot, int(max(event["bids"], event["asks"])))

    def grow(self, slot: int, room: int) -> None:
        """Make sure that every ring of the record has a free place and each side `room` more slots."""
        old = self.record(slot)
        ring_capacities = [int(old[r.head + at.RING_CAP]) * (2 if _is_crowded(old, r) else 1) for r in self._rings]
        side_capacities = [_at_least(int(old[s + at.SIDE_N]) + room + 1, int(old[s + at.SIDE_CAP])) for s in _SIDES]
        new = self._reserve(slot, self._words(ring_capacities, side_capacities))
        self._lay(new, ring_capacities, side_capacities)
        self._copy(old, new)

    def _add(self, key: str) -> int:
        slot = self._free.pop() if self._free else len(self._keys)
        self._slots[key] = slot
        if slot < len(self._keys):
            self._keys[slot] = key
            return slot
        self._keys.append(key)
        if slot == len(self.bases):
            self.bases = np.concatenate([self.bases, np.full(slot, -1, np.int64)])
        return slot

    def _lay_empty(self, slot: int, key: str) -> None:
        rings, sides = [_FIRST_CAPACITY] * len(self._rings), [_FIRST_CAPACITY] * 2
        record = self._reserve(slot, self._words(rings, sides))
        self._lay(record, rings, sides)
        record[at.BOOK_OFFSET] = record[at.COLLECTOR] = -1
        record[at.TIME] = NO_TS
        floats = record.view(np.float64)
        floats[[at.QUOTE_MID, at.QUOTE_SPREAD]] = np.nan
        for word, value in self._parameters(key).items():
            floats[word] = value

    def _words(self, ring_capacities: Sequence[int], side_capacities: Sequence[int]) -> int:
        """Words of a record with these capacities."""
        rings = sum(c * r.columns for c, r in zip(ring_capacities, self._rings, strict=True))
        return self._header_words + rings + 2 * sum(side_capacities)

    def _lay(self, record: NDArray[np.int64], ring_capacities: Sequence[int], side_capacities: Sequence[int]) -> None:
        """Lay out the rings and sides of a zeroed record."""
        offset = self._header_words
        for capacity, ring in zip(ring_capacities, self._rings, strict=True):
            record[ring.head + at.RING_AT], record[ring.head + at.RING_CAP] = offset, capacity
            offset += capacity * ring.columns
        record[at.SIZE], record[at.HEAD] = len(record), offset
        self._lay_sides(record, side_capacities)

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
            _copy_ring(old, new, ring)
        for side in _SIDES:
            new[side : side + 2] = laid[side : side + 2]
            for column in range(2):
                source = int(old[side + at.SIDE_AT] + column * old[side + at.SIDE_CAP])
                target = int(new[side + at.SIDE_AT] + column * new[side + at.SIDE_CAP])
                used = int(old[side + at.SIDE_N])
                new[target : target + used] = old[source : source + used]

    def _place(self, slot: int, record: NDArray[np.int64]) -> None:
        """Put a record at the arena's end and point the slot at it."""
        self._reserve(slot, len(record))[:] = record

    def _reserve(self, slot: int, words: int) -> NDArray[np.int64]:
        """Zeroed words at the arena's end for the slot's record, which leaves its old place."""
        if self._used + words > len(self.ints):
            self._pack(slot, words)
        base = self._used
        self.bases[slot] = base
        self._used = base + words
        return self.ints[base : self._used]

    def _pack(self, leaving: int, room: int) -> None:
        """Move the live records together into an array at least twice their size; `leaving` is being replaced."""
        records = [(s, self.record(s)) for s in range(len(self._keys)) if s != leaving and self.bases[s] >= 0]
        need = sum(len(record) for _, record in records) + room
        self.ints = np.zeros(_at_least(2 * need, 1 << 12), np.int64)
        self.floats = self.ints.view(np.float64)
        self._used = 0
        for slot, record in records:
            self._place(slot, record)


def _is_crowded(record: NDArray[np.int64], ring: Ring) -> bool:
    """Whether more than half of a ring is taken."""
    return bool(
        record[ring.head + at.RING_N] - record[ring.head + at.RING_LO] + 2 > record[ring.head + at.RING_CAP] // 2
    )


def _copy_ring(old: NDArray[np.int64], new: NDArray[np.int64], ring: Ring) -> None:
    """The live entries of a ring into the same ring of a record with other capacities, in runs that wrap in neither."""
    was_at, was = int(old[ring.head + at.RING_AT]), int(old[ring.head + at.RING_CAP])
    now_at, now = int(new[ring.head + at.RING_AT]), int(new[ring.head + at.RING_CAP])
    entry, n = int(old[ring.head + at.RING_LO]), int(old[ring.head + at.RING_N])
    old_columns = old[was_at : was_at + ring.columns * was].reshape(ring.columns, was)
    new_columns = new[now_at : now_at + ring.columns * now].reshape(ring.columns, now)
    while entry < n:
        source, target = entry & (was - 1), entry & (now - 1)
        run = min(n - entry, was - source, now - target)
        new_columns[:, target : target + run] = old_columns[:, source : source + run]
        entry += run


def _at_least(need: int, start: int) -> int:
    """`start` doubled until it holds `need`."""
    while start < need:
        start *= 2
    return start
