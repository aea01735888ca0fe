"""When each key was saved last, and what that save lacks: arrays over the slots of an arena."""

from __future__ import annotations

from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from fluxforge.kernels.arena import Arena
from fluxforge.processor.compute import parse_name

_NEVER = -np.inf


class Saves:
    """Which keys are to be saved. Times are in s of any clock that does not run backwards."""

    def __init__(self, arena: Arena, interval: float) -> None:
        self._arena, self._interval = arena, interval
        self._partition = np.zeros(0, np.int64)
        self._changed = np.zeros(0, np.bool_)
        self._due = np.zeros(0)
        self._offset = np.zeros(0, np.int64)

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

    def due(self, partition: int, now: float) -> list[int]:
        """Slots to save now: a new key at once, so that every key seen has a snapshot; the others spread out."""
        found: list[int] = np.flatnonzero(self._changed & (self._partition == partition) & (self._due <= now)).tolist()
        return found

    def unsaved(self, partition: int) -> list[int]:
        """Slots with events since they were last saved."""
        return self.due(partition, np.inf)

    def saved(self, slot: int, next_offset: int, now: float) -> None:
        """A key has been saved as it stands at `next_offset`."""
        # The first interval is cut short by a share of its own for each key, so that later saves do not bunch.
        first = self._due[slot] == _NEVER
        share = (crc32(self._arena.key(slot).encode()) % 1000) / 2000 if first else 0.0
        self._due[slot] = now + self._interval * (1.0 - share)
        self._offset[slot], self._changed[slot] = next_offset, False

    def restored(self, slot: int, next_offset: int) -> None:
        """A key has been put back from a snapshot of `next_offset`."""
        self._cover(slot + 1)
        self._partition[slot] = parse_name(self._arena.key(slot))[0]
        self._offset[slot], self._changed[slot], self._due[slot] = next_offset, False, _NEVER

    def floor(self, partition: int, next_offset: int) -> int:
        """From here on the log holds events that some key's newest snapshot has not seen."""
        lacking = self._offset[self._changed & (self._partition == partition)]
        return int(lacking.min()) if len(lacking) else next_offset

    def drop(self, slot: int) -> None:
        """The slot will be another key's."""
        if slot < len(self._partition):
            self._partition[slot], self._changed[slot], self._due[slot] = -1, False, _NEVER

    def _cover(self, count: int) -> None:
        more = count - len(self._partition)
        if more > 0:
            more = max(more, len(self._partition))
            self._partition = np.concatenate([self._partition, np.full(more, -1, np.int64)])
            self._changed = np.concatenate([self._changed, np.zeros(more, np.bool_)])
            self._due = np.concatenate([self._due, np.full(more, _NEVER)])
            self._offset = np.concatenate([self._offset, np.zeros(more, np.int64)])
