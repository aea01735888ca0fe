"""Plays a market to the hub: on a clock, or as fast as the sockets take it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from fluxforge.clock import Clock
from fluxforge.errors import ConfigError
from simulator.hub import Hub
from simulator.market import MS, NS, Frame, Hold, Market

RESOLUTION = 0.005
"""s between wake-ups at most this often: frames due within it leave in one write, which is what saves CPU."""

BATCH = 256


@dataclass(frozen=True)
class Start:
    """When the market begins.

    streams  as soon as so many streams have subscribers; 0 is at once, None only on request
    """

    streams: int | None = 1

    @classmethod
    def parse(cls, text: str) -> Start:
        """`now`, `first` (subscription), `control`, or a number of streams. Raises ConfigError."""
        names: dict[str, int | None] = {"now": 0, "first": 1, "control": None}
        if text in names:
            return cls(names[text])
        if text.isdigit():
            return cls(int(text))
        raise ConfigError(f"start = {text!r}", hint="now, first, control, or a number of streams")


class Pump:
    """Takes a market's frames one by one and hands them to `publish`, each at its time.

    speed     market seconds per second; None plays as fast as the slowest subscriber reads, loses nothing, and stands
              still while fewer streams are subscribed to than were needed to start
    patience  s (wall clock) to wait at a Hold for the snapshot, where somebody has subscribed to that depth
    """

    def __init__(
        self,
        market: Market,
        hub: Hub,
        publish: Callable[[Frame | Hold], None],
        *,
        speed: float | None,
        start: Start,
        patience: float,
        clock: Clock,
    ) -> None:
        if speed is not None and speed <= 0:
            raise ConfigError(f"speed = {speed}", hint="a number above 0, or max")
        self.started, self.ended = asyncio.Event(), asyncio.Event()
        self.at = 0
        self._market, self._hub, self._publish = market, hub, publish
        self._speed, self._patience, self._clock = speed, patience, clock
        self._running = asyncio.Event()
        self._least = 0 if speed is not None else 1
        self._needed = self._least if start.streams is None else start.streams
        if start.streams is not None:
            self._running.set()
        self._asked: set[str] = set()
        self._snapshot = asyncio.Event()

    def resume(self) -> None:
        """Begin, or go on after `pause`; does not wait for subscribers."""
        if not self.started.is_set():
            self._needed = self._least
        self._running.set()
        self._hub.changed.set()

    def pause(self) -> None:
        """Stand still until `resume`."""
        self._running.clear()

    @property
    def paused(self) -> bool:
        return not self._running.is_set()

    def snapshot_asked(self, symbol: str) -> None:
        """The depth of `symbol` was given to somebody."""
        self._asked.add(symbol)
        self._snapshot.set()

    async def run(self) -> None:
        """Play to the end."""
        await self._enough()
        self._needed = max(self._needed, self._least)
        self._market.begin(self._clock.now() // MS)
        self.started.set()
        frames = self._market.frames()
        if self._speed is None:
            await self._flat_out(frames)
        else:
            await self._on_clock(frames, self._speed)
        self.ended.set()

    async def _on_clock(self, frames: Iterator[Frame | Hold], speed: float) -> None:
        item = next(frames, None)
        if item is None:
            return
        begun, origin = self._clock.monotonic(), item.at
        while item is not None:
            if self.paused or isinstance(item, Hold):
                stopped = self._clock.monotonic()
                await self._running.wait()
                if isinstance(item, Hold):
                    await self._hold(item.symbol)
                    self._publish(item)
                    item = next(frames, None)
                begun += self._clock.monotonic() - stopped
                continue
            horizon = origin + int((self._clock.monotonic() - begun) * speed * NS)
            count = 0
            while isinstance(item, Frame) and item.at <= horizon and count < BATCH:
                self.at = item.at
                self._publish(item)
                item = next(frames, None)
                count += 1
            self._hub.flush(self._clock.monotonic())
            self._hub.cut_slow()
            behind = count == BATCH or isinstance(item, Hold) or item is None
            await asyncio.sleep(0 if behind else max(RESOLUTION, (item.at - horizon) / speed / NS if item else 0))

    async def _flat_out(self, frames: Iterator[Frame | Hold]) -> None:
        count = 0
        for item in frames:
            if isinstance(item, Hold):
                self._hub.flush(self._clock.monotonic())
                await self._hold(item.symbol)
                self._publish(item)
                continue
            self.at = item.at
            self._publish(item)
            count += 1
            if count % BATCH == 0:
                self._hub.flush(self._clock.monotonic())
                await asyncio.sleep(0)
                await self._hub.drained()
                await self._enough()
        self._hub.flush(self._clock.monotonic())

    async def _enough(self) -> None:
        """Wait until the market may run and enough streams have subscribers."""
        while self.paused or self._hub.subscribed < self._needed:
            self._hub.changed.clear()
            await self._hub.changed.wait()

    async def _hold(self, symbol: str) -> None:
        """Wait until those who rebuild `symbol`'s book have asked for its snapshot."""
        deadline = self._clock.monotonic() + self._patience
        while self._hub.watches_depth(symbol) and symbol not in self._asked:
            left = deadline - self._clock.monotonic()
            if left <= 0:
                return
            self._snapshot.clear()
            try:
                await asyncio.wait_for(self._snapshot.wait(), min(left, 0.2))
            except TimeoutError:
                continue
