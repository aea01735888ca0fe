"""One ccxt.pro instance at work: what its sockets say turned into events, what is missing fetched."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import ccxt.pro
import msgspec

from collector.ccxt_source.dialects import Dialect
from collector.ccxt_source.exchange import CcxtConfig
from collector.ccxt_source.follower import Follower
from collector.ccxt_source.followers import followers
from collector.ccxt_source.housekeeping import Housekeeping
from collector.ccxt_source.outlet import Outlet
from collector.ccxt_source.repairs import Repairs
from collector.ccxt_source.resync import Resync
from collector.ccxt_source.structures import book_of, ticker_of, trade_of
from collector.ccxt_source.subscriptions import Plan, Subscriptions
from collector.ccxt_source.tap import Line, Refusal, Tap, Update
from collector.counted import Counted
from collector.identity import Identity
from collector.pipeline import Origin, Pipeline
from collector.silence import Silence
from collector.skew import Skew
from collector.stats import Stats
from collector.wire import Beat, Checksum, Gap, Reply, RestBook, Void
from collector.wire.head import Head
from fluxforge import metrics
from fluxforge.clock import Clock
from fluxforge.errors import FrameError
from fluxforge.events import AnyEvent, BookDelta, BookSnapshot, ResetReason, Ticker, Trade

_log = logging.getLogger(__name__)

CHANNELS: Mapping[type, str] = {
    BookDelta: "orderbook",
    BookSnapshot: "orderbook",
    Trade: "trades",
    Void: "trades",
    Ticker: "ticker",
}
_OF_A_SYMBOL = (BookDelta, BookSnapshot, Trade, Ticker, Checksum, Void)
_UNUSABLE = (ValueError, TypeError, LookupError, ArithmeticError, msgspec.MsgspecError)


class Session:
    """Some symbols (unified → ccxt's market) of one exchange; a tap's Listener.

    dialect  how we read its frames ourselves; None leaves them to ccxt
    sampled  whether the exchange sends whole books only, see `capabilities`
    resume   the last trades in the log from an earlier life of this collector, by key
    """

    def __init__(
        self,
        exchange: Any,
        markets: Mapping[str, Mapping[str, Any]],
        channels: Sequence[str],
        config: CcxtConfig,
        *,
        dialect: Dialect | None,
        plan: Plan,
        sampled: bool = False,
        outlet: Outlet,
        pipeline: Pipeline,
        stats: Stats,
        clock: Clock,
        resume: Mapping[str, Trade] | None = None,
    ) -> None:
        self._markets, self._channels, self._config, self._dialect = markets, channels, config, dialect
        self._exchange, self._outlet, self._stats, self._clock = exchange, outlet, stats, clock
        self._labels = ("ccxt", config.exchange)
        self.skew = Skew()
        self._new_book = partial(book_of, sampled=sampled)
        self.tap = Tap(exchange, config.collector, clock, self)
        if dialect is not None:
            dialect.prepare(exchange)
        self.followers = followers(markets, channels, config, dialect=dialect, plan=plan, skew=self.skew)
        for follower in self.followers.values():
            if resume and follower.key in resume:
                follower.resume(resume[follower.key])
        self._silence = Silence((follower.key for follower in self.followers.values()), clock.now())
        self._subscriptions = Subscriptions(exchange, plan, self._failed)
        levels, maker = (dialect.rest_levels, dialect.maker) if dialect else (0, False)
        audited = dialect.audited if dialect else None
        self._repairs = Repairs(
            exchange, clock, levels=levels, audited=audited, numbered=bool(levels), head=self._rest_head,
            publish=self.publish, maker=maker,
        )  # fmt: skip
        self._resync = Resync(exchange, self.tap, dialect, plan, self._repairs, clock, stats, config)
        self._housekeeping = Housekeeping(
            self.tap, self.followers, config, outlet=outlet, pipeline=pipeline, silence=self._silence, skew=self.skew,
            clock=clock, publish=self.publish, resync=self._resync, audit=self._auditing(sampled),
        )  # fmt: skip
        for follower in self.followers.values():
            pipeline.ledger.expect(follower.identity, clock.now())
        self._counted = Counted(stats, self._labels, pipeline.ledger)
        self._origin, self._pipeline = Origin(config.exchange, "ccxt", config.collector), pipeline

    async def run(self) -> None:
        """Follow until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._housekeeping.run())
                group.create_task(self._subscriptions.run(self._markets, self._channels))
        finally:
            await self._repairs.cancel()
            for follower in self.followers.values():
                if follower.holding:
                    self._repairs.give_up(follower, "the collector stopped")
            self.count()

    def publish(self, follower: Follower, events: list[AnyEvent], now: int) -> None:
        """Events of one symbol, in order."""
        if events:
            self._silence.heard(follower.key, now)
            self._outlet.publish(events)

    def count(self) -> None:
        """Hand what the followers have counted to the statistics."""
        self._counted.publish(self.followers.values())
        for line in self.tap.lines.values():
            if line.parser is not None:
                for kind, n in line.parser.skipped.items():
                    self._stats.add(metrics.SKIPPED, *self._labels, kind, n=n)
                line.parser.skipped.clear()

    def opened(self, line: Line) -> None:
        self._housekeeping.opened(line)
        self._stats.add(metrics.CONNECTS, *self._labels)
        dialect = self._dialect
        if dialect is not None:
            here = {
                dialect.answers(dialect.native(market)): symbol
                for symbol, market in self._markets.items()
                if dialect.here(self._exchange, line.client, market)
            }
            line.parser = dialect.parser(
                self._config.exchange,
                collector=self._config.collector,
                connection=line.id,
                symbols=here,
                skew=self.skew,
                source="ccxt",
            )

    def frame(self, line: Line, data: str | bytes) -> bool:
        self._stats.add(metrics.FRAMES, *self._labels)
        self._housekeeping.heard(line)
        now = self._clock.now()
        self._pipeline.capture(self._origin, line.id, now, data)
        if line.parser is None:
            return False
        frame = data.encode() if isinstance(data, str) else data
        skipped = line.parser.skipped.total()
        try:
            found = line.parser.parse(frame, now)
        except FrameError as error:
            self._stats.add(metrics.BAD_FRAMES, *self._labels)
            _log.warning("%s", error)
            return True
        ours = bool(found) or line.parser.skipped.total() == skipped
        past: list[Trade] = []
        for each in found:
            if isinstance(each, Trade) and each.backfilled:
                past.append(each)
            elif isinstance(each, _OF_A_SYMBOL):
                self._found(line, each, now)
            elif isinstance(each, Gap):
                self._gap(line, each, now)
            elif isinstance(each, Reply):
                ours = b"unsubscribe" in frame  # of a book that begins anew; ccxt would end its own subscription
                self._greet(line)
            elif isinstance(each, Beat | RestBook):
                ours = False
        if past:
            self._past(line, past, now)
        return ours

    def applied(self, line: Line, update: Update) -> None:
        now = self._clock.now()
        for trade in update.trades:
            self._structure(line, trade["symbol"], now, trade_of, trade, now)
        for symbol, book in update.books.items():
            folded = update.folded(symbol)
            self._structure(line, symbol, now, self._new_book, book, self._config.book_levels, now, folded)
        for ticker in update.tickers:
            self._structure(line, ticker["symbol"], now, ticker_of, ticker, now)

    def bad(self, line: Line, data: Any, error: Exception) -> None:
        self._stats.add(metrics.BAD_FRAMES, *self._labels)
        _log.warning("%s: a frame does not parse: %r; it begins with %r", self._config.exchange, error, data[:80])

    def refused(self, line: Line, refusal: Refusal) -> None:
        self._subscriptions.refused(*refusal)

    def _found(self, line: Line, found: BookDelta | BookSnapshot | Trade | Ticker | Checksum | Void, now: int) -> None:
        """One thing that our own parser read."""
        assert line.parser is not None
        follower = self.followers.get(line.parser.symbols[found.native])
        if follower is None:
            return
        channel = CHANNELS.get(type(found))
        if channel is not None and follower.sockets.get(channel) != line.id:
            follower.sync.depth = line.parser.depth
            self.publish(follower, follower.on_socket(channel, line.id, now), now)
        self.publish(follower, follower.take(found, now), now)
        if follower.wants_snapshot:
            self._resync.book(follower)
        if follower.holding:
            self._repairs.trades(follower)

    def _past(self, line: Line, past: Sequence[Trade], now: int) -> None:
        """The trades before a subscription that it begins with, of any number of symbols, oldest first."""
        by_symbol: dict[str, list[Trade]] = {}
        for trade in past:
            by_symbol.setdefault(trade.symbol, []).append(trade)
        for symbol, trades in by_symbol.items():
            if (follower := self.followers.get(symbol)) is not None:
                if follower.sockets.get("trades") != line.id:
                    self.publish(follower, follower.on_socket("trades", line.id, now), now)
                self.publish(follower, follower.past(trades, now), now)
                if follower.holding:
                    self._repairs.trades(follower)

    def _greet(self, line: Line) -> None:
        """The first answer on a socket: what ccxt does not ask for."""
        if self._dialect is not None and not line.greeted:
            line.greeted = True
            self._resync.send(line, self._dialect.hello)

    def _structure(self, line: Line, symbol: str, now: int, new: Callable[..., AnyEvent], *arguments: Any) -> None:
        """One of ccxt's structures, copied at once."""
        follower = self.followers.get(symbol)
        if follower is None:
            return
        try:
            event = new(self._head(line, follower), *arguments)
        except _UNUSABLE as error:
            self._stats.add(metrics.BAD_FRAMES, *self._labels)
            _log.warning("%s: a record of %s is unusable: %r", self._config.exchange, symbol, error)
            return
        channel = CHANNELS[type(event)]
        if follower.sockets.get(channel) != line.id:
            self.publish(follower, follower.on_socket(channel, line.id, now), now)
        self.publish(follower, follower.take(event, now), now)
        if follower.holding:
            self._repairs.trades(follower)

    def _gap(self, line: Line, gap: Gap, now: int) -> None:
        """Frames of one symbol are missing, or of any of this socket."""
        symbol = None if gap.native is None or line.parser is None else line.parser.symbols.get(gap.native)
        for follower in self.followers.values():
            if symbol in {None, follower.identity["symbol"]}:
                if follower.sockets.get("orderbook") == line.id:
                    self.publish(follower, follower.take(gap, now), now)
                    self._resync.book(follower)
                if follower.sockets.get("trades") == line.id:
                    self.publish(follower, follower.lost_trades(now), now)
                    self._repairs.trades(follower)

    def _failed(self, channel: str, symbols: Sequence[str], error: Exception, reason: str) -> None:
        """A `watch_*` call has ended by an error."""
        self._stats.add(metrics.DISCONNECTS, *self._labels, reason)
        named = ", ".join(symbols[:3]) + (" …" if len(symbols) > 3 else "")
        _log.warning("%s: %s of %s: %s: %s", self._config.exchange, channel, named, type(error).__name__, error)
        if (
            channel == "orderbook"
            and self._dialect is None
            and isinstance(error, ccxt.ChecksumError | ccxt.InvalidNonce)
        ):
            why = ResetReason.CHECKSUM if isinstance(error, ccxt.ChecksumError) else ResetReason.GAP
            now = self._clock.now()
            for symbol in symbols:
                follower = self.followers[symbol]
                follower.sync.counts["gaps"] += 1
                self.publish(follower, follower.lost(why, now, str(error)), now)

    def _head(self, line: Line, follower: Follower) -> Head:
        symbol = follower.identity["symbol"]
        head = line.heads.get(symbol)
        if head is None:
            identity: Identity = {**follower.identity, "connection": line.id}
            head = line.heads[symbol] = Head(**identity, skew=self.skew)
        return head

    def _rest_head(self, follower: Follower) -> Head:
        return Head(**follower.identity, skew=self.skew)

    def _auditing(self, sampled: bool) -> Callable[[Follower], None] | None:
        """Not where the exchange sends whole books: each is the truth."""
        able = "orderbook" in self._channels and self._exchange.has.get("fetchOrderBook") and not sampled
        return self._repairs.audit if able else None
