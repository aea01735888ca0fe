"""One symbol: book and trades in one order. Pure; its shell does the fetching."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from collector.book_sync import BookSync
from collector.identity import Identity, Stamp
from collector.patience import Patience
from collector.text_book import Summing
from collector.trade_line import TradeLine
from collector.wire import Checksum, Gap, RestBook, Void
from fluxforge.clock import NS
from fluxforge.events import AnyEvent, BookDelta, BookSnapshot, Heartbeat, Reset, ResetReason, Trade

Taken = AnyEvent | Checksum | Gap | Void
"""What a parser finds of one symbol."""


class Market:
    """Every method returns the events to publish, in order; `now` in ns.

    channels  what is followed: orderbook, trades, ticker
    skew      the connection's clock skew, ns
    summing, streamed  see `BookSync`
    stall     s without an update after which a busy book on a living connection is stale
    """

    def __init__(
        self,
        identity: Identity,
        channels: Collection[str],
        skew: Callable[[], int],
        *,
        summing: Summing | None = None,
        streamed: bool = False,
        stall: float = 20.0,
    ) -> None:
        self.identity = identity
        self.key = f"{identity['exchange']}|{identity['symbol']}"
        self.sync = BookSync(identity, skew, summing=summing, streamed=streamed)
        self.line = TradeLine(self._new_reset)
        self.follows_books = "orderbook" in channels
        self._follows_trades = "trades" in channels
        self._skew = skew
        self._now = 0
        self._books = Patience(stall, 0.0)

    @property
    def wants_snapshot(self) -> bool:
        return self.follows_books and self.sync.wants_snapshot

    @property
    def holding(self) -> bool:
        """Whether events are held back for missed trades."""
        return self.line.held_since is not None

    def connected(self, identity: Identity, now: int) -> list[AnyEvent]:
        """A new connection stands."""
        self._now = now
        self.identity = identity
        self.sync.reconnect(identity)
        self._books.opened(now / NS)
        return self.line.reconnect(now, expect_trades=self._follows_trades)

    def take(self, found: Taken, now: int) -> list[AnyEvent]:
        """What the parser found."""
        if isinstance(found, BookDelta):
            self._books.heard(now / NS)
            return self._pass(self.sync.diff(found), now)
        if isinstance(found, BookSnapshot):
            self._books.heard(now / NS)
            return self._pass(self.sync.whole(found), now)
        if isinstance(found, Checksum):
            return self._pass(self.sync.checksum(found, now), now)
        if isinstance(found, Gap):
            return self._pass([self.sync.gap(now, found.detail)], now)
        return self.line.take(found, now)

    def past(self, trades: Sequence[Trade], now: int) -> list[AnyEvent]:
        """Past trades, by rising id, as a subscription begins with."""
        self._now = now
        return self.line.past(trades, now)

    def snapshot(self, found: RestBook, now: int) -> list[AnyEvent]:
        """A REST depth snapshot."""
        return self._pass(self.sync.snapshot(found, now), now)

    def answer(self, found: RestBook, now: int) -> list[AnyEvent]:
        """The REST depth snapshot of an audit."""
        return self._pass(self.sync.answer(found, now), now)

    def audit(self) -> bool:
        """Begin a comparison with a fresh REST snapshot; whether one must be fetched, for `answer`."""
        self.sync.audit()
        return self.sync.wants_answer

    def tick(self, now: int) -> list[AnyEvent]:
        """About once a second, on a living connection."""
        out = [*self.sync.settle(now), *self.sync.check(now)]
        if self.follows_books and self._books.busy and self._books.expired(now / NS):
            silence = self._books.silence(now / NS)
            self._books.opened(now / NS)
            if not self.sync.wants_snapshot:
                out.append(self.sync.stale(now, f"no update for {silence:.1f} s on a living connection"))
        return self._pass(out, now)

    def restate(self, now: int, *, refresh: bool) -> list[AnyEvent]:
        """The synced book, if it is one."""
        return self._pass(self.sync.restate(now, refresh=refresh), now)

    def heartbeat(self, now: int, ts: int) -> list[AnyEvent]:
        """No heartbeat while events are held back: time must not outrun them."""
        return [] if self.holding else [Heartbeat(**self._stamp(now), ts=ts)]

    def fill(self, trades: list[Trade], now: int) -> list[AnyEvent] | None:
        """Trades fetched over REST; None where they do not fill the hole yet."""
        self._now = now
        return self.line.fill(trades)

    def give_up(self, why: str, trades: list[Trade], now: int) -> list[AnyEvent]:
        """The hole stays: a Reset says so, and readers get the book again behind it."""
        self._now = now
        return [*self.line.give_up(why, trades), *self.restate(now, refresh=False)]

    def _pass(self, events: list[AnyEvent], now: int) -> list[AnyEvent]:
        if self.line.held_since is None:
            return events
        return [passed for event in events for passed in self.line.take(event, now)]

    def _new_reset(self, reason: ResetReason, incomplete: bool, detail: str) -> Reset:
        return Reset(
            **self._stamp(self._now), ts=None, seq=None, reason=str(reason), incomplete=incomplete, detail=detail
        )

    def _stamp(self, now: int) -> Stamp:
        return {**self.identity, "capture_ts": now, "skew": self._skew()}
