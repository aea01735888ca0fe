"""Where a partition's state comes from: snapshots, and the log behind them."""

from __future__ import annotations

import logging
from typing import NamedTuple

from fluxforge.kernels.arena import Arena
from fluxforge.log import Log, TopicPartition
from fluxforge.processor import snapshots
from fluxforge.processor.compute import Processor, name_of

_log = logging.getLogger(__name__)


class Restored(NamedTuple):
    """A partition as it was put back.

    committed  outputs of events below it are visible already
    start      the offset to read from
    slots      of the keys that had a snapshot: the offset it stands at, and that of the book to rebuild from or −1
    """

    committed: int
    start: int
    slots: dict[int, tuple[int, int]]


class Restorer:
    """Puts partitions back into an arena."""

    def __init__(self, log: Log, processor: Processor, topic_id: str) -> None:
        self._log, self._processor, self.topic_id = log, processor, topic_id

    def restore(self, arena: Arena, tp: TopicPartition, committed: int | None) -> Restored:
        """The state at the committed offset, but for what is re-read from `start` on."""
        first = self._log.bounds(tp).first
        if committed is None:
            return Restored(first, first, {})
        state_tp = TopicPartition(self._processor.state_topic, tp.partition)
        found = snapshots.load(self._log, state_tp, self.topic_id, self._processor.config_hash, committed)
        if found.floor is None:
            _log.info("%s[%d]: no usable snapshot, rebuilding from the log", *tp)
            return Restored(committed, self._back_from(tp, committed, self._processor.warm_up_s * 1000), {})
        start = found.floor
        slots: dict[int, tuple[int, int]] = {}
        for key, snapshot in found.snapshots.items():
            slot = arena.restore(name_of(tp.partition, key), snapshot.words(), snapshot.next_offset)
            slots[slot] = snapshot.next_offset, snapshot.rebuild_offset
            if snapshot.rebuild_offset >= 0:
                start = min(start, snapshot.rebuild_offset)
        if start < first:
            _log.warning("%s[%d]: the log begins at %d, its keys' state needs it from %d on", *tp, first, start)
        return Restored(committed, max(first, start), slots)

    def _back_from(self, tp: TopicPartition, offset: int, milliseconds: float) -> int:
        """The offset that lies `milliseconds` of record time before `offset`, within the log."""
        first, end = self._log.bounds(tp)
        at = max(first, min(offset, end) - 1)
        if at >= end:
            return at
        reader = self._log.reader(tp, at, follow=False)
        try:
            records = reader.read(1, timeout=5.0).records
        finally:
            reader.close()
        if not records:
            return first
        return max(first, min(offset, self._log.offset_at(tp, int(records[0].timestamp - milliseconds))))
