"""One partition in a processor's hands."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np

from fluxforge.kernels import layout
from fluxforge.log import TopicPartition
from fluxforge.processor.decode import Decoded, Decoder
from fluxforge.processor.snapshots import Snapshot

if TYPE_CHECKING:
    from fluxforge.processor.runtime import Kernel


class PartitionState:
    """Kernel, decoder and offsets of one partition.

    committed    outputs of events below it are visible already
    next_offset  everything below it has been processed; behind `committed` while the state is being rebuilt
    """

    def __init__(self, tp: TopicPartition, kernel: Kernel, committed: int) -> None:
        self.tp = tp
        self.kernel = kernel
        self.decoder = Decoder(tp.partition, kernel.arena.slot)
        self.committed = committed
        self.next_offset = 0
        self._saved_at: dict[str, float] = {}
        self._saved_offset: dict[int, int] = {}
        self._changed: set[int] = set()

    def advance(self, decoded: Decoded, next_offset: int) -> None:
        """A batch has been processed."""
        self.next_offset = next_offset
        self._changed.update(np.unique(decoded.batch.events["slot"]).tolist())

    def keys(self) -> list[str]:
        """Keys with events since they were last saved."""
        return [self.kernel.arena.key(slot) for slot in sorted(self._changed)]

    def due(self, now: float, interval: float) -> Iterable[str]:
        """Keys to save now: a new one at once, so that every key seen has a snapshot; the others spread out."""
        for key in self.keys():
            saved = self._saved_at.get(key)
            if saved is None or now >= saved + interval:
                yield key

    def save(self, key: str, now: float) -> tuple[bytes, int]:
        """The words of a key's record and the offset its book is rebuilt from."""
        arena = self.kernel.arena
        slot = arena.slot(key)
        self._changed.discard(slot)
        self._saved_offset[slot] = self.next_offset
        # The first interval is cut short by a share of its own for each key, so that later saves do not bunch.
        early = 0.0 if key in self._saved_at else (crc32(key.encode()) % 1000) / 1000 * 30.0
        self._saved_at[key] = now - early
        return arena.save(slot), int(arena.record(slot)[layout.BOOK_OFFSET])

    def floor(self) -> int:
        """From here on the log holds events that some key's newest snapshot has not seen."""
        return min((self._saved_offset[slot] for slot in self._changed), default=self.next_offset)

    def restore(self, key: str, snapshot: Snapshot) -> None:
        """Put a key back; its events below the snapshot's offset will only rebuild its book."""
        slot = self.kernel.arena.restore(key, snapshot.words(), snapshot.next_offset)
        self._saved_offset[slot] = snapshot.next_offset
        self._saved_at[key] = float("-inf")
