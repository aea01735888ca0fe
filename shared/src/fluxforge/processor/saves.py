"""When each key was saved last, and what that save lacks: arrays over the slots of an arena."""

from __future__ import annotations

from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from fluxforge.kernels import layout
from fluxforge.kernels.arena import Arena
from fluxforge.processor.compute import parse_name

REBUILD_RECORDS = 20_000
"""A book is left out of a snapshot where the log rebuilds it from so many records: the newest BookSnapshot is near."""
_NEVER = -np.inf


class Saves:
    """Which keys are to be saved. Times are in s of any clock that does not run backwards."""

    def __init__(self, arena: Arena, interval: float) -> None:
        self._arena, self._interval = arena, interval
        self._partition = np.zeros(0, np.int64)
        self._changed = np.zeros(0, np.bool_)
        self._due = np.zeros(0)
        self._offset = np.zeros(0, np.int64)
        self._rebuild = np.zeros(0, np.int64)

    def follow(self, arena: Arena) -> None:
        """The state lies in a copy of the arena now."""
        self._arena = arena

    def changed(self, slots: NDArray[np.int64]) -> None:
        """Keys have had events."""
        if len(slots):
            self._cover(int(slots.max()) + 1)
            self._changed[slots] = True
            for slot in slots[self._partition[slots] < 0].tolist():
                self._partition[slot] = parse_name(self._arena.key(slot))[0]

    def due(self, partition: int, next_offset: int, now: float) -> list[int]:
        """Slots to save by `now`: a new key at once, so that every key seen has a snapshot; the others spread out.

        A silent key is saved once more, with its book, before the log must be read from far back to rebuild it.
        """
        far = (self._rebuild >= 0) & (self._rebuild < next_offset - 2 * REBUILD_RECORDS)
        wanted = (self._partition == partition) & (far | (self._changed & (self._due <= now)))
        found: list[int] = np.flatnonzero(wanted).tolist()
        return found

    def rebuild_offset(self, slot: int, next_offset: int) -> int:
        """Where reading must begin to rebuild the slot's book; −1 where it has none, or had better be saved with it."""
        record = self._arena.record(slot)
        offset = int(record[layout.BOOK_OFFSET]) if record[layout.HAVE_BOOK] else -1
        return offset if offset >= next_offset - REBUILD_RECORDS else -1

    def saved(self, slot: int, next_offset: int, rebuild: int, now: float) -> None:
        """A key has been saved as it stands at `next_offset`, and `rebuild_offset` was `rebuild`."""
        # The first interval is cut short by a share of its own for each key, so that later saves do not bunch.
        first = self._due[slot] == _NEVER
        share = (crc32(self._arena.key(slot).encode()) % 1000) / 2000 if first else 0.0
        self._due[slot] = now + self._interval * (1.0 - share)
        self._offset[slot], self._rebuild[slot], self._changed[slot] = next_offset, rebuild, False

    def restored(self, slot: int, next_offset: int, rebuild: int) -> None:
        """A key has been put back from a snapshot of `next_offset`, its book to be rebuilt from `rebuild` on or −1."""
        self._cover(slot + 1)
        self._partition[slot] = parse_name(self._arena.key(slot))[0]
        self._offset[slot], self._rebuild[slot] = next_offset, rebuild
        self._changed[slot], self._due[slot] = False, _NEVER

    def floor(self, partition: int, next_offset: int) -> int:
        """From here on the log holds events that some key's newest snapshot has not seen."""
        lacking = self._offset[self._changed & (self._partition == partition)]
        return int(lacking.min()) if len(lacking) else next_offset

    def drop(self, slot: int) -> None:
        """The slot will be another key's."""
        if slot < len(self._partition):
            self._partition[slot], self._changed[slot], self._due[slot], self._rebuild[slot] = -1, False, _NEVER, -1

    def _cover(self, count: int) -> None:
        more = count - len(self._partition)
        if more > 0:
            more = max(more, len(self._partition))
            self._partition = np.concatenate([self._partition, np.full(more, -1, np.int64)])
            self._changed = np.concatenate([self._changed, np.zeros(more, np.bool_)])
            self._due = np.concatenate([self._due, np.full(more, _NEVER)])
            self._offset = np.concatenate([self._offset, np.zeros(more, np.int64)])
            self._rebuild = np.concatenate([self._rebuild, np.full(more, -1, np.int64)])
