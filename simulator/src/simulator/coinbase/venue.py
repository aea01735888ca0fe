"""Coinbase Advanced Trade's market data.

    REST       http://127.0.0.1:PORT/api/v3/brokerage/market/…
    WebSocket  ws://127.0.0.1:PORT

`sequence_num` counts the messages of a connection, of all channels together, from 0. A connection without a
subscription for 5 s is closed, and so is one on which nothing was sent for 60 to 90 s (heartbeats prevent that).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from simulator.coinbase import rest, wire
from simulator.coinbase.products import Products, product_id
from simulator.coinbase.requests import Limit, RequestError, parse
from simulator.hub import Connection
from simulator.market import MS, Answers, Diff, Frame, Instrument, Top, Traded
from simulator.tape import Print
from simulator.venue import Answer, Desk, Query

TRADES_EVERY = 250 * MS
BATCH_EVERY = 5_000 * MS
SNAPSHOT_TRADES = 100
HEARTBEATS = "@heartbeats"


class Coinbase:
    """Coinbase Advanced Trade.

    require_jwt       subscriptions without a token are refused; its signature is never checked
    messages          per second that clients without a token may send, all together; None is no limit
    subscribe_within  s until a connection must have subscribed
    idle              s of silence after which a connection is closed, up to half as much again
    """

    name = "coinbase"
    numbered = terse = True
    checksummed = False
    book, trades = "level2", "market_trades"

    def __init__(
        self,
        *,
        require_jwt: bool = False,
        messages: int | None = 8,
        subscribe_within: float = 5.0,
        idle: float = 60.0,
    ) -> None:
        self._require_jwt, self._limit = require_jwt, Limit(messages)
        self._subscribe_within, self._idle = subscribe_within, idle
        self._counter = 0
        self._waiting: dict[str, list[Print]] = {}
        self._due: deque[tuple[int, str]] = deque()
        self._batched: dict[str, int] = {}

    def symbol(self, instrument: Instrument) -> str:
        return product_id(instrument)

    def bind(self, desk: Desk) -> None:
        self._desk = desk
        self._products = Products(desk.symbols)
        self._names = {symbol: name for name, symbol in desk.symbols.items()}

    def render(self, frame: Frame) -> Iterator[Frame]:
        while self._due and self._due[0][0] <= frame.at:
            yield from self._flush(*self._due.popleft())
        fact = frame.fact
        if isinstance(fact, Diff):
            name = self._names[fact.symbol]
            stream = f"{name}@level2"
            if self._desk.hub.wanted(stream):
                payload = wire.level2(name, self._desk.exchange_ms, fact)
                yield Frame(frame.at, stream, payload, span=(fact.first, fact.last))
        elif isinstance(fact, Traded):
            waiting = self._waiting.setdefault(fact.symbol, [])
            if not waiting:
                self._due.append((frame.at + TRADES_EVERY, fact.symbol))
            waiting.append(fact.print)

    def accepts(self, path: str) -> bool:
        return path == "/"

    def opened(self, connection: Connection, path: str, query: Query) -> None:
        pass

    def received(self, connection: Connection, text: str | bytes) -> None:
        try:
            if self._desk.rejecting:
                raise RequestError("rate limit exceeded")
            request = parse(text, self._products, self._require_jwt)
            self._limit.take(request, self._desk.clock.monotonic())
        except RequestError as error:
            connection.reply(wire.error(*error.args))
            return
        if request.subscribe:
            fresh = [stream for stream in request.streams if stream not in connection.streams]
            connection.subscribe(request.streams)
            for stream in fresh:
                for payload in self._snapshot(stream):
                    connection.reply(payload)
        else:
            connection.unsubscribe(request.streams or self._of_channel(connection, request.channel))
        connection.reply(wire.subscriptions(self._desk.exchange_ms, self._subscribed(connection)))

    def rest(self, answers: Answers, path: str, query: Query) -> Answer:
        return rest.answer(answers, self._products, path, query, self._desk.exchange_ms)

    def beat(self) -> Iterable[Frame]:
        now = self._desk.clock.monotonic()
        for connection in self._desk.hub.connections:
            # 60 to 90 s: the exchange does not say which, nor with what code
            idle = self._idle * (1 + connection.number * 7 % 10 / 20)
            if not connection.streams and now - connection.last_heard > self._subscribe_within:
                connection.end(1000, "no subscription")
            elif now - connection.last_sent > idle:
                connection.end(1000, "idle")
        self._counter += 1
        yield Frame(self._desk.at, HEARTBEATS, wire.heartbeat(self._desk.exchange_ms, self._counter))

    def busy(self, status: int) -> bytes:
        if status >= 500:
            return wire.rest_error("INTERNAL", "internal error")
        return wire.rest_error("RESOURCE_EXHAUSTED", "too many requests")

    def _flush(self, at: int, symbol: str) -> Iterator[Frame]:
        """What 250 ms of trades make: one `market_trades` message and the tickers."""
        prints = self._waiting.pop(symbol)
        name, ms, hub = self._names[symbol], self._desk.exchange_ms, self._desk.hub
        span = (prints[0].id, prints[-1].id)
        if hub.wanted(f"{name}@market_trades"):
            yield Frame(at, f"{name}@market_trades", wire.market_trades("update", name, ms, prints), span=span)
        if hub.wanted(f"{name}@ticker"):
            yield Frame(at, f"{name}@ticker", self._ticker("ticker", "update", name, symbol))
        if hub.wanted(f"{name}@ticker_batch") and at >= self._batched.get(symbol, 0):
            self._batched[symbol] = at + BATCH_EVERY
            yield Frame(at, f"{name}@ticker_batch", self._ticker("ticker_batch", "update", name, symbol))

    def _ticker(self, channel: str, kind: str, name: str, symbol: str) -> bytes:
        stats = self._desk.market.tape(symbol).stats
        assert stats is not None
        depth = self._desk.book(symbol, 1)
        top = Top(*depth.bids[0], *depth.asks[0]) if depth.bids and depth.asks else None
        return wire.ticker(channel, kind, name, self._desk.exchange_ms, stats, top)

    def _snapshot(self, stream: str) -> Iterator[bytes]:
        """What a new subscription begins with."""
        name, _, channel = stream.partition("@")
        if not name:
            return
        symbol, ms = self._desk.symbols[name], self._desk.exchange_ms
        if channel == "level2":
            yield wire.level2_snapshot(name, ms, self._desk.book(symbol, 1_000_000))
        elif channel == "market_trades":
            # those that wait for their batch come with it
            waiting = len(self._waiting.get(symbol, ()))
            yield wire.market_trades("snapshot", name, ms, self._desk.trades(symbol, SNAPSHOT_TRADES, before=waiting))
        elif self._desk.market.tape(symbol).stats is not None:
            yield self._ticker(channel, "snapshot", name, symbol)

    @staticmethod
    def _of_channel(connection: Connection, channel: str) -> list[str]:
        return [stream for stream in connection.streams if stream.partition("@")[2] == channel]

    @staticmethod
    def _subscribed(connection: Connection) -> dict[str, list[str]]:
        products: dict[str, list[str]] = {}
        for stream in sorted(connection.streams):
            name, _, channel = stream.partition("@")
            products.setdefault(channel, []).append(name or "heartbeats")
        return products
