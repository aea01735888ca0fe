"""Any exchange of ccxt Pro: one instance, one consumer per symbol and channel.

Order books are conflated: ccxt keeps one live book per symbol, and each awaiting finds its newest state, with the
number of exchange updates it folds. Trades are complete while the socket stands; after it was lost the newest trades
are fetched over REST and merged by id.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from os import urandom
from typing import Any

import ccxt.pro
import msgspec

from collector.backfill import merge
from collector.backoff import Backoff
from collector.ccxt_events import book_of, ticker_of, trade_of
from collector.ccxt_exchange import CcxtConfig, listed, make_exchange
from collector.ccxt_tap import Line, Tap
from collector.clock_source import ClockChoice
from collector.identity import Stamp
from collector.patience import Patience
from collector.pipeline import Pipeline
from collector.seen import Seen
from collector.silence import Silence
from collector.skew import Skew
from collector.stats import Stats
from fluxforge import metrics
from fluxforge.clock import NS, Clock
from fluxforge.events import AnyEvent, ClockSource, Heartbeat, Reset, ResetReason, Trade

_log = logging.getLogger(__name__)

TICK_S = 0.25
HOLD_S = 10.0
DECIDE_S = 10.0
METHODS = {"orderbook": "watchOrderBook", "trades": "watchTrades", "ticker": "watchTicker"}


class _Key:
    """One symbol's state."""

    def __init__(self, symbol: str, native: str, books: Patience) -> None:
        self.symbol, self.native, self.books = symbol, native, books
        self.connections: dict[str, str] = {}
        self.guessed: dict[str, str] = {}
        self.seen = Seen()
        self.last_trade_ts = 0
        self.held: list[AnyEvent] | None = None
        self.backfill: asyncio.Task[None] | None = None
        self.fetch_again = False


class CcxtCollector:
    """Everything configured of one exchange."""

    def __init__(self, config: CcxtConfig, pipeline: Pipeline, stats: Stats, clock: Clock) -> None:
        self._config, self._pipeline, self._stats, self._clock = config, pipeline, stats, clock
        self._labels = ("ccxt", config.exchange)
        self._patience: dict[str, Patience] = {}
        self._exchange = make_exchange(config)
        self._tap = Tap(self._exchange, config.collector, clock, self._opened, self._frame, self._bad_frame)
        self._skew = Skew()
        self._choice = ClockChoice(follows_books="orderbook" in config.channels)
        self._undecided: list[AnyEvent] = []
        self._keys: dict[str, _Key] = {}
        self._silence = Silence((), 0)
        self._consume = {"orderbook": self._book, "trades": self._trades, "ticker": self._ticker}
        self._undecided_until = clock.monotonic() + DECIDE_S

    async def run(self) -> None:
        """Collect until cancelled. Raises UnknownSymbol when the exchange lists none of the symbols."""
        try:
            await self._load_markets()
            found = listed(self._config, self._exchange.markets)
            mono, stall = self._clock.monotonic(), self._config.stall_timeout
            self._keys = {symbol: _Key(symbol, native, Patience(stall, mono)) for symbol, native in found.items()}
            self._silence = Silence((self._log_key(key) for key in self._keys.values()), self._clock.now())
            self._undecided_until = self._clock.monotonic() + DECIDE_S
            async with asyncio.TaskGroup() as group:
                group.create_task(self._watch_sockets())
                for key in self._keys.values():
                    for channel in self._channels():
                        group.create_task(self._follow(key, channel))
        finally:
            self._let_go()
            await self._exchange.close()

    async def _load_markets(self) -> None:
        backoff = Backoff()
        while True:
            try:
                await self._exchange.load_markets()
                return
            except ccxt.BaseError as error:
                wait = backoff.next()
                _log.warning("%s: no list of markets yet, again in %.1f s: %s", self._config.exchange, wait, error)
                await asyncio.sleep(wait)

    def _channels(self) -> list[str]:
        able = [channel for channel in self._config.channels if self._exchange.has.get(METHODS[channel])]
        for channel in set(self._config.channels) - set(able):
            _log.error("%s: ccxt Pro has no %s here; that channel stays empty", self._config.exchange, METHODS[channel])
        return able

    async def _follow(self, key: _Key, channel: str) -> None:
        """One consumer. It ends only for a symbol the exchange refuses."""
        watch: Callable[[str], Awaitable[Any]] = getattr(self._exchange, METHODS[channel])
        backoff = Backoff()
        while True:
            try:
                found = await watch(key.symbol)
            except (ccxt.BadSymbol, ccxt.NotSupported) as error:
                _log.error("%s: %s of %s ends: %s", self._config.exchange, channel, key.symbol, error)
                return
            except ccxt.ChecksumError as error:
                self._put(key, self._reset(key, ResetReason.CHECKSUM, str(error)))
                self._stats.add(metrics.GAPS, *self._labels)
                await asyncio.sleep(backoff.next())
            except ccxt.NetworkError as error:
                await self._wait(key, channel, error, backoff, "network")
            except Exception as error:  # ccxt passes on whatever its handlers raise
                await self._wait(key, channel, error, backoff, "error")
            else:
                backoff.reset()
                self._handle(key, channel, found)
                if self._pipeline.full:
                    await self._pipeline.room()

    async def _wait(self, key: _Key, channel: str, error: Exception, backoff: Backoff, reason: str) -> None:
        wait = backoff.next()
        key.guessed.pop(channel, None)
        self._stats.add(metrics.DISCONNECTS, *self._labels, reason)
        _log.warning(
            "%s: %s of %s, again in %.1f s: %s: %s",
            self._config.exchange,
            channel,
            key.symbol,
            wait,
            type(error).__name__,
            error,
        )
        await asyncio.sleep(wait)

    def _handle(self, key: _Key, channel: str, found: Any) -> None:
        """Runs without a pause from ccxt's answer to the copy of it."""
        connection = self._connection(key, channel)
        if key.connections.get(channel) != connection:
            self._new_connection(key, channel, connection)
        try:
            self._consume[channel](key, found)
        except (ValueError, TypeError, KeyError, ArithmeticError, msgspec.MsgspecError) as error:
            self._stats.add(metrics.BAD_FRAMES, *self._labels)
            _log.warning("%s: %s of %s is unusable: %r", self._config.exchange, channel, key.symbol, error)

    def _book(self, key: _Key, book: Any) -> None:
        key.books.heard(self._clock.monotonic())
        updates = self._tap.take_updates(key.symbol)
        self._put(key, book_of(book, self._config.book_levels, self._stamp(key, "orderbook", book), updates))

    def _trades(self, key: _Key, trades: Any) -> None:
        for record in trades:
            trade = trade_of(record, self._stamp(key, "trades", record))
            if key.held is not None or key.seen.add(trade.id):
                self._put(key, trade)
            else:
                self._stats.add(metrics.DUPLICATES, *self._labels)

    def _ticker(self, key: _Key, ticker: Any) -> None:
        self._put(key, ticker_of(ticker, self._stamp(key, "ticker")))

    def _connection(self, key: _Key, channel: str) -> str:
        """The id of the socket that served the channel; where the tap cannot tell, one that changes at each error."""
        line = self._tap.line(channel, key.symbol)
        if line is not None:
            return line.id
        return key.guessed.setdefault(channel, f"{self._config.collector}-{urandom(4).hex()}")

    def _new_connection(self, key: _Key, channel: str, connection: str) -> None:
        """A socket that had not served this channel before: nothing may be differenced across it."""
        first = not key.connections
        again = channel in key.connections
        key.connections[channel] = connection
        if first:
            detail = "first connection"
            self._put(
                key, self._reset(key, ResetReason.RECONNECT, detail, incomplete="trades" in self._config.channels)
            )
        elif again and channel != "ticker":
            if "trades" not in self._config.channels:
                self._put(key, self._reset(key, ResetReason.RECONNECT, f"{channel} reconnected"))
            else:
                key.fetch_again = True
                if key.held is None:
                    key.held = []
                    key.backfill = asyncio.create_task(self._backfill(key))

    async def _backfill(self, key: _Key) -> None:
        """Fetch the trades of the time without a socket, and let what was held follow them."""
        missed: list[Trade] = []
        complete, why = False, "no trade had come yet"
        if not self._exchange.has.get("fetchTrades"):
            why = "the exchange gives no trades over REST"
        elif key.seen:
            backoff = Backoff(0.25, 2.0)
            deadline = self._clock.monotonic() + HOLD_S
            while key.fetch_again and (left := deadline - self._clock.monotonic()) > 0:
                key.fetch_again = False
                try:
                    async with asyncio.timeout(left):
                        records = await self._exchange.fetch_trades(key.symbol, None, 1000)
                    records = sorted(records, key=lambda record: record.get("timestamp") or 0)
                    missed, complete = self._missed(key, records)
                    why = f"{len(records)} trades over REST do not reach back to the last one"
                except Exception as error:  # whatever it is, what is held must go out
                    why = f"{type(error).__name__}: {error}"
                    key.fetch_again = True
                    await asyncio.sleep(backoff.next())
        self._release(key, missed, complete=complete, why=why)

    def _missed(self, key: _Key, records: list[Any]) -> tuple[list[Trade], bool]:
        """What is new of a REST answer, and whether the answer reaches back to a trade we had.

        Where it does not, or counts its trades by other ids than the socket, time must tell them apart.
        """
        trades = [trade_of(record, self._stamp(key, "trades"), backfilled=True) for record in records]
        known = [at for at, trade in enumerate(trades) if trade.id in key.seen]
        if known:
            return trades[known[-1] + 1 :], True
        first_live = min((e.ts or 0 for e in key.held or () if isinstance(e, Trade)), default=2**63)
        return [trade for trade in trades if key.last_trade_ts < (trade.ts or 0) < first_live], False

    def _release(self, key: _Key, missed: list[Trade], *, complete: bool, why: str) -> None:
        held, key.held = key.held or [], None
        merged = merge(missed, held)
        fetched = sum(isinstance(event, Trade) and event.backfilled for event in merged)
        detail = f"{fetched} missed trades fetched" if complete else f"trades may be missing: {why}"
        self._put(key, self._reset(key, ResetReason.RECONNECT, detail, incomplete=not complete))
        self._stats.add(metrics.BACKFILLED, *self._labels, n=fetched)
        for event in merged:
            if isinstance(event, Trade) and not key.seen.add(event.id):
                self._stats.add(metrics.DUPLICATES, *self._labels)
            else:
                self._put(key, event)

    def _put(self, key: _Key, event: AnyEvent) -> None:
        if key.held is not None:
            key.held.append(event)
            return
        self._silence.heard(self._log_key(key), self._clock.now())
        if isinstance(event, Trade) and event.ts is not None:
            key.last_trade_ts = max(key.last_trade_ts, event.ts)
        if self._choice.clock is None:
            self._choice.see(event)
            self._undecided.append(event)
            if self._choice.clock is not None:
                self._decided()
            return
        self._offer(event)

    def _decided(self) -> None:
        waiting, self._undecided = self._undecided, []
        for event in waiting:
            self._offer(event)

    def _offer(self, event: AnyEvent) -> None:
        if self._choice.clock is ClockSource.CAPTURE:
            event = msgspec.structs.replace(event, clock=int(ClockSource.CAPTURE))
        self._pipeline.offer(event)

    def _let_go(self) -> None:
        for key in self._keys.values():
            if key.backfill is not None:
                key.backfill.cancel()
            if key.held is not None:
                self._release(key, [], complete=False, why="the collector stopped")
        self._choice.give_up()
        self._decided()

    async def _watch_sockets(self) -> None:
        """Watchdog on data, heartbeats, gauges."""
        while True:
            await asyncio.sleep(TICK_S)
            mono, now = self._clock.monotonic(), self._clock.now()
            if self._choice.clock is None and mono > self._undecided_until:
                self._choice.give_up()
                self._decided()
            for line in list(self._tap.lines.values()):
                self._end_if_silent(line, mono)
            for key in self._keys.values():
                self._end_if_books_stopped(key, mono)
            metrics.CONNECTED.labels(*self._labels).set(sum(line.open for line in self._tap.lines.values()))
            if self._skew.known:
                metrics.SKEW.labels(*self._labels).set(self._skew.value / NS)
            if not self._skew.known and self._choice.clock is not ClockSource.CAPTURE:
                continue  # without an estimate of the exchange's clock a heartbeat would say nothing
            ts = now + self._skew.value - NS if self._skew.known else None
            sound = {self._log_key(key): key for key in self._keys.values() if self._sound(key, mono)}
            for name in self._silence.due(now):
                if name in sound:
                    key = sound[name]
                    self._put(key, Heartbeat(**self._stamp(key, self._config.channels[0]), ts=ts))

    def _end_if_silent(self, line: Line, mono: float) -> None:
        patience = self._patience[line.url]
        if line.open and patience.expired(mono):
            self._stats.add(metrics.DISCONNECTS, *self._labels, "stalled")
            line.client.on_error(ccxt.NetworkError(f"connected, but no data for {patience.silence(mono):.1f} s"))

    def _end_if_books_stopped(self, key: _Key, mono: float) -> None:
        """A busy book that stands still on a socket with other data: ccxt has lost it, and subscribes anew."""
        line = self._tap.line("orderbook", key.symbol)
        if line is None or not line.open or not key.books.busy or not key.books.expired(mono):
            return
        self._stats.add(metrics.DISCONNECTS, *self._labels, "stalled")
        line.client.on_error(ccxt.NetworkError(f"no book of {key.symbol} for {key.books.silence(mono):.1f} s"))
        key.books.opened(mono)

    def _sound(self, key: _Key, mono: float) -> bool:
        lines = [line for channel in self._config.channels if (line := self._tap.line(channel, key.symbol))]
        if not lines or key.held is not None:
            return False
        return all(line.open and mono - self._heard(line) <= self._config.stall_timeout for line in lines)

    def _heard(self, line: Line) -> float:
        pong_ms = line.client.lastPong
        if pong_ms is None:
            return line.heard
        since_pong = self._clock.now() / NS - float(pong_ms) / 1000
        return max(line.heard, self._clock.monotonic() - since_pong)

    def _opened(self, line: Line) -> None:
        now = self._clock.monotonic()
        self._patience.setdefault(line.url, Patience(self._config.stall_timeout, now)).opened(now)
        self._stats.add(metrics.CONNECTS, *self._labels)

    def _frame(self, line: Line) -> None:
        self._stats.add(metrics.FRAMES, *self._labels)
        self._patience[line.url].heard(line.heard)

    def _bad_frame(self, line: Line, data: Any, error: Exception) -> None:
        self._stats.add(metrics.BAD_FRAMES, *self._labels)
        _log.warning("%s: a frame does not parse: %r; it begins with %r", self._config.exchange, error, data[:80])

    def _reset(self, key: _Key, reason: ResetReason, detail: str, *, incomplete: bool = False) -> Reset:
        stamp = self._stamp(key, self._config.channels[0])
        return Reset(**stamp, ts=None, reason=str(reason), incomplete=incomplete, detail=detail)

    def _stamp(self, key: _Key, channel: str, observed: Any = None) -> Stamp:
        """The common fields, now; a live record with a time teaches the skew."""
        now = self._clock.now()
        if observed is not None and (ms := observed.get("timestamp")) is not None:
            self._skew.observe(now, int(ms) * 1_000_000)
        return Stamp(
            exchange=self._config.exchange,
            symbol=key.symbol,
            native=key.native,
            source="ccxt",
            collector=self._config.collector,
            connection=key.connections.get(channel) or next(iter(key.connections.values()), ""),
            capture_ts=now,
            skew=self._skew.value,
        )

    def _log_key(self, key: _Key) -> str:
        return f"{self._config.exchange}|{key.symbol}"
