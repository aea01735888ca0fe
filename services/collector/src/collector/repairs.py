"""What is fetched or asked for to make a connection's stream whole: books, missed trades, snapshots for audits."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import aiohttp

from collector import fetches
from collector.backoff import Backoff
from collector.fetches import Fetches, hold_until
from collector.market import Market
from collector.venue import Rest, RestError
from fluxforge.clock import Clock
from fluxforge.errors import MarketDataError
from fluxforge.events import AnyEvent, Trade

_log = logging.getLogger(__name__)

RENEW_S = 5.0
"""How long the stream has to bring the snapshots asked for."""
RENEW_POLL_S = 0.05
AUDIT_LEVELS = 500
"""Levels a side of an audit's snapshot: enough for every feature, and cheap to ask for."""
CACHED_S = 2.0
"""An audit without sequence numbers begins this long before its request: answers may come from a cache."""
FAILURES = (aiohttp.ClientError, OSError, TimeoutError, MarketDataError)


class Repairs:
    """At most one fetch of each kind per market.

    publish  takes a market, its events and the time (ns)
    parse    a trades answer, the native symbol and the time → trades
    renew    asks for fresh snapshots of native symbols in the stream
    """

    def __init__(
        self,
        exchange: str,
        rest: Rest,
        clock: Clock,
        *,
        publish: Callable[[Market, list[AnyEvent], int], None],
        parse: Callable[[bytes, str, int], list[Trade]],
        renew: Callable[[Sequence[str]], Awaitable[None]],
        streamed: bool,
    ) -> None:
        self._exchange, self._rest, self._clock = exchange, rest, clock
        self._publish, self._parse, self._renew, self._streamed = publish, parse, renew, streamed
        self._fetches = Fetches(exchange)
        self._wanted: dict[str, Market] = {}

    def book(self, market: Market) -> None:
        """Get a snapshot of a market that wants one."""
        if self._streamed:
            self._wanted[market.key] = market
            self._fetches.start("snapshots", self._exchange, self._renew_books)
        else:
            self._fetches.start("depth", market.key, partial(self._fetch_book, market))

    def trades(self, market: Market) -> None:
        """Fetch the trades that a market holds its events for."""
        self._fetches.start("trades", market.key, partial(self._fetch_trades, market))

    def audit(self, market: Market) -> None:
        """Compare a market's book with a fresh REST snapshot."""
        self._fetches.start("audit", market.key, partial(self._audit, market))

    def give_up(self, market: Market, why: str, trades: Sequence[Trade] = ()) -> None:
        """Let what is held go, behind a Reset that says why trades are missing."""
        _log.warning("%s: trades of %s are missing: %s", self._exchange, market.key, why)
        now = self._clock.now()
        self._publish(market, market.give_up(why, list(trades), now), now)

    async def cancel(self) -> None:
        """End every fetch."""
        await self._fetches.cancel()
        self._wanted.clear()

    async def _fetch_book(self, market: Market) -> None:
        backoff = Backoff(0.25, 10.0)
        while market.wants_snapshot:
            wait = 0.0
            try:
                async with self._fetches.books_gate:
                    found = await self._rest.book(market.identity["native"])
                now = self._clock.now()
                self._publish(market, market.snapshot(found, now), now)
            except FAILURES as error:
                wait = error.retry_after if isinstance(error, RestError) else 0.0
                _log.warning("%s: no depth snapshot of %s yet: %s", self._exchange, market.key, say(error))
            if market.wants_snapshot:
                await asyncio.sleep(max(wait, backoff.next()))

    async def _renew_books(self) -> None:
        """One request for every book that wants a snapshot, until none does."""
        backoff = Backoff(0.25, 10.0)
        while wanting := [market for market in self._wanted.values() if market.wants_snapshot]:
            self._wanted.clear()
            await self._renew([market.identity["native"] for market in wanting])
            until = self._clock.monotonic() + RENEW_S
            while self._clock.monotonic() < until:
                if not any(market.wants_snapshot for market in wanting):
                    break
                await asyncio.sleep(RENEW_POLL_S)
            late = [market for market in wanting if market.wants_snapshot]
            self._wanted |= {market.key: market for market in late}
            if late:
                await asyncio.sleep(backoff.next())

    async def _audit(self, market: Market) -> None:
        native = market.identity["native"]
        if not market.audit():
            return
        if self._streamed:
            await asyncio.sleep(CACHED_S)
        try:
            async with self._fetches.books_gate:
                found = await self._rest.book(native, AUDIT_LEVELS)
            now = self._clock.now()
            self._publish(market, market.answer(found, now), now)
        except FAILURES as error:
            _log.info("%s: no snapshot to compare %s with: %s", self._exchange, market.key, say(error))

    async def _fetch_trades(self, market: Market) -> None:
        deadline = hold_until(self._clock, market.line.held_since)
        backoff = Backoff(0.25, 2.0)
        trades: list[Trade] = []
        why = f"not fetched within {fetches.HOLD_S:g} s"
        while (first := market.line.missing_from) is not None:
            left = deadline - self._clock.monotonic()
            if left <= 0:
                self.give_up(market, why, trades)
                deadline = self._clock.monotonic() + fetches.HOLD_S
                continue
            try:
                async with asyncio.timeout(left):
                    trades, final = await self._trades_since(market, first)
                now = self._clock.now()
                released = market.fill(trades, now)
                if released is not None:
                    self._publish(market, released, now)
                    continue
                if final:
                    deadline, why = 0.0, "the exchange gives no older ones"
                    continue
            except FAILURES as error:
                why = say(error)
                _log.warning("%s: missed trades of %s: %s", self._exchange, market.key, why)
            await asyncio.sleep(min(backoff.next(), max(deadline - self._clock.monotonic(), 0.0)))

    async def _trades_since(self, market: Market, first: int) -> tuple[list[Trade], bool]:
        """Trades from id `first` on, by rising id; and whether asking again would not reach further back."""
        native = market.identity["native"]
        pages = await self._rest.trades_since(native, first, market.line.last_ts)
        now = self._clock.now()
        by_id = {int(trade.id): trade for body in pages.bodies for trade in self._parse(body, native, now)}
        return [by_id[number] for number in sorted(by_id)], pages.final


def say(error: BaseException) -> str:
    """An error as a person reads it; some exceptions have no text of their own."""
    return str(error) or type(error).__name__
