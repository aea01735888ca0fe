"""One symbol of one native adapter: book and trades in one order. Pure; its shell does the fetching."""

from __future__ import annotations

from collections.abc import Callable, Collection

from collector.binance import RestBook
from collector.book_sync import BookSync
from collector.identity import Identity, Stamp
from collector.trade_line import TradeLine
from fluxforge.events import AnyEvent, BookDelta, Heartbeat, Reset, ResetReason, Trade


class Market:
    """Every method returns the events to publish, in order; `now` in ns.

    channels  what is followed: orderbook, trades, ticker
    skew      the connection's clock skew, ns
    """

    def __init__(self, identity: Identity, channels: Collection[str], skew: Callable[[], int]) -> None:
        self.identity = identity
        self.key = f"{identity['exchange']}|{identity['symbol']}"
        self.sync = BookSync(identity, skew)
        self.line = TradeLine(self._new_reset)
        self._follows_books = "orderbook" in channels
        self._follows_trades = "trades" in channels
        self._skew = skew
        self._now = 0

    @property
    def wants_snapshot(self) -> bool:
        return self._follows_books and self.sync.wants_snapshot

    @property
    def holding(self) -> bool:
        """Whether events are held back for missed trades."""
        return self.line.held_since is not None

    def connected(self, identity: Identity, now: int) -> list[AnyEvent]:
        """A new connection stands."""
        self._now = now
        self.identity = identity
        self.sync.reconnect(identity)
        return self.line.reconnect(now, expect_trades=self._follows_trades)

    def take(self, event: AnyEvent, now: int) -> list[AnyEvent]:
        """A parsed event."""
        if isinstance(event, BookDelta):
            return self._pass(self.sync.diff(event), now)
        return self.line.take(event, now)

    def snapshot(self, found: RestBook, now: int) -> list[AnyEvent]:
        """A REST depth snapshot."""
        return self._pass(self.sync.snapshot(found, now), now)

    def tick(self, now: int) -> list[AnyEvent]:
        """About once a second."""
        return self._pass([*self.sync.settle(now), *self.sync.check(now)], now)

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
        return [passed for event in events for passed in self.line.take(event, now)]

    def _new_reset(self, reason: ResetReason, incomplete: bool, detail: str) -> Reset:
        return Reset(
            **self._stamp(self._now), ts=None, seq=None, reason=str(reason), incomplete=incomplete, detail=detail
        )

    def _stamp(self, now: int) -> Stamp:
        return {**self.identity, "capture_ts": now, "skew": self._skew()}
