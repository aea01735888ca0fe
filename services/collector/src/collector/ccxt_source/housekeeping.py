"""What has to happen now and then beside the sockets: watchdogs, heartbeats, refreshes, audits."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from math import inf

from collector.ccxt_source.exchange import CcxtConfig
from collector.ccxt_source.follower import Follower
from collector.ccxt_source.outlet import Outlet
from collector.ccxt_source.resync import Resync
from collector.ccxt_source.tap import Line, Tap
from collector.patience import Patience
from collector.pipeline import Pipeline
from collector.silence import Silence
from collector.skew import Skew
from fluxforge.clock import NS, Clock
from fluxforge.events import AnyEvent

_log = logging.getLogger(__name__)

TICK_S = 0.25


class Housekeeping:
    """One for each session; `followers` by symbol; `audit` compares a book with a fresh snapshot, None: never."""

    def __init__(
        self,
        tap: Tap,
        followers: Mapping[str, Follower],
        config: CcxtConfig,
        *,
        outlet: Outlet,
        pipeline: Pipeline,
        silence: Silence,
        skew: Skew,
        clock: Clock,
        publish: Callable[[Follower, list[AnyEvent], int], None],
        resync: Resync,
        audit: Callable[[Follower], None] | None,
    ) -> None:
        self._tap, self._followers, self._config = tap, followers, config
        self._outlet, self._pipeline, self._skew, self._clock = outlet, pipeline, skew, clock
        self._publish, self._resync, self._silence, self._audit = publish, resync, silence, audit
        self._by_key = {follower.key: follower for follower in followers.values()}
        self._lines: dict[str, Patience] = {}

    def opened(self, line: Line) -> None:
        """A new socket."""
        self._lines.setdefault(line.url, self._patience()).opened(self._clock.monotonic())
        receive = line.client.receive

        def with_room() -> object:
            return self._after_room(receive) if self._pipeline.full else receive()

        line.client.receive = with_room

    def heard(self, line: Line) -> None:
        """A frame came."""
        self._lines[line.url].heard(line.heard)

    async def run(self) -> None:
        """Until cancelled."""
        ticked = self._clock.monotonic()
        due = schedule(self._by_key, ticked, self._config.refresh_interval, self._config.audit_interval)
        while True:
            await asyncio.sleep(TICK_S)
            mono, now = self._clock.monotonic(), self._clock.now()
            try:
                self._outlet.tick()
                self._watch(mono)
                self._heartbeats(mono, now)
                if mono - ticked >= 1.0:
                    ticked = mono
                    self._tick(mono, now, due)
            except Exception:  # the sockets go on whatever this trips over
                _log.exception("%s: housekeeping failed", self._config.exchange)

    def _watch(self, mono: float) -> None:
        for line in list(self._tap.lines.values()):
            patience = self._lines[line.url]
            if line.open and patience.expired(mono):
                self._resync.stalled(line, f"connected, but no data for {patience.silence(mono):.1f} s")

    def _heartbeats(self, mono: float, now: int) -> None:
        if not self._skew.known and self._outlet.stamped:
            return  # without an estimate of the exchange's clock a heartbeat would say nothing
        ts = now + self._skew.value - NS if self._skew.known else None
        for key in self._silence.due(now):
            follower = self._by_key[key]
            if self._sound(follower, mono):
                self._publish(follower, follower.heartbeat(now, ts), now)

    def _tick(self, mono: float, now: int, due: dict[str, tuple[float, float]]) -> None:
        for key, follower in self._by_key.items():
            if self._alive(follower):
                self._publish(follower, follower.tick(now), now)
            if follower.wants_snapshot:
                self._resync.book(follower)
            else:
                self._resync.kept(follower)
            if key in self._pipeline.shedding and self._pipeline.has_room:
                self._publish(follower, follower.restate(now, refresh=False), now)
            refresh, audit = due[key]
            if mono >= refresh:
                refresh = mono + self._config.refresh_interval
                self._publish(follower, follower.restate(now, refresh=True), now)
            if mono >= audit and self._audit is not None:
                audit = mono + self._config.audit_interval
                self._audit(follower)
            due[key] = (refresh, audit)

    def _alive(self, follower: Follower) -> bool:
        """Whether the book's socket stands: without one nothing of it can be stale."""
        line = self._line(follower, "orderbook")
        return line is not None and line.open

    def _sound(self, follower: Follower, mono: float) -> bool:
        lines = [line for channel in follower.sockets if (line := self._line(follower, channel)) is not None]
        if len(lines) < len(follower.sockets) or not lines:
            return False
        return all(line.open and mono - self._last(line) <= self._config.stall_timeout for line in lines)

    def _last(self, line: Line) -> float:
        """When the socket last gave a sign of life, monotonic s."""
        pong_ms = line.client.lastPong
        if pong_ms is None:
            return line.heard
        since_pong = self._clock.now() / NS - float(pong_ms) / 1000
        return max(line.heard, self._clock.monotonic() - since_pong)

    def _line(self, follower: Follower, channel: str) -> Line | None:
        socket = follower.sockets.get(channel)
        return next((line for line in self._tap.lines.values() if line.id == socket), None)

    def _patience(self) -> Patience:
        return Patience(self._config.stall_timeout, self._clock.monotonic())

    async def _after_room(self, receive: Callable[[], object]) -> object:
        """The socket waits while the log cannot take more."""
        await self._pipeline.room()
        return await receive()  # type: ignore[misc]


def schedule(keys: Collection[str], mono: float, refresh: float, audit: float) -> dict[str, tuple[float, float]]:
    """When each key is first restated and audited, from `mono` on, by their intervals (s); no audit without one.

    Audits are spread over the second half of their interval.
    """
    return {
        key: (mono + refresh, mono + audit * (1 + at / len(keys)) / 2 if audit else inf) for at, key in enumerate(keys)
    }
