"""The symbols of one connection: frames in, events to the pipeline. Knows no socket."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from os import urandom

from collector.counted import Counted
from collector.identity import Identity
from collector.market import Market, Taken
from collector.patience import Patience
from collector.pipeline import Origin, Pipeline
from collector.repairs import Repairs
from collector.silence import Silence
from collector.skew import Skew
from collector.stats import Stats
from collector.venue import Parser, Rest, Venue
from collector.wire import Beat, Gap, Reply, RestBook
from fluxforge import metrics
from fluxforge.clock import NS, Clock
from fluxforge.errors import FrameError
from fluxforge.events import AnyEvent, BookDelta, Event, Trade

_log = logging.getLogger(__name__)

QUIET_BOOK_S = 0.5
"""A symbol without a diff gets its REST snapshot after this long."""
SNAPSHOT_S = 10.0
"""A subscription has this long to bring the snapshot it begins with."""


@dataclass(frozen=True)
class NativeConfig:
    """What one native collector follows. Times in s.

    audit_interval  between comparisons of a book with a fresh REST snapshot; 0: none
    read_batch      for which arriving frames are left in the socket; 0: they are read at once
    """

    venue: Venue
    symbols: tuple[str, ...]
    channels: tuple[str, ...]
    collector: str
    stall_timeout: float = 20.0
    refresh_interval: float = 60.0
    audit_interval: float = 300.0
    read_batch: float = 0.0


class Feed:
    """What one connection brings.

    symbols   native → unified
    renew     asks for fresh snapshots of native symbols in the stream
    resume    the last trades in the log from an earlier life of this collector, by key
    """

    def __init__(
        self,
        config: NativeConfig,
        symbols: Mapping[str, str],
        rest: Rest,
        *,
        renew: Callable[[Sequence[str]], Awaitable[None]],
        pipeline: Pipeline,
        stats: Stats,
        clock: Clock,
        resume: Mapping[str, Trade],
    ) -> None:
        self._config, self._symbols, self._venue = config, symbols, config.venue
        self._pipeline, self._stats, self._clock = pipeline, stats, clock
        self._labels = (config.venue.name, config.venue.name)  # source, exchange
        self._origin = Origin(config.venue.name, config.venue.name, config.collector)
        self._connection = ""
        self.skew = Skew()
        self._parser = self._new_parser("")
        self.markets = {native: self._new_market(native) for native in symbols}
        for market in self.markets.values():
            if market.key in resume:
                market.line.resume(resume[market.key])
        self._by_key = {market.key: market for market in self.markets.values()}
        self._silence = Silence(self._by_key, clock.now())
        self.repairs = Repairs(
            config.venue.name,
            rest,
            clock,
            publish=self._publish,
            parse=self._parse_trades,
            renew=renew,
            streamed=config.venue.streamed,
        )
        for market in self.markets.values():
            pipeline.ledger.expect(market.identity, clock.now())
        self._counted = Counted(stats, self._labels, pipeline.ledger)
        self.frames = self._frames_counted = 0
        self._verified_at: float | None = None
        self.heard = 0.0
        self.patience = Patience(config.stall_timeout, clock.monotonic())
        self.got_data = False
        self._due = self._schedule(self.heard)

    def opened(self) -> None:
        """A new socket stands."""
        now = self._clock.now()
        self._stats.add(metrics.CONNECTS, *self._labels)
        self.skew = Skew()
        self._connection = connection = f"{self._config.collector}-{urandom(4).hex()}"
        self._parser = self._new_parser(connection)
        self.heard = self._clock.monotonic()
        self.patience.opened(self.heard)
        self._verified_at, self.got_data = None, False
        self._due = self._schedule(self.heard)
        for native, market in self.markets.items():
            self._publish(market, market.connected(self._identity(native, connection), now), now)

    @property
    def verified(self) -> bool:
        """Whether the exchange has confirmed every subscription of this socket."""
        return self._verified_at is not None

    def verify(self) -> None:
        """It has."""
        self._verified_at = self._clock.monotonic()
        for market in self.markets.values():
            if market.holding:
                self.repairs.trades(market)

    def frame(self, frame: bytes) -> list[Reply]:
        """Everything one frame says goes where it belongs; the answers to our requests are returned."""
        now, mono = self._clock.now(), self._clock.monotonic()
        self.frames += 1
        self._pipeline.capture(self._origin, self._connection, now, frame)
        try:
            found = self._parser.parse(frame, now)
        except FrameError as error:
            self._stats.add(metrics.BAD_FRAMES, *self._labels)
            _log.warning("%s", error)
            return []
        replies: list[Reply] = []
        past: dict[str, list[Trade]] = {}
        for each in found:
            if isinstance(each, Event):
                if isinstance(each, Trade) and each.backfilled:
                    past.setdefault(each.native, []).append(each)
                else:
                    self._take(each, now, mono)
            elif isinstance(each, Reply):
                replies.append(each)
            elif isinstance(each, Gap) and each.native is None:
                self._lost(each, now)
            elif not isinstance(each, (Beat, RestBook)):
                self._take(each, now, mono)
        for native, trades in past.items():
            if market := self._market(native):
                self._publish(market, market.past(trades, now), now)
        if found:
            self.heard = mono
        return replies

    def heartbeats(self) -> None:
        """For keys that are silent while the connection is sound."""
        now = self._clock.now()
        sound = self._clock.monotonic() - self.heard <= self._config.stall_timeout
        if not self.verified or not sound or not self.skew.known:
            return  # without an estimate of the exchange's clock a heartbeat would say nothing
        ts = now + self.skew.value - NS
        for key in self._silence.due(now):
            market = self._by_key[key]
            self._publish(market, market.heartbeat(now, ts), now)

    def tick(self) -> None:
        """About once a second."""
        mono, now = self._clock.monotonic(), self._clock.now()
        for native, market in self.markets.items():
            self._publish(market, market.tick(now), now)
            if market.key in self._pipeline.shedding and self._pipeline.has_room:
                self._publish(market, market.restate(now, refresh=False), now)
            self._keep_up(native, market, mono, now)
        if self.skew.known:
            metrics.SKEW.labels(*self._labels).set(self.skew.value / NS)
        self.count()

    async def closed(self) -> None:
        """The socket is gone."""
        await self.repairs.cancel()
        self.count()

    def let_go(self) -> None:
        """The end: what is held back goes out as it is."""
        for market in self.markets.values():
            if market.holding:
                self.repairs.give_up(market, "the collector stopped")
        self.count()

    def count(self) -> None:
        """Bring the statistics up to date."""
        self._counted.publish(self.markets.values())
        for kind, count in self._parser.skipped.items():
            self._stats.add(metrics.SKIPPED, *self._labels, kind, n=count)
        self._parser.skipped.clear()
        self._stats.add(metrics.FRAMES, *self._labels, n=self.frames - self._frames_counted)
        self._frames_counted = self.frames

    def _take(self, found: Taken, now: int, mono: float) -> None:
        market = self._market(found.native)
        if market is None:
            return
        if isinstance(found, Event):
            self.patience.heard(mono)
            self.got_data = True
        self._publish(market, market.take(found, now), now)
        if market.wants_snapshot and (self._venue.streamed or isinstance(found, BookDelta)):
            self.repairs.book(market)
        if market.holding and isinstance(found, Trade) and self.verified:
            self.repairs.trades(market)

    def _lost(self, gap: Gap, now: int) -> None:
        """Frames of the connection are missing, and nobody knows of which symbol; trade ids show what trades are."""
        for market in self.markets.values():
            if market.follows_books:
                self._publish(market, market.take(gap, now), now)
                self.repairs.book(market)

    def _keep_up(self, native: str, market: Market, mono: float, now: int) -> None:
        """What is due of one market: a snapshot that does not come by itself, a restatement, an audit."""
        if self._verified_at is not None:
            waited = mono - self._verified_at
            if waited > SNAPSHOT_S:
                market.sync.expected = False
            if market.wants_snapshot and waited > QUIET_BOOK_S:
                self.repairs.book(market)
        refresh, audit = self._due[native]
        if mono >= refresh:
            refresh = mono + self._config.refresh_interval
            self._publish(market, market.restate(now, refresh=True), now)
        if mono >= audit:
            audit = mono + self._config.audit_interval
            if market.follows_books:
                self.repairs.audit(market)
        self._due[native] = (refresh, audit)

    def _schedule(self, mono: float) -> dict[str, tuple[float, float]]:
        """When each market is first restated and audited; audits are spread over their interval."""
        refresh, audit = self._config.refresh_interval, self._config.audit_interval or float("inf")
        share = 1 / len(self._symbols)
        return {
            native: (mono + refresh, mono + audit * (0.5 + 0.5 * at * share)) for at, native in enumerate(self._symbols)
        }

    def _market(self, native: str | None) -> Market | None:
        market = self.markets.get(native or "")
        if market is None:
            self._stats.add(metrics.SKIPPED, *self._labels, "not-subscribed")
        return market

    def _publish(self, market: Market, events: Iterable[AnyEvent], now: int) -> None:
        for event in events:
            self._pipeline.offer(event)
        if events:
            self._silence.heard(market.key, now)

    def _parse_trades(self, body: bytes, native: str, now: int) -> list[Trade]:
        return self._parser.trades(body, native, now)

    def _new_parser(self, connection: str) -> Parser:
        return self._venue.parser(self._config.collector, connection, self._symbols, self.skew)

    def _new_market(self, native: str) -> Market:
        return Market(
            self._identity(native, ""),
            self._config.channels,
            lambda: self.skew.value,
            summing=self._venue.summing,
            streamed=self._venue.streamed,
            stall=self._config.stall_timeout,
        )

    def _identity(self, native: str, connection: str) -> Identity:
        return Identity(
            exchange=self._venue.name,
            symbol=self._symbols[native],
            native=native,
            source=self._venue.name,
            collector=self._config.collector,
            connection=connection,
        )
