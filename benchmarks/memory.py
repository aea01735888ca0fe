"""What the state of a key takes, beside what a market may have: its levels, and 64 B for each event in the windows."""

from __future__ import annotations

import gc
from typing import NamedTuple

from benchmarks.history import History

from benchmarks import report, topic
from fluxforge.batch import build
from fluxforge.kernels import layout as at
from fluxforge.kernels.config import FeatureConfig
from fluxforge.kernels.features import FeatureKernel
from fluxforge.kernels.rolling import DECAY_SPAN

LEVEL_BYTES, EVENT_BYTES = 16, 64
KEYS = 50
_PER_CALL = 2000
_NS = 1_000_000_000


class Memory(NamedTuple):
    """Of one key at the end of a history, bytes but for the first three.

    source
    levels    of both sides of its book
    events    inside the longest window
    record    of its record, free places of rings and sides included
    resident  of the process, a key of `KEYS`: the arena's free words and all else that is held for it
    """

    source: str
    levels: int
    events: int
    record: int
    resident: float

    @property
    def allowed(self) -> int:
        return self.levels * LEVEL_BYTES + self.events * EVENT_BYTES

    @property
    def per_event(self) -> float:
        """Bytes an event inside the longest window, the levels' own left out."""
        return (self.record - self.levels * LEVEL_BYTES) / self.events


def per_key(market: History) -> Memory:
    """Run the history through `KEYS` keys of one feature kernel and weigh their state."""
    config = FeatureConfig()
    events = topic.events_of(market)
    since = events[-1].capture_ts - DECAY_SPAN * max(config.horizons) * _NS
    kernel = FeatureKernel(config)
    gc.collect()
    before = report.resident_mb() * 2**20
    slots = [kernel.arena.slot(f"bench|S{k}/USDT") for k in range(KEYS)]
    for first in range(0, len(events), _PER_CALL):
        piece = events[first : first + _PER_CALL]
        for slot in slots:
            kernel.run(build(piece, [slot] * len(piece), range(first, first + len(piece))))
    gc.collect()
    resident = (report.resident_mb() * 2**20 - before) / KEYS
    record = kernel.arena.record(slots[0])
    levels = int(record[at.SIDE_BID + at.SIDE_LIVE] + record[at.SIDE_ASK + at.SIDE_LIVE])
    return Memory(market.source, levels, sum(e.capture_ts > since for e in events), record.nbytes, resident)
