"""One symbol's book from a stream of diffs and a REST snapshot: a pure state machine.

        start ──────────────► WAITING ── snapshot ──► BRIDGING ── a diff reaches it ──► SYNCED
                                 ▲  ▲                     │                                │
                                 │  └── snapshot too old ─┘                                │
                                 └──────────── gap, crossed book, reset ◄──────────────────┘

What goes to the log, in order:
- every diff at once, exactly once, even before the snapshot (a reader without a book ignores it);
- on reaching SYNCED a BookSnapshot of the rebuilt book, always at the end of a diff: the snapshot with every later diff
  applied, so that the next diff in the log follows it without overlap;
- a Reset before the diff that showed a gap.

The rule of continuity is `first_seq ≤ previous seq + 1 ≤ seq`, for every venue (USD-M's `pu` is folded into first_seq
by the parser). Sizes are absolute, so an overlap is harmless. Source: Binance Spot API, "How to manage a local order
book correctly".
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from enum import Enum

from collector.binance import RestBook
from collector.book import Book
from collector.identity import Identity, Stamp
from fluxforge.clock import NS
from fluxforge.events import AnyEvent, BookDelta, BookSnapshot, Reset, ResetReason

SETTLE_NS = NS
"""A venue sends its diffs each 100 ms: what has not come within a second of a snapshot did not happen before it."""
MAX_BUFFERED = 100_000
"""Diffs held while a snapshot is fetched; the oldest go first and the snapshot must then be newer."""


class State(Enum):
    WAITING = "waiting"  # no usable snapshot
    BRIDGING = "bridging"  # a snapshot newer than every diff so far
    SYNCED = "synced"


class BookSync:
    """Keeps one book in step with its exchange.

    Every method returns the events to publish, in order; times are ns, `skew` as in `fluxforge.events`.

    counts  duplicates, gaps, stale_snapshots, snapshots, crossed
    """

    def __init__(self, identity: Identity, skew: Callable[[], int] = lambda: 0) -> None:
        self.identity = identity
        self.book = Book()
        self.state = State.WAITING
        self.seq: int | None = None
        self.counts: Counter[str] = Counter()
        self._skew = skew
        self._held: deque[BookDelta] = deque(maxlen=MAX_BUFFERED)
        self._pending: RestBook | None = None
        self._pending_since = 0
        self._ts: int | None = None

    @property
    def wants_snapshot(self) -> bool:
        """Whether a REST snapshot should be fetched."""
        return self.state is State.WAITING

    def diff(self, delta: BookDelta) -> list[AnyEvent]:
        """Take in one diff. A diff that ends at or before the last one carries nothing new and is dropped."""
        if delta.seq is None or delta.first_seq is None:
            raise ValueError("a diff without sequence numbers cannot be verified")
        if self.seq is not None and delta.seq <= self.seq:
            self.counts["duplicates"] += 1
            return []
        out: list[AnyEvent] = []
        if self.seq is not None and delta.first_seq > self.seq + 1:
            self.counts["gaps"] += 1
            detail = (
                f"diff {delta.first_seq}..{delta.seq} after {self.seq}: {delta.first_seq - self.seq - 1} ids missing"
            )
            out.append(self.reset(ResetReason.GAP, delta.capture_ts, detail))
        self.seq = delta.seq
        out.append(delta)
        if self.state is State.SYNCED:
            self._apply(delta)
            return out
        self._held.append(delta)
        if self._pending is not None:
            out += self._bridge(delta.capture_ts)
        return out

    def snapshot(self, found: RestBook, now: int) -> list[AnyEvent]:
        """Take in a REST snapshot that arrived at `now`.

        One that is older than the diffs held is counted and dropped (`wants_snapshot` stays true); one that is newer
        waits for the diff that reaches it.
        """
        if self.state is State.SYNCED:
            return []
        self._pending, self._pending_since, self.state = found, now, State.BRIDGING
        return self._bridge(now)

    def settle(self, now: int) -> list[AnyEvent]:
        """Publish a snapshot that no diff has reached for a second: the market is silent."""
        if self._pending is None or now - self._pending_since < SETTLE_NS:
            return []
        self.seq = self._pending.seq
        return self._sync(self._pending, now)

    def reset(self, reason: ResetReason, now: int, detail: str = "", *, incomplete: bool = False) -> Reset:
        """Forget the book. The sequence goes on, so that a gap across the reset would still show."""
        self.state, self._pending, self._ts = State.WAITING, None, None
        self._held.clear()
        return Reset(
            **self._common(now), ts=None, seq=self.seq, reason=str(reason), incomplete=incomplete, detail=detail
        )

    def reconnect(self, identity: Identity) -> None:
        """A new connection: sequence numbers start afresh. The caller publishes its Reset."""
        self.identity, self.seq = identity, None
        self.state, self._pending, self._ts = State.WAITING, None, None
        self._held.clear()

    def check(self, now: int) -> list[AnyEvent]:
        """About once a second: a crossed book means that we hold levels the exchange does not."""
        if self.state is not State.SYNCED or not self.book.crossed():
            return []
        self.counts["crossed"] += 1
        bid, ask = self.book.best()
        return [self.reset(ResetReason.STALE, now, f"crossed book: bid {bid} ≥ ask {ask} at {self.seq}")]

    def restate(self, now: int, *, refresh: bool) -> list[AnyEvent]:
        """The synced book as a BookSnapshot; `refresh`: one that only verifies what readers already have."""
        if self.state is not State.SYNCED:
            return []
        bids, asks = self.book.packed()
        return [
            BookSnapshot(
                **self._common(now), ts=self._ts, seq=self.seq, bids=bids, asks=asks, refresh=refresh, updates=1
            )
        ]

    def _bridge(self, now: int) -> list[AnyEvent]:
        found = self._pending
        assert found is not None
        while self._held and (self._held[0].seq or 0) <= found.seq:
            last = self._held.popleft()
            self._ts = last.ts if last.seq == found.seq else None
        if self._held:
            if (self._held[0].first_seq or 0) > found.seq + 1:
                self.counts["stale_snapshots"] += 1
                self.state, self._pending = State.WAITING, None
                return []
            return self._sync(found, now)
        return self._sync(found, now) if self.seq == found.seq else []

    def _sync(self, found: RestBook, now: int) -> list[AnyEvent]:
        self.book.replace(found.bids, found.asks)
        while self._held:
            self._apply(self._held.popleft())
        self.state, self._pending = State.SYNCED, None
        self.counts["snapshots"] += 1
        return self.restate(now, refresh=False)

    def _apply(self, delta: BookDelta) -> None:
        self.book.apply(delta.bids, delta.asks)
        self._ts = delta.ts

    def _common(self, now: int) -> Stamp:
        return {**self.identity, "capture_ts": now, "skew": self._skew()}
