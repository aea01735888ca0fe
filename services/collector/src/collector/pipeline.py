"""From the sockets' loop to the log: a bounded queue and one writing thread.

The policy, by the number of events waiting:

    below capacity      everything is taken
    from capacity on    book updates and tickers are shed: the first one of a key becomes Reset(overflow), the rest are
                        counted, until a whole book of that key finds room again (less than half the capacity)
    from 2 × capacity   heartbeats and refreshes are shed too, and the sockets must wait for `room`

Trades, Resets and whole books of new connections are never dropped.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from math import inf

from collector.backoff import Backoff
from collector.stats import Stats
from fluxforge import codec, metrics
from fluxforge.clock import MS
from fluxforge.errors import LogError, LogUnavailable
from fluxforge.events import KIND_OF, AnyEvent, BookDelta, BookSnapshot, Heartbeat, Reset, ResetReason, Ticker
from fluxforge.log import Appender, Output

_log = logging.getLogger(__name__)
CLOSE_S = 30.0
"""How long a closing pipeline waits for a log that does not answer."""
_KIND_NAMES = {cls: kind.name.lower() for cls, kind in KIND_OF.items()}


class Pipeline:
    """Hands events to an Appender without ever blocking the event loop.

    capacity  events waiting from which on load is shed
    chunk     events handed to the writing thread at once
    linger    s that a first event waits for company: wake-ups cost more than events
    """

    def __init__(
        self,
        appender: Appender,
        topic: str,
        *,
        stats: Stats,
        capacity: int = 100_000,
        fmt: codec.Format = "msgpack",
        chunk: int = 2_000,
        linger: float = 0.005,
    ) -> None:
        self.shedding: set[str] = set()
        self.rejected = 0
        self._appender, self._topic, self._fmt = appender, topic, fmt
        self._stats, self._capacity, self._chunk, self._linger = stats, capacity, chunk, linger
        self._queue: deque[AnyEvent] = deque()
        self._in_flight = 0
        self._wake = asyncio.Event()
        self._closing = False
        self._give_up_at = inf
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="log-writer")

    def __len__(self) -> int:
        """Events captured and not yet durable."""
        return len(self._queue) + self._in_flight + self._appender.pending()

    @property
    def full(self) -> bool:
        """Whether sockets must wait for `room`."""
        return len(self) >= 2 * self._capacity

    @property
    def has_room(self) -> bool:
        """Whether a shed book may start again."""
        return len(self) < self._capacity // 2

    async def room(self) -> None:
        """Wait until the queue is below twice its capacity."""
        while self.full and not self._closing:  # noqa: ASYNC110  what the log has pending raises no event
            await asyncio.sleep(0.02)

    def offer(self, event: AnyEvent) -> bool:
        """Queue one event; false where it was shed."""
        if self._must_shed(event):
            return False
        self._push(event)
        return True

    async def run(self) -> None:
        """Write until `close`. Raises LogUnavailable when the log does not answer any more even then."""
        loop = asyncio.get_running_loop()
        while self._queue or not self._closing:
            if not self._queue:
                self._wake.clear()
                await self._wake.wait()
                if not self._closing:
                    await asyncio.sleep(self._linger)
                continue
            chunk = [self._queue.popleft() for _ in range(min(self._chunk, len(self._queue)))]
            self._in_flight = len(chunk)
            await loop.run_in_executor(self._writer, self._write, chunk)
            self._in_flight = 0
        await loop.run_in_executor(self._writer, self._appender.close)
        self._writer.shutdown(wait=False)

    def close(self) -> None:
        """Take no more waiting: `run` drains the queue, closes the appender and returns."""
        self._closing = True
        self._give_up_at = time.monotonic() + CLOSE_S
        self._wake.set()

    def _must_shed(self, event: AnyEvent) -> bool:
        over = len(self) >= self._capacity
        if not over and not self.shedding:
            return False
        if self._sheds(event, over):
            self._stats.add(metrics.SHED, event.source, event.exchange)
            return True
        return False

    def _sheds(self, event: AnyEvent, over: bool) -> bool:
        shedding = event.key in self.shedding
        match event:
            case BookSnapshot(refresh=True):
                return over or shedding
            case BookSnapshot() if shedding and self.has_room:
                self.shedding.discard(event.key)
                return False
            case BookSnapshot() | BookDelta():
                if over and not shedding:
                    self.shedding.add(event.key)
                    self._push(_overflow(event, len(self)))
                return over or shedding
            case Ticker():
                return over
            case Heartbeat():
                return self.full
            case _:
                return False

    def _push(self, event: AnyEvent) -> None:
        if isinstance(event, Reset):
            self._stats.add(metrics.RESETS, event.source, event.exchange, event.reason)
        self._stats.add(metrics.EVENTS, event.source, event.exchange, _KIND_NAMES[type(event)])
        if not self._queue:
            self._wake.set()
        self._queue.append(event)

    def _write(self, chunk: list[AnyEvent]) -> None:
        for event in chunk:
            value, headers = codec.encode(event, self._fmt), codec.headers(event)
            output = Output(self._topic, event.key.encode(), value, headers, timestamp=event.capture_ts // MS)
            self._append(output, event.key)

    def _append(self, output: Output, key: str) -> None:
        backoff = Backoff(0.1, 5.0)
        while True:
            try:
                return self._appender.append(output)
            except LogUnavailable as error:
                if time.monotonic() > self._give_up_at:
                    raise
                wait = backoff.next()
                _log.warning("the log does not answer, trying again in %.1f s: %s", wait, error)
                time.sleep(wait)
            except LogError:
                self.rejected += 1
                _log.exception("an event of %s could not be stored", key)
                return None


def _overflow(event: BookDelta | BookSnapshot, waiting: int) -> Reset:
    return Reset(
        exchange=event.exchange,
        symbol=event.symbol,
        native=event.native,
        source=event.source,
        collector=event.collector,
        connection=event.connection,
        ts=None,
        capture_ts=event.capture_ts,
        skew=event.skew,
        clock=event.clock,
        seq=event.seq,
        reason=str(ResetReason.OVERFLOW),
        detail=f"{waiting} events wait for the log",
    )
