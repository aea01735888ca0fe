"""From the sockets' loop to the log: at once while it keeps up, else through a bounded queue and a thread that waits.

The policy, by the number of events waiting:

    below capacity      everything is taken
    from capacity on    book updates, tickers and captured frames are shed: the first book update of a key becomes
                        Reset(overflow), the rest are counted, until a whole book of that key finds room again (less
                        than half the capacity)
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
from typing import NamedTuple

from collector.backoff import Backoff
from collector.identity import identity_of
from collector.ledger import Ledger
from collector.stats import Stats
from fluxforge import codec, metrics
from fluxforge.clock import MS
from fluxforge.errors import LogError, LogUnavailable, RecordsLost
from fluxforge.events import KIND_OF, AnyEvent, BookDelta, BookSnapshot, Heartbeat, Reset, ResetReason, Ticker, Wire
from fluxforge.log import Appender, Output

_log = logging.getLogger(__name__)
CLOSE_S = 30.0
"""How long a closing pipeline waits for a log that does not answer."""
_KIND_NAMES = {cls: kind.name.lower() for cls, kind in KIND_OF.items()}


class Origin(NamedTuple):
    """Whose frames: fields of `fluxforge.events.Event`."""

    exchange: str
    source: str
    collector: str


class _Lane:
    """What one event of a key needs, looked up once.

    key      the log's
    page     of the coverage ledger; None for what is of no symbol
    tallies  of events, by class
    """

    __slots__ = ("key", "page", "tallies")

    def __init__(self, event: AnyEvent, ledger: Ledger, stats: Stats) -> None:
        self.key = event.key.encode()
        self.page = None if isinstance(event, Wire) else ledger.page(event)
        self.tallies = {
            cls: stats.tally(metrics.EVENTS, event.source, event.exchange, name) for cls, name in _KIND_NAMES.items()
        }


class Pipeline:
    """Hands events to an Appender without ever blocking the event loop.

    capacity  events waiting from which on load is shed
    chunk     events handed to the writing thread at once
    at_once   records pending in the log up to which handing over more cannot wait, and needs no thread
    wire_topic  where what the exchanges send goes untouched; None: nowhere
    ledger    what of each key was offered, and what was shed
    most      events that have waited at once
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
        at_once: int = 5_000,
        wire_topic: str | None = None,
    ) -> None:
        self.shedding: set[str] = set()
        self.rejected = self.most = 0
        self._appender, self._topic, self._fmt = appender, topic, fmt
        self._stats, self._capacity, self._chunk = stats, capacity, chunk
        self._at_once, self._wire_topic = at_once, wire_topic
        self.ledger = Ledger()
        self._lanes: dict[tuple[str, str, str], _Lane] = {}
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
        """Take one event; false where it was shed."""
        waiting = len(self._queue) + self._in_flight + self._appender.pending()
        if waiting > self.most:  # noqa: PLR1730  a call of max costs more, and this is for every event
            self.most = waiting
        if (self.shedding or waiting >= self._capacity) and self._sheds(event, waiting):
            self._stats.add(metrics.SHED, event.source, event.exchange, _KIND_NAMES[type(event)])
            self.ledger.count(event.key, "shed")
            return False
        self._push(event, waiting)
        return True

    def capture(self, origin: Origin, connection: str, now: int, data: str | bytes, about: str = "") -> None:
        """Queue what an exchange has sent, as it is, where that is wanted; `about` as in `fluxforge.events.Wire`."""
        if self._wire_topic is not None:
            exchange, source, collector = origin
            self.offer(
                Wire(
                    exchange=exchange,
                    symbol="",
                    native="",
                    source=source,
                    collector=collector,
                    connection=connection,
                    ts=None,
                    capture_ts=now,
                    data=data.encode() if isinstance(data, str) else data,
                    about=about,
                )
            )

    async def run(self) -> None:
        """Write until `close`.

        Raises LogUnavailable when the log does not answer any more even then, and RecordsLost where it has refused what
        was queued: the next life begins every market with a Reset, a snapshot and the trades that are missing.
        """
        loop = asyncio.get_running_loop()
        while self._queue or not self._closing:
            if not self._queue:
                self._wake.clear()
                await self._wake.wait()
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

    def _sheds(self, event: AnyEvent, waiting: int) -> bool:
        over, shedding = waiting >= self._capacity, event.key in self.shedding
        match event:
            case BookSnapshot(refresh=True):
                return over or shedding
            case BookSnapshot() if shedding and self.has_room:
                self.shedding.discard(event.key)
                return False
            case BookSnapshot() | BookDelta():
                if over and not shedding:
                    self.shedding.add(event.key)
                    self._push(_overflow(event, waiting), waiting)
                return over or shedding
            case Ticker() | Wire():
                return over
            case Heartbeat():
                return self.full
            case _:
                return False

    def _push(self, event: AnyEvent, waiting: int) -> None:
        """Hand over on the loop while the log keeps up, since that only queues there; else leave it to the thread."""
        name = (event.source, event.exchange, event.symbol)
        lane = self._lanes.get(name)
        if lane is None:
            lane = self._lanes[name] = _Lane(event, self.ledger, self._stats)
        lane.tallies[type(event)].n += 1
        if lane.page is not None:
            lane.page.saw(event)
        if isinstance(event, Reset):
            self._stats.add(metrics.RESETS, event.source, event.exchange, event.reason)
        if waiting < self._at_once and not self._queue and not self._in_flight:
            try:
                self._append(event, lane.key)
            except (LogUnavailable, RecordsLost):
                pass  # the writing thread waits, or ends the collector
            else:
                return
        if not self._queue:
            self._wake.set()
        self._queue.append(event)

    def _write(self, chunk: list[AnyEvent]) -> None:
        """On the writing thread, waiting as long as it takes."""
        backoff = Backoff(0.1, 5.0)
        for event in chunk:
            while True:
                try:
                    self._append(event, event.key.encode())
                    break
                except LogUnavailable as error:
                    if time.monotonic() > self._give_up_at:
                        raise
                    wait = backoff.next()
                    _log.warning("the log does not answer, trying again in %.1f s: %s", wait, error)
                    time.sleep(wait)
            backoff.reset()

    def _append(self, event: AnyEvent, key: bytes) -> None:
        """Raises LogUnavailable and RecordsLost; an event that can never be stored is counted and named."""
        value, headers = codec.encode(event, self._fmt), codec.headers(event)
        topic = self._wire_topic if self._wire_topic is not None and isinstance(event, Wire) else self._topic
        output = Output(topic, key, value, headers, event.capture_ts // MS)
        try:
            self._appender.append(output)
        except (LogUnavailable, RecordsLost):
            raise
        except LogError:
            self.rejected += 1
            _log.exception("an event of %s could not be stored", event.key)


def _overflow(event: BookDelta | BookSnapshot, waiting: int) -> Reset:
    return Reset(
        **identity_of(event),
        ts=None,
        capture_ts=event.capture_ts,
        skew=event.skew,
        clock=event.clock,
        seq=event.seq,
        reason=str(ResetReason.OVERFLOW),
        detail=f"{waiting} events wait for the log",
    )
