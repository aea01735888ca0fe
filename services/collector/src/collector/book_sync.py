"""One symbol's book from a stream of diffs and snapshots of it: a pure state machine.

        start ──────────────► WAITING ── snapshot ──► BRIDGING ── a diff reaches it ──► SYNCED
                                 ▲  ▲                     │                                │
                                 │  └── snapshot too old ─┘                                │
                                 └── gap, checksum, crossed, stale, mismatch, reset ◄──────┘

A REST snapshot must be bridged to the diffs; one that comes in the stream stands where it stands and syncs at once.

What goes to the log, in order:
- every diff at once, exactly once, even before the snapshot (a reader without a book ignores it);
- on reaching SYNCED a BookSnapshot of the rebuilt book, always at the end of a diff: the snapshot with every later diff
  applied, so that the next diff in the log follows it without overlap;
- a Reset before the diff that showed a gap, and as soon as anything else shows that the book is wrong.

The rule of continuity is `first_seq ≤ previous seq + 1 ≤ seq`, for every venue (see `collector.wire`); without numbers
only checksums, a crossed book and the audit can tell. Sizes are absolute, so an overlap is harmless. Source: Binance
Spot API, "How to manage a local order book correctly".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from enum import Enum

import msgspec

from collector.audit import Audit, Reach
from collector.book import Book
from collector.bridge import SETTLE_NS, Bridge, Span
from collector.identity import Identity, Stamp
from collector.text_book import Summing, TextBook
from collector.wire import Checksum, RestBook
from fluxforge.events import AnyEvent, BookDelta, BookSnapshot, Reset, ResetReason


class State(Enum):
    WAITING = "waiting"  # no usable snapshot
    BRIDGING = "bridging"  # a snapshot newer than every diff so far
    SYNCED = "synced"


class BookSync:
    """Keeps one book in step with its exchange.

    Every method returns the events to publish, in order; times are ns, `skew` as in `fluxforge.events`.

    summing   the exchange's checksum, None where it has none
    streamed  whether snapshots come in the stream, so that no diff is held for one fetched over REST
    expected  whether the stream is about to bring a snapshot
    depth     levels a side that the exchange keeps, see `collector.wire.WireParser.depth`
    levels    levels a side that the stream carries, where it deletes by message what falls out behind them; None: all
    counts    duplicates, gaps, checksums, crossed, stale, stale_snapshots, snapshots; audits, mismatches, and
              drifted: levels that differed
    """

    def __init__(
        self,
        identity: Identity,
        skew: Callable[[], int] = lambda: 0,
        *,
        summing: Summing | None = None,
        streamed: bool = False,
    ) -> None:
        self.identity = identity
        self.book = Book()
        self.state = State.WAITING
        self.seq: int | None = None
        self.depth: int | None = None
        self.levels: int | None = None
        self.expected = streamed
        self.counts: Counter[str] = Counter()
        self._skew, self._streamed = skew, streamed
        self._texts = TextBook(self.book, summing) if summing is not None else None
        self._last: BookDelta | BookSnapshot | None = None
        self._bridge = Bridge()
        self._reach = Reach()
        self._audit: Audit | None = None
        self._ts: int | None = None

    @property
    def wants_snapshot(self) -> bool:
        """Whether a snapshot should be asked for; not where one is about to come in the stream."""
        return self.state is State.WAITING and not self.expected

    @property
    def wants_answer(self) -> bool:
        """Whether an audit has begun that has no snapshot yet."""
        return self._audit is not None and self._audit.found is None

    def diff(self, delta: BookDelta) -> list[AnyEvent]:
        """Take in one diff. A diff that ends at or before the last one carries nothing new and is dropped."""
        if delta.seq is None and not self._streamed:
            raise ValueError("a diff without sequence numbers cannot be bridged to a snapshot")
        out: list[AnyEvent] = []
        self._last = None
        if delta.seq is not None and self.seq is not None:
            first = self.seq + 1 if delta.first_seq is None else delta.first_seq
            restarted = delta.first_seq is not None and first > delta.seq + 1
            if delta.seq <= self.seq and not restarted:
                self.counts["duplicates"] += 1
                return []
            if first > self.seq + 1 or restarted:
                missing = "the numbers began anew" if restarted else f"{first - self.seq - 1} ids missing"
                out.append(self.gap(delta.capture_ts, f"diff {first}..{delta.seq} after {self.seq}: {missing}"))
        self.seq = delta.seq
        if self.state is State.SYNCED:
            out.append(self._apply(delta))
            self._last = delta
            if self._audit is not None:
                self._audit.diff(delta)
                out += self._conclude(delta.capture_ts)
            return out
        out.append(delta)
        if not self._streamed:
            self._bridge.held.append(delta)
            if self._bridge.found is not None:
                out += self._cross(delta.capture_ts)
        return out

    def whole(self, event: BookSnapshot) -> list[AnyEvent]:
        """Take in a whole book of the stream. One that comes unasked ends the book before, unless it repeats it."""
        out: list[AnyEvent] = []
        self._last = None
        if self.state is State.SYNCED:
            if event.seq == self.seq and self.book.packed() == (event.bids, event.asks):
                self.counts["duplicates"] += 1
                return []
            out.append(self._reset_by("stale", ResetReason.STALE, event.capture_ts, "the exchange sent its book anew"))
        self.book.replace(event.bids, event.asks)
        self.seq, self._ts, self._reach, self._last = event.seq, event.ts, Reach(), event
        if self._texts is not None:
            self._texts.forget()
        self._synced()
        return [*out, event]

    def snapshot(self, found: RestBook, now: int) -> list[AnyEvent]:
        """Take in a REST snapshot that arrived at `now`.

        One that is older than the diffs held is counted and dropped (`wants_snapshot` stays true); one that is newer
        waits for the diff that reaches it.
        """
        if self.state is State.SYNCED:
            return []
        self._bridge.begin(found, now)
        self.state = State.BRIDGING
        return self._cross(now)

    def settle(self, now: int) -> list[AnyEvent]:
        """Take a snapshot that no diff has reached for a second as it is: the market is silent."""
        if self._bridge.found is not None and self._bridge.settled(now):
            self.seq = self._bridge.found.seq
            return self._sync(self._bridge.found, now)
        if self._audit is not None and self._audit.found is not None and now - self._audit.since >= SETTLE_NS:
            return self._compare(now)
        return []

    def checksum(self, found: Checksum, now: int) -> list[AnyEvent]:
        """The exchange's checksum of the book behind the event before, and its texts; that of a repeat says nothing."""
        if self._texts is None or self._last is None or self.state is not State.SYNCED:
            return []
        self._texts.take(self._last, found)
        if found.value is None or (ours := self._texts.checksum()) == found.value:
            return []
        self.counts["gaps"] += 1
        detail = f"the exchange's is {found.value}, ours {ours}, at {self.seq}"
        return [self._reset_by("checksums", ResetReason.CHECKSUM, now, detail)]

    def gap(self, now: int, detail: str) -> Reset:
        """Updates are missing."""
        return self._reset_by("gaps", ResetReason.GAP, now, detail)

    def stale(self, now: int, detail: str) -> Reset:
        """The book's stream has stopped; when it comes back its numbers may have begun anew."""
        reset = self._reset_by("stale", ResetReason.STALE, now, detail)
        self.seq = None
        return reset

    def check(self, now: int) -> list[AnyEvent]:
        """About once a second: a crossed book means that we hold levels the exchange does not."""
        if self.state is not State.SYNCED or not self.book.crossed():
            return []
        bid, ask = self.book.best()
        detail = f"crossed book: bid {bid} ≥ ask {ask} at {self.seq}"
        return [self._reset_by("crossed", ResetReason.STALE, now, detail)]

    def audit(self) -> None:
        """Begin a comparison with a fresh REST snapshot; ask for it afterwards and give it to `answer`.

        One that has its snapshot goes on; one that has none, since nobody answered, is begun anew.
        """
        if self.state is State.SYNCED and (self._audit is None or self._audit.found is None):
            self._audit = Audit(self.seq)

    def answer(self, found: RestBook, now: int) -> list[AnyEvent]:
        """The audit's snapshot: a book that differs ends."""
        if self._audit is None or self._audit.found is not None:
            return []
        if not self._audit.answer(found, now):
            self.counts["stale_snapshots"] += 1
            return []
        return self._conclude(now)

    def reset(self, reason: ResetReason, now: int, detail: str = "", *, incomplete: bool = False) -> Reset:
        """Forget the book. The sequence goes on, so that a gap across the reset would still show."""
        self._forget()
        return Reset(
            **self._common(now), ts=None, seq=self.seq, reason=str(reason), incomplete=incomplete, detail=detail
        )

    def reconnect(self, identity: Identity) -> None:
        """A new connection: sequence numbers start afresh. The caller publishes its Reset."""
        self.identity, self.seq = identity, None
        self._forget()
        self.expected = self._streamed

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

    def _reset_by(self, count: str, reason: ResetReason, now: int, detail: str) -> Reset:
        self.counts[count] += 1
        return self.reset(reason, now, detail)

    def _forget(self) -> None:
        self.state, self._audit, self._ts, self._last = State.WAITING, None, None, None
        self.expected = False
        self._bridge.clear()

    def _cross(self, now: int) -> list[AnyEvent]:
        span = self._bridge.tried(self.seq)
        if span is Span.OLD:
            self.counts["stale_snapshots"] += 1
            self.state, self._bridge.found = State.WAITING, None
        if span is not Span.REACHED or self._bridge.found is None:
            return []
        return self._sync(self._bridge.found, now)

    def _sync(self, found: RestBook, now: int) -> list[AnyEvent]:
        self.book.replace(found.bids, found.asks)
        self._reach = Reach.of(found)
        self._ts = self._bridge.ts
        while self._bridge.held:
            self._apply(self._bridge.held.popleft())
        self._synced()
        return self.restate(now, refresh=False)

    def _synced(self) -> None:
        self.state, self._bridge.found, self._audit, self.expected = State.SYNCED, None, None, False
        self.counts["snapshots"] += 1

    def _apply(self, delta: BookDelta) -> BookDelta:
        """The diff as readers need it: with the deletions that the exchange keeps to itself."""
        self.book.apply(delta.bids, delta.asks)
        self._ts = delta.ts
        if self.depth is None:
            return delta
        bids, asks = self.book.truncate(self.depth)
        if bids or asks:
            return msgspec.structs.replace(delta, bids=delta.bids + bids, asks=delta.asks + asks)
        return delta

    def _conclude(self, now: int) -> list[AnyEvent]:
        """Compare once the diffs have reached the audit's snapshot; without a number it `settle`s."""
        if self._audit is None or self._audit.found is None:
            return []
        seq = self._audit.found.seq
        return self._compare(now) if seq is not None and self.seq is not None and self.seq >= seq else []

    def _compare(self, now: int) -> list[AnyEvent]:
        audit, self._audit = self._audit, None
        assert audit is not None and audit.found is not None
        self.counts["audits"] += 1
        held = Reach.held(self.book, self.levels if self.depth is None else self.depth)
        differing = audit.differing(self.book, self._reach.within(held))
        self.counts["drifted"] += differing
        if differing:
            detail = f"{differing} levels differ from a fresh snapshot at {self.seq}"
            return [self._reset_by("mismatches", ResetReason.MISMATCH, now, detail)]
        if self._reach.shallow(Reach.of(audit.found), self.book):
            return [self._reset_by("stale", ResetReason.STALE, now, "the market has left the depth that was known")]
        return []

    def _common(self, now: int) -> Stamp:
        return {**self.identity, "capture_ts": now, "skew": self._skew()}
