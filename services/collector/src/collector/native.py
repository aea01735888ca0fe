"""A native adapter: WebSocket connections to one exchange, their books and trades kept whole.

    NativeCollector ── lists the markets, deals the symbols out to connections
      └─ Connection ── socket: connects, subscribes, reads, watches
           └─ Feed ── frames → markets → pipeline; heartbeats, restatements, audits; `Repairs` fetches what is missing
                └─ Market ── one symbol, pure: book (BookSync), trades (TradeLine), order

What is an exchange's own is in its `collector.venues` module (where, what to send, REST) and its `collector.wire`
parser (frames → events).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

import aiohttp

from collector.backoff import Backoff
from collector.connection import Connection
from collector.feed import NativeConfig
from collector.pipeline import Origin, Pipeline
from collector.repairs import FAILURES, say
from collector.stats import Stats
from collector.symbols import native_of
from collector.venue import Rest
from fluxforge.clock import Clock
from fluxforge.errors import UnknownSymbol
from fluxforge.events import Trade

_log = logging.getLogger(__name__)


class NativeCollector:
    """Everything configured of one exchange; `resume` as in `Feed`."""

    def __init__(
        self,
        config: NativeConfig,
        pipeline: Pipeline,
        stats: Stats,
        clock: Clock,
        resume: Mapping[str, Trade] | None = None,
    ) -> None:
        self._config, self._pipeline, self._stats, self._clock = config, pipeline, stats, clock
        self._resume = resume or {}
        self.connections: list[Connection] = []

    async def run(self) -> None:
        """Collect until cancelled. Raises UnknownSymbol when the exchange lists none of the symbols."""
        async with aiohttp.ClientSession(trace_configs=[self._answers()]) as http:
            rest = self._config.venue.rest(http)
            listed = listed_symbols(self._config, await self._markets(rest))
            size = self._config.venue.batch
            names = list(listed)
            for at in range(0, len(names), size):
                dealt = {native: listed[native] for native in names[at : at + size]}
                self.connections.append(
                    Connection(
                        self._config,
                        dealt,
                        rest,
                        pipeline=self._pipeline,
                        stats=self._stats,
                        clock=self._clock,
                        resume=self._resume,
                    )
                )
            async with asyncio.TaskGroup() as group:
                for connection in self.connections:
                    group.create_task(connection.run())

    @property
    def waits_for(self) -> str:
        """As `collector.collect.Source`."""
        name, up = self._config.venue.name, sum(connection.established for connection in self.connections)
        if not self.connections:
            return f"{name}: no list of markets yet"
        return "" if up == len(self.connections) else f"{name}: {up} of {len(self.connections)} sockets are subscribed"

    def _answers(self) -> aiohttp.TraceConfig:
        """REST answers go where captured frames go."""
        trace = aiohttp.TraceConfig()
        origin = Origin(self._config.venue.name, self._config.venue.name, self._config.collector)

        async def answered(_: object, __: object, chunk: aiohttp.TraceResponseChunkReceivedParams) -> None:
            self._pipeline.capture(origin, "", self._clock.now(), chunk.chunk, chunk.url.path_qs)

        trace.on_response_chunk_received.append(answered)
        return trace

    async def _markets(self, rest: Rest) -> dict[str, str]:
        backoff = Backoff()
        while True:
            try:
                return await rest.markets()
            except FAILURES as error:
                wait = backoff.next()
                name = self._config.venue.name
                _log.warning("%s: no list of markets yet, again in %.1f s: %s", name, wait, say(error))
                await asyncio.sleep(wait)


def listed_symbols(config: NativeConfig, markets: dict[str, str]) -> dict[str, str]:
    """Native → unified of the configured symbols that are listed; logs the others.

    Raises UnknownSymbol when none is.
    """
    listed: dict[str, str] = {}
    unknown: UnknownSymbol | None = None
    for symbol in config.symbols:
        try:
            native = native_of(symbol, markets, config.venue.name)
            listed[native] = markets[native]
        except UnknownSymbol as error:
            _log.error("%s", error)
            unknown = error
    if not listed and unknown is not None:
        raise unknown
    return listed
