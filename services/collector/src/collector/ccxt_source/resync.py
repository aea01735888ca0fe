"""How one symbol's book begins anew, without troubling the others where the exchange allows it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import ccxt.pro

from collector.backoff import Backoff
from collector.ccxt_source.dialects import Dialect, Request
from collector.ccxt_source.exchange import CcxtConfig
from collector.ccxt_source.follower import Follower
from collector.ccxt_source.repairs import Repairs
from collector.ccxt_source.subscriptions import Plan
from collector.ccxt_source.tap import Line, Tap
from collector.stats import Stats
from fluxforge import metrics
from fluxforge.clock import Clock

_log = logging.getLogger(__name__)

ANSWER_S = 5.0
"""A snapshot that was asked for may take this long."""


class _Asked(NamedTuple):
    """When a book was last asked for, and when it may be again, monotonic s."""

    at: float
    not_before: float
    backoff: Backoff


class Resync:
    """Asks for a book's snapshot: over REST, by subscribing again, or by a new socket where neither is possible.

    The same book is asked for again only after a time that grows up to five minutes while it does not keep. Books of
    one socket that break at once are asked for at once: an exchange counts our messages.
    """

    def __init__(
        self,
        exchange: Any,
        tap: Tap,
        dialect: Dialect | None,
        plan: Plan,
        repairs: Repairs,
        clock: Clock,
        stats: Stats,
        config: CcxtConfig,
    ) -> None:
        self._exchange, self._tap, self._dialect, self._plan = exchange, tap, dialect, plan
        self._repairs, self._clock, self._stats, self._name = repairs, clock, stats, config.exchange
        self._asked: dict[str, _Asked] = {}
        self._broken: dict[str, list[Follower]] = {}
        self._sending: set[asyncio.Task[None]] = set()

    def book(self, follower: Follower) -> None:
        """The book of `follower` is to begin anew."""
        if self._dialect is not None and self._dialect.rest_levels:
            self._repairs.book(follower)
            return
        mono = self._clock.monotonic()
        asked = self._asked.get(follower.key) or _Asked(0.0, 0.0, Backoff(ANSWER_S, 300.0))
        line = self._line(follower)
        if mono < asked.not_before or line is None:
            return
        self._asked[follower.key] = _Asked(mono, mono + max(ANSWER_S, asked.backoff.next()), asked.backoff)
        if self._dialect is not None and self._dialect.again is not None:
            broken = self._broken.setdefault(line.id, [])
            broken.append(follower)
            if len(broken) == 1:
                asyncio.get_running_loop().call_soon(self._again, line)
        else:
            self._replace(line, f"the book of {follower.key} is wrong")

    def send(self, line: Line, requests: Sequence[Request]) -> None:
        """Requests of our own, on ccxt's socket."""
        if requests:
            task = asyncio.create_task(self._send(line, requests))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    def kept(self, follower: Follower) -> None:
        """The book has been sound for a while: the next trouble is a first one."""
        asked = self._asked.get(follower.key)
        if asked is not None and self._clock.monotonic() > asked.at + 2 * ANSWER_S:
            del self._asked[follower.key]

    def stalled(self, line: Line, why: str) -> None:
        """A socket is dead; ccxt opens another."""
        self._stats.add(metrics.DISCONNECTS, "ccxt", self._name, "stalled")
        self._replace(line, why)

    def _again(self, line: Line) -> None:
        """Subscribe to the socket's broken books anew."""
        assert self._dialect is not None and self._dialect.again is not None
        by_depth: dict[int | None, list[str]] = {}
        for follower in self._broken.pop(line.id):
            depth = self._plan.depth(self._exchange.markets[follower.identity["symbol"]])
            by_depth.setdefault(depth, []).append(follower.identity["native"])
        size = self._plan.batch
        for depth, natives in by_depth.items():
            for at in range(0, len(natives), size):
                self.send(line, self._dialect.again(line.parser, natives[at : at + size], depth))

    def _replace(self, line: Line, why: str) -> None:
        line.client.on_error(ccxt.NetworkError(why))

    async def _send(self, line: Line, requests: Sequence[Request]) -> None:
        cost = (self._exchange.options.get("ws") or {}).get("cost")
        try:
            for request in requests:
                if cost is not None:
                    await line.client.throttle(cost)
                await line.client.send(request)
        except (OSError, ccxt.BaseError) as error:
            _log.warning("%s: a request could not be sent: %r", self._name, error)

    def _line(self, follower: Follower) -> Line | None:
        socket = follower.sockets.get("orderbook")
        return next((line for line in self._tap.lines.values() if line.id == socket and line.open), None)
