"""One symbol of the ccxt road, whose channels may live on several sockets, and whose book ccxt may keep. Pure."""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection

from collector.bridge import SETTLE_NS
from collector.ccxt_source.kept_audit import KeptAudit
from collector.ccxt_source.seen_line import SeenLine
from collector.identity import Identity
from collector.market import Market, Taken
from collector.text_book import Summing
from collector.wire import RestBook
from fluxforge.clock import NS
from fluxforge.events import AnyEvent, BookSnapshot, Heartbeat, ResetReason, Trade

EXPECT_NS = 5 * NS
"""So long after a socket's first word of a book its snapshot may take."""
_PRICE = struct.Struct("<d")


class Follower(Market):
    """A Market by socket and channel.

    consecutive  whether trade ids rise by one
    parsed       whether our own parser reads the book, so that it is kept here; else ccxt keeps it, and every
                 BookSnapshot is one update of it
    levels       levels a side that the stream carries of a book that is kept here; None: all
    sockets      channel → the connection that serves it
    """

    def __init__(
        self,
        identity: Identity,
        channels: Collection[str],
        skew: Callable[[], int],
        *,
        consecutive: bool,
        parsed: bool,
        streamed: bool = True,
        levels: int | None = None,
        summing: Summing | None = None,
        stall: float = 20.0,
    ) -> None:
        super().__init__(identity, channels, skew, summing=summing, streamed=streamed, stall=stall)
        self.sockets: dict[str, str] = {}
        self.sync.levels = levels
        if not consecutive:
            self.line = SeenLine(self._new_reset)
        self._parsed = parsed
        self._since = 0
        self._crossed = self._broken = self._differed = False
        self._resumed = False
        self._latest: BookSnapshot | None = None
        self._audit: KeptAudit | None = None

    @property
    def wants_snapshot(self) -> bool:
        """Whether the book must begin anew."""
        if "orderbook" not in self.sockets:
            return False
        return super().wants_snapshot if self._parsed else self._broken

    def resume(self, trade: Trade) -> None:
        """Before the first connection: the newest trade that is in the log from an earlier life."""
        self.line.resume(trade)
        self._resumed = True

    def on_socket(self, channel: str, connection: str, now: int) -> list[AnyEvent]:
        """This socket has brought data of a channel: across a new one nothing may be differenced."""
        if self.sockets.get(channel) == connection:
            return []
        first, again = not self.sockets, channel in self.sockets
        self.sockets[channel] = connection
        self._since = now
        identity: Identity = {**self.identity, "connection": connection}
        if first:
            return self.connected(identity, now)
        self._now = now
        if channel == "orderbook":
            self.identity = identity
            self.sync.reconnect(identity)
            self._books.opened(now / NS)
            self._latest = self._audit = None
            return self._pass([self._new_reset(ResetReason.RECONNECT, False, "the book's socket is new")], now)
        if channel == "trades" and (again or self._may_have_missed):
            return self.line.reconnect(now, expect_trades=True)
        return []

    @property
    def _may_have_missed(self) -> bool:
        """Whether what was fetched for an earlier life may end before the subscription of trades began."""
        return self._resumed and not self.holding and isinstance(self.line, SeenLine)

    def take(self, found: Taken, now: int) -> list[AnyEvent]:
        """What was found of this symbol."""
        if isinstance(found, BookSnapshot) and not self._parsed:
            self._books.heard(now / NS)
            self._broken = False
            if self._audit is not None:
                self._audit.update(found)
            self._latest = found
            self._crossed = bool(found.bids and found.asks) and _best(found.bids) >= _best(found.asks)
            return self.line.take(found, now)
        return super().take(found, now)

    def lost(self, reason: ResetReason, now: int, detail: str) -> list[AnyEvent]:
        """Updates of a book that ccxt keeps are missing; it begins anew by itself."""
        self._now, self._audit = now, None
        return self._pass([self._new_reset(reason, False, detail)], now)

    def audit(self) -> bool:
        """As of a Market; a book that ccxt keeps is compared as it was last copied."""
        if self._parsed:
            return super().audit()
        if self._latest is not None and not self._broken:
            self._audit = KeptAudit(self._latest)
        return self._audit is not None

    def answer(self, found: RestBook, now: int) -> list[AnyEvent]:
        """The REST depth snapshot of an audit."""
        if self._parsed:
            return super().answer(found, now)
        if self._audit is not None:
            self._audit.answer(found, now)
        return []

    def lost_trades(self, now: int) -> list[AnyEvent]:
        """Trades of this connection may be missing: hold until that is known. Ids that rise by one tell it anyway."""
        self._now = now
        return self.line.reconnect(now, expect_trades=True) if isinstance(self.line, SeenLine) else []

    def tick(self, now: int) -> list[AnyEvent]:
        """About once a second, on a living connection."""
        if self._parsed:
            if now - self._since > EXPECT_NS:
                self.sync.expected = False
            return super().tick(now)
        if (differing := self._differing(now)) and not self._differed:
            self._differed = self._broken = True
            self.sync.counts["mismatches"] += 1
            return self.lost(ResetReason.MISMATCH, now, f"{differing} levels differ from a fresh snapshot")
        why = ""
        if self._crossed:
            self.sync.counts["crossed"] += 1
            why = "crossed book"
        elif self._books.busy and self._books.expired(now / NS):
            self.sync.counts["stale"] += 1
            why = f"no update for {self._books.silence(now / NS):.1f} s on a living connection"
            self._books.opened(now / NS)
        if not why:
            return []
        self._crossed, self._broken = False, True
        return self.lost(ResetReason.STALE, now, why)

    def _differing(self, now: int) -> int:
        """Levels of ccxt's book that an audit has found to differ.

        A second time in a row it is not the book: the exchange's stream and REST do not say the same.
        """
        if self._audit is None or not self._audit.due(now - SETTLE_NS):
            return 0
        differing, self._audit = self._audit.differing(), None
        self.sync.counts["audits"] += 1
        self.sync.counts["drifted"] += differing
        self._differed = self._differed and bool(differing)
        return differing

    def heartbeat(self, now: int, ts: int | None) -> list[AnyEvent]:
        """No heartbeat while events are held back: time must not outrun them. `ts` None: the key runs on our clock."""
        return [] if self.holding else [Heartbeat(**self._stamp(now), ts=ts)]

    def fill(self, trades: list[Trade], now: int) -> list[AnyEvent] | None:
        """Trades fetched over REST, oldest first; behind their Reset readers get a book that did not suffer again."""
        released = super().fill(trades, now)
        return None if released is None else [*released, *self.restate(now, refresh=False)]


def _best(side: bytes) -> float:
    price: float = _PRICE.unpack_from(side)[0]
    return price
