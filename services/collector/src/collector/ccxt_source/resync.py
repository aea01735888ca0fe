"""How one symbol's book begins anew, without troubling the others where the exchange allows it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import ccxt.pro

from collector.backoff import Backoff
from collector.ccxt_source.dialects import Dialect, Request
from collector.ccxt_source.exchange import CcxtConfig
from collector.ccxt_source.follower import Follower
from collector.ccxt_source.repairs import Repairs
from collector.ccxt_source.tap import Line, Tap
from collector.stats import Stats
from fluxforge import metrics
from fluxforge.clock import Clock

_log = logging.getLogger(__name__)

ANSWER_S = 5.0
"""A snapshot that was asked for may take this long."""


class Resync:
    """Asks for a book's snapshot: over REST, by subscribing again, or by a new socket where neither is possible.

    The same book is asked for again only after a time that grows up to five minutes while it does not keep.
    """

    def __init__(
        self,
        tap: Tap,
        dialect: Dialect | None,
        depth: int | None,
        repairs: Repairs,
        clock: Clock,
        stats: Stats,
        config: CcxtConfig,
    ) -> None:
        self._tap, self._dialect, self._depth, self._repairs, self._clock = tap, dialect, depth, repairs, clock
        self._stats, self._exchange = stats, config.exchange
        self._asked: dict[str, tuple[float, Backoff]] = {}
        self._sending: set[asyncio.Task[None]] = set()

    def book(self, follower: Follower) -> None:
        """The book of `follower` is to begin anew."""
        if self._dialect is not None and self._dialect.rest_levels:
            self._repairs.book(follower)
            return
        mono = self._clock.monotonic()
        not_before, backoff = self._asked.get(follower.key, (0.0, Backoff(ANSWER_S, 300.0)))
        line = self._line(follower)
        if mono < not_before or line is None:
            return
        self._asked[follower.key] = mono + max(ANSWER_S, backoff.next()), backoff
        if self._dialect is not None and self._dialect.again is not None:
            self.send(line, self._dialect.again(line.parser, follower.identity["native"], self._depth))
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
        if asked is not None and self._clock.monotonic() > asked[0] + 2 * ANSWER_S:
            del self._asked[follower.key]

    def stalled(self, line: Line, why: str) -> None:
        """A socket is dead; ccxt opens another."""
        self._stats.add(metrics.DISCONNECTS, "ccxt", self._exchange, "stalled")
        self._replace(line, why)

    def _replace(self, line: Line, why: str) -> None:
        line.client.on_error(ccxt.NetworkError(why))

    async def _send(self, line: Line, requests: Sequence[Request]) -> None:
        try:
            for request in requests:
                await line.client.send(request)
        except (OSError, ccxt.BaseError) as error:
            _log.warning("%s: a request could not be sent: %r", self._exchange, error)

    def _line(self, follower: Follower) -> Line | None:
        socket = follower.sockets.get("orderbook")
        return next((line for line in self._tap.lines.values() if line.id == socket and line.open), None)
