"""Everything configured of one exchange, over as many ccxt.pro instances as its limits ask for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from functools import partial
from typing import Any

import ccxt.pro

from collector.backoff import Backoff
from collector.ccxt_source.capabilities import keeps_changes
from collector.ccxt_source.dialects import DIALECTS, Dialect
from collector.ccxt_source.exchange import CcxtConfig, listed, make_exchange, share_markets
from collector.ccxt_source.limits import Limit, limit_of
from collector.ccxt_source.outlet import Outlet
from collector.ccxt_source.rest_tap import RestTap
from collector.ccxt_source.session import Session
from collector.ccxt_source.subscriptions import Plan, channels_of
from collector.pipeline import Origin, Pipeline
from collector.stats import Stats
from fluxforge import metrics
from fluxforge.clock import NS, Clock
from fluxforge.events import Trade

_log = logging.getLogger(__name__)

GAUGES_S = 1.0


class CcxtCollector:
    """One exchange by the ccxt road; `resume` as in `Session`."""

    def __init__(
        self,
        config: CcxtConfig,
        pipeline: Pipeline,
        stats: Stats,
        clock: Clock,
        resume: Mapping[str, Trade] | None = None,
    ) -> None:
        self._resume = resume
        self._config, self._pipeline, self._stats, self._clock = config, pipeline, stats, clock
        self._instances: list[Any] = []
        self._exchange = self._new_exchange()
        self.sessions: list[Session] = []
        self._outlet = Outlet(pipeline, clock, follows_books="orderbook" in config.channels)

    async def run(self) -> None:
        """Collect until cancelled. Raises UnknownSymbol when the exchange lists none of the symbols."""
        try:
            await self._load_markets()
            markets = self._exchange.markets
            found = {symbol: markets[symbol] for symbol in listed(self._config, markets)}
            channels = channels_of(self._exchange, self._config.channels)
            shares = deal(found, len(channels), self._limit)
            self.sessions = [self._new_session(share, channels, first=not at) for at, share in enumerate(shares)]
            async with asyncio.TaskGroup() as group:
                group.create_task(self._gauges())
                for session in self.sessions:
                    group.create_task(session.run())
        finally:
            self._outlet.close()
            await asyncio.gather(*(instance.close() for instance in self._instances), return_exceptions=True)

    @property
    def waits_for(self) -> str:
        """As `collector.collect.Source`."""
        name = self._config.exchange
        up = sum(any(line.open for line in session.tap.lines.values()) for session in self.sessions)
        if not self.sessions:
            return f"{name}: no list of markets yet"
        return "" if up == len(self.sessions) else f"{name}: {up} of {len(self.sessions)} clients are connected"

    @property
    def _limit(self) -> Limit:
        return limit_of(self._config.exchange)

    @property
    def _dialect(self) -> Dialect | None:
        return DIALECTS.get(self._config.exchange)

    async def _load_markets(self) -> None:
        backoff = Backoff()
        while True:
            try:
                await self._exchange.load_markets()
                return
            except ccxt.BaseError as error:
                wait = backoff.next()
                _log.warning("%s: no list of markets yet, again in %.1f s: %s", self._config.exchange, wait, error)
                await asyncio.sleep(wait)

    def _new_session(self, markets: Mapping[str, Any], channels: list[str], *, first: bool) -> Session:
        exchange = self._exchange
        if not first:
            exchange = self._new_exchange()
            share_markets(self._exchange, exchange)
        dialect = self._dialect
        plan = Plan(
            self._limit.batch,
            dialect.alone if dialect else frozenset(),
            *((partial(dialect.depth, wanted=self._config.book_levels),) if dialect else ()),
        )
        sampled = dialect is None and not keeps_changes(self._config.exchange)
        return Session(
            exchange, markets, channels, self._config, dialect=dialect, plan=plan, sampled=sampled, outlet=self._outlet,
            pipeline=self._pipeline, stats=self._stats, clock=self._clock, resume=self._resume,
        )  # fmt: skip

    def _new_exchange(self) -> Any:
        exchange = make_exchange(self._config)
        origin = Origin(self._config.exchange, "ccxt", self._config.collector)
        RestTap(exchange, lambda about, body: self._pipeline.capture(origin, "", self._clock.now(), body, about))
        self._instances.append(exchange)
        return exchange

    async def _gauges(self) -> None:
        labels = ("ccxt", self._config.exchange)
        while True:
            await asyncio.sleep(GAUGES_S)
            lines = [line for session in self.sessions for line in session.tap.lines.values()]
            metrics.CONNECTED.labels(*labels).set(sum(line.open for line in lines))
            if self.sessions and self.sessions[0].skew.known:
                metrics.SKEW.labels(*labels).set(self.sessions[0].skew.value / NS)
            for session in self.sessions:
                session.count()


def deal(markets: Mapping[str, Any], channels: int, limit: Limit) -> list[dict[str, Any]]:
    """Symbols → shares that one instance carries, of about equal size."""
    names = list(markets)
    most = max(1, limit.connection // max(channels, 1)) if limit.connection else len(names) or 1
    shares = -(-len(names) // most)
    return [{name: markets[name] for name in names[at::shares]} for at in range(shares)]
