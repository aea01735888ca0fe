"""Faults that last for a while: what they do to whoever comes in the meantime."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web

from fluxforge.clock import Clock
from simulator.faults import SPELL_KINDS, Fault
from simulator.market import Answers, Market
from simulator.truth import Stale
from simulator.venue import Answer, Desk, Query, Venue

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Spells:
    """Which of them are on, and their effects; a later one of a kind replaces an earlier one."""

    def __init__(self, venue: Venue, desk: Desk, clock: Clock) -> None:
        self._venue, self._desk, self._clock = venue, desk, clock
        self._until = dict.fromkeys(SPELL_KINDS, 0.0)
        self._faults: dict[str, Fault] = {}
        self._stale = Stale(desk.market, desk.truth)

    def begin(self, fault: Fault) -> None:
        self._until[fault.kind] = self._clock.monotonic() + fault.seconds
        self._faults[fault.kind] = fault
        self._act()
        asyncio.get_running_loop().call_later(fault.seconds + 0.001, self._act)

    def on(self, kind: str) -> Fault | None:
        """The fault of that kind which is on."""
        return self._faults[kind] if self._clock.monotonic() < self._until[kind] else None

    def _act(self) -> None:
        """Carry those that are on, or over, to where they act."""
        clock = self.on("clock")
        self._desk.market.ahead_ms = clock.ms if clock else 0
        self._desk.rejecting = self.on("reject") is not None

    @web.middleware
    async def gate(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refusals and rate-limit answers; control always passes."""
        if request.path.startswith("/control/"):
            return await handler(request)
        if self.on("refuse") and request.transport is not None:
            request.transport.abort()
            return web.Response(status=503)
        if http := self.on("http"):
            return self._refusal(http, max(1, round(self._until["http"] - self._clock.monotonic())))
        return await handler(request)

    async def rest(self, path: str, query: Query) -> tuple[Answer, web.Response]:
        """The venue's answer, and what becomes of it."""
        market: Answers | Market = self._stale if self.on("stale") else self._desk.market
        answer = self._venue.rest(market, path, query)
        if answer.snapshot_of is not None:
            if slow := self.on("slow"):
                await asyncio.sleep(slow.ms / 1000)
            if rest := self.on("rest"):
                return answer, self._refusal(rest, 1)
        return answer, web.Response(
            status=answer.status, body=answer.body, content_type="application/json", headers=answer.headers
        )

    def _refusal(self, fault: Fault, wait: int) -> web.Response:
        return web.Response(
            status=fault.status,
            body=self._venue.busy(fault.status),
            content_type="application/json",
            headers={"Retry-After": str(wait)},
        )
