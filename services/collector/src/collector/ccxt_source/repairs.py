"""What is fetched through ccxt's REST to make a symbol's stream whole: depth snapshots and missed trades."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import ccxt.pro
import msgspec

from collector import fetches
from collector.backoff import Backoff
from collector.ccxt_source.follower import Follower
from collector.ccxt_source.structures import trade_of
from collector.fetches import Fetches, hold_until
from collector.levels import pack
from collector.wire import RestBook
from collector.wire.head import Head
from fluxforge.clock import MS, Clock
from fluxforge.events import AnyEvent, Trade

_log = logging.getLogger(__name__)

CACHED_S = 2.0
"""An audit begins this long before its request: answers may come from a cache."""
PAGE = 1_000
PAGES = 5
_FAILURES = (ccxt.BaseError, OSError, TimeoutError, ValueError, TypeError, LookupError, ArithmeticError)


class Repairs:
    """At most one fetch of each kind per symbol.

    levels   of a depth snapshot
    audited  of one that an audit compares; None: as many as the exchange gives
    numbered whether the number of a REST book is one of the stream's
    head     makes a symbol's events
    publish  takes a follower, its events and the time (ns)
    maker    whether the exchange's REST trades, and so ccxt's, name the maker's side
    """

    def __init__(
        self,
        exchange: Any,
        clock: Clock,
        *,
        levels: int,
        audited: int | None,
        numbered: bool,
        head: Callable[[Follower], Head],
        publish: Callable[[Follower, list[AnyEvent], int], None],
        maker: bool = False,
    ) -> None:
        self._exchange, self._clock, self._levels, self._maker = exchange, clock, levels, maker
        self._audited, self._numbered = audited, numbered
        self._head, self._publish = head, publish
        self._fetches = Fetches(exchange.id)

    def book(self, follower: Follower) -> None:
        """Fetch the depth of a symbol that wants it."""
        self._fetches.start("depth", follower.key, partial(self._fetch_book, follower))

    def trades(self, follower: Follower) -> None:
        """Fetch the trades that a symbol holds its events for."""
        self._fetches.start("trades", follower.key, partial(self._fetch_trades, follower))

    def audit(self, follower: Follower) -> None:
        """Compare a symbol's book with a fresh REST snapshot."""
        self._fetches.start("audit", follower.key, partial(self._audit, follower))

    def give_up(self, follower: Follower, why: str, trades: Sequence[Trade] = ()) -> None:
        """Let what is held go, behind a Reset that says why trades are missing."""
        _log.warning("%s: trades of %s may be missing: %s", self._exchange.id, follower.key, why)
        now = self._clock.now()
        self._publish(follower, follower.give_up(why, list(trades), now), now)

    async def cancel(self) -> None:
        """End every fetch."""
        await self._fetches.cancel()

    async def _fetch_book(self, follower: Follower) -> None:
        backoff = Backoff(0.25, 10.0)
        while follower.wants_snapshot:
            try:
                async with self._fetches.books_gate:
                    book = await self._exchange.fetch_order_book(follower.identity["symbol"], self._levels)
                now = self._clock.now()
                self._publish(follower, follower.snapshot(_rest_book(book, self._levels), now), now)
            except _FAILURES as error:
                _log.warning("%s: no depth snapshot of %s yet: %r", self._exchange.id, follower.key, error)
            if follower.wants_snapshot:
                await asyncio.sleep(backoff.next())

    async def _audit(self, follower: Follower) -> None:
        if not follower.audit():
            return
        if not self._numbered:
            await asyncio.sleep(CACHED_S)
        try:
            async with self._fetches.books_gate:
                book = await self._exchange.fetch_order_book(follower.identity["symbol"], self._audited)
            found = _rest_book(book, self._audited or 1)
            now = self._clock.now()
            self._publish(follower, follower.answer(found if self._numbered else found._replace(seq=None), now), now)
        except _FAILURES as error:
            _log.info("%s: no snapshot to compare %s with: %r", self._exchange.id, follower.key, error)

    async def _fetch_trades(self, follower: Follower) -> None:
        if not self._exchange.has.get("fetchTrades"):
            self.give_up(follower, "the exchange gives no trades over REST")
            return
        deadline, backoff = hold_until(self._clock, follower.line.held_since), Backoff(0.25, 2.0)
        trades: list[Trade] = []
        why = f"not fetched within {fetches.HOLD_S:g} s"
        while follower.holding:
            left = deadline - self._clock.monotonic()
            if left <= 0:
                self.give_up(follower, why, trades)
                deadline = self._clock.monotonic() + fetches.HOLD_S
                continue
            try:
                async with asyncio.timeout(left):
                    trades = await self._newest(follower)
                    released = follower.fill(trades, self._clock.now())
                    if released is None:
                        trades = await self._further_back(follower, trades)
                        released = follower.fill(trades, self._clock.now())
                if released is not None:
                    self._publish(follower, released, self._clock.now())
                    continue
                why = f"{len(trades)} trades over REST do not reach back to the last one"
            except _FAILURES as error:
                why = f"{type(error).__name__}: {error}"
                _log.warning("%s: missed trades of %s: %s", self._exchange.id, follower.key, why)
            await asyncio.sleep(min(backoff.next(), max(deadline - self._clock.monotonic(), 0.0)))

    async def _newest(self, follower: Follower) -> list[Trade]:
        return self._parsed(follower, await self._exchange.fetch_trades(follower.identity["symbol"], None, PAGE))

    async def _further_back(self, follower: Follower, newest: list[Trade]) -> list[Trade]:
        """Older trades, forwards from the last one we have, where the exchange goes by time."""
        since = follower.line.last_ts
        found = {trade.id: trade for trade in newest}
        for _ in range(PAGES):
            if not newest or not since or since >= (newest[0].ts or 0):
                break
            page = self._parsed(
                follower, await self._exchange.fetch_trades(follower.identity["symbol"], since // MS, PAGE)
            )
            new = [trade for trade in page if trade.id not in found]
            found |= {trade.id: trade for trade in new}
            if not new:
                break
            since = max(trade.ts or 0 for trade in page)
        return follower.line.ordered(list(found.values()))

    def _parsed(self, follower: Follower, records: Sequence[Any]) -> list[Trade]:
        head, now = self._head(follower), self._clock.now()
        trades = [trade_of(head, record, now, backfilled=True) for record in records]
        if self._maker:
            trades = [msgspec.structs.replace(trade, side=-trade.side) for trade in trades]
        return follower.line.ordered(trades)


def _rest_book(book: Any, limit: int) -> RestBook:
    sides = [[(float(level[0]), float(level[1])) for level in book[side]] for side in ("bids", "asks")]
    nonce = book.get("nonce")
    return RestBook(None if nonce is None else int(nonce), pack(sides[0]), pack(sides[1]), limit)
