"""Diffs that wait for a REST snapshot which they can be bridged to; pure."""

from __future__ import annotations

from collections import deque
from enum import Enum

from collector.wire import RestBook
from fluxforge.clock import NS
from fluxforge.events import BookDelta

SETTLE_NS = NS
"""A venue sends its diffs each 100 ms: what has not come within a second of a snapshot did not happen before it."""
MAX_BUFFERED = 100_000
"""Diffs held while a snapshot is fetched; the oldest go first and the snapshot must then be newer."""


class Span(Enum):
    """How a snapshot stands to the diffs held."""

    OLD = "old"  # what lies between them is missing
    REACHED = "reached"  # the diffs held follow it
    AHEAD = "ahead"  # no diff has come so far


class Bridge:
    """The diffs held and the snapshot they wait to reach.

    held   in order; of those that a snapshot contains none is left once it was `tried`
    found  the snapshot, None while there is none
    ts     exchange time of the snapshot, where the diff that it ends with was held
    """

    def __init__(self) -> None:
        self.held: deque[BookDelta] = deque(maxlen=MAX_BUFFERED)
        self.found: RestBook | None = None
        self.ts: int | None = None
        self._since = 0

    def clear(self) -> None:
        """Forget diffs and snapshot."""
        self.held.clear()
        self.found = self.ts = None

    def begin(self, found: RestBook, now: int) -> None:
        """A snapshot came."""
        self.found, self._since = found, now

    def settled(self, now: int) -> bool:
        """Whether a snapshot is here that nothing has reached for a second."""
        return self.found is not None and now - self._since >= SETTLE_NS

    def tried(self, seq: int | None) -> Span:
        """Where the snapshot stands; `seq`: the last diff's. Raises ValueError for one without a number."""
        found = self.found
        assert found is not None
        if found.seq is None:
            raise ValueError("a snapshot without a sequence number cannot be bridged to diffs")
        while self.held and (self.held[0].seq or 0) <= found.seq:
            last = self.held.popleft()
            self.ts = last.ts if last.seq == found.seq else None
        if self.held:
            return Span.OLD if (self.held[0].first_seq or 0) > found.seq + 1 else Span.REACHED
        return Span.REACHED if seq == found.seq else Span.AHEAD
