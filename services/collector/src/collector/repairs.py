"""What is fetched over REST to make a native connection's stream whole: depth snapshots and missed trades."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence

import aiohttp

from collector.backoff import Backoff
from collector.binance_rest import BinanceRest, RestError
from collector.market import Market
from fluxforge.clock import NS, Clock
from fluxforge.errors import MarketDataError
from fluxforge.events import AnyEvent, Trade

_log = logging.getLogger(__name__)

HOLD_S = 10.0
"""Events wait this long for missed trades."""
GRACE_S = 3.0
"""A new connection gets at least this long to fetch them."""
BOOKS_AT_ONCE = 2
_FAILURES = (aiohttp.ClientError, OSError, TimeoutError, MarketDataError)


class Repairs:
    """At most one fetch of each kind per market.

    publish  takes a market, its events and the time (ns)
    parse    a trades answer, the native symbol and the time → trades
    """

    def __init__(
        self,
        exchange: str,
        rest: BinanceRest,
        clock: Clock,
        *,
        publish: Callable[[Market, list[AnyEvent], int], None],
        parse: Callable[[bytes, str, int], list[Trade]],
    ) -> None:
        self._exchange, self._rest, self._clock = exchange, rest, clock
        self._publish, self._parse = publish, parse
        self._running: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._books_gate = asyncio.Semaphore(BOOKS_AT_ONCE)

    def book(self, market: Market) -> None:
        """Fetch the depth of a market that wants it."""
        self._start("depth", market, self._fetch_book)

    def trades(self, market: Market) -> None:
        """Fetch the trades that a market holds its events for."""
        self._start("trades", market, self._fetch_trades)

    def give_up(self, market: Market, why: str, trades: Sequence[Trade] = ()) -> None:
        """Let what is held go, behind a Reset that says why trades are missing."""
        _log.warning("%s: trades of %s are missing: %s", self._exchange, market.key, why)
        now = self._clock.now()
        self._publish(market, market.give_up(why, list(trades), now), now)

    async def cancel(self) -> None:
        """End every fetch."""
        running = list(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        self._running.clear()

    def _start(self, what: str, market: Market, fetch: Callable[[Market], Coroutine[None, None, None]]) -> None:
        if (what, market.key) in self._running:
            return
        task = asyncio.create_task(fetch(market))
        self._running[what, market.key] = task
        task.add_done_callback(lambda done: self._done(what, market, done))

    def _done(self, what: str, market: Market, task: asyncio.Task[None]) -> None:
        if self._running.get((what, market.key)) is task:
            del self._running[what, market.key]
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("%s: fetching the %s of %s failed", self._exchange, what, market.key, exc_info=error)

    async def _fetch_book(self, market: Market) -> None:
        backoff = Backoff(0.25, 10.0)
        while market.wants_snapshot:
            wait = 0.0
            try:
                async with self._books_gate:
                    found = await self._rest.depth(market.identity["native"])
                now = self._clock.now()
                self._publish(market, market.snapshot(found, now), now)
            except _FAILURES as error:
                wait = error.retry_after if isinstance(error, RestError) else 0.0
                _log.warning("%s: no depth snapshot of %s yet: %s", self._exchange, market.key, say(error))
            if market.wants_snapshot:
                await asyncio.sleep(max(wait, backoff.next()))

    async def _fetch_trades(self, market: Market) -> None:
        deadline = self._deadline(market)
        backoff = Backoff(0.25, 2.0)
        trades: list[Trade] = []
        why = f"not fetched within {HOLD_S:g} s"
        while (first := market.line.missing_from) is not None:
            left = deadline - self._clock.monotonic()
            if left <= 0:
                self.give_up(market, why, trades)
                deadline = self._clock.monotonic() + HOLD_S
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
            except _FAILURES as error:
                why = say(error)
                _log.warning("%s: missed trades of %s: %s", self._exchange, market.key, why)
            await asyncio.sleep(min(backoff.next(), max(deadline - self._clock.monotonic(), 0.0)))

    async def _trades_since(self, market: Market, first: int) -> tuple[list[Trade], bool]:
        """Trades from id `first` on, by rising id; and whether asking again would not reach further back."""
        native = market.identity["native"]
        pages = await self._rest.trades_since(native, first)
        now = self._clock.now()
        by_id = {int(trade.id): trade for body in pages.bodies for trade in self._parse(body, native, now)}
        return [by_id[number] for number in sorted(by_id)], pages.final

    def _deadline(self, market: Market) -> float:
        """Monotonic s until which the market's events are held."""
        soonest = self._clock.monotonic() + GRACE_S
        if market.line.held_since is None:
            return soonest
        held = (self._clock.now() - market.line.held_since) / NS
        return max(soonest, self._clock.monotonic() + HOLD_S - held)


def say(error: BaseException) -> str:
    """An error as a person reads it; some exceptions have no text of their own."""
    return str(error) or type(error).__name__
