"""OKX v5's public market data.

    REST       http://127.0.0.1:PORT/api/v5/…
    WebSocket  ws://127.0.0.1:PORT/ws/v5/public, and /ws/v5/business for trades-all

`books` is a snapshot and then an update each 100 ms; `seqId` jumps, `prevSeqId` names the one before. The exchange
sends 400 levels a side, this one all that the market has: `SyntheticMarket(levels=190)` has no more. A connection on
which neither side said anything for 30 s is closed: clients send `ping` and are answered `pong`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from simulator.hub import Connection
from simulator.market import Answers, Depth, Diff, Frame, Instrument, Top, Traded
from simulator.okx import rest, wire
from simulator.okx.requests import RequestError, parse
from simulator.tape import Print
from simulator.venue import Answer, Desk, Query

SILENCE = 30.0


class Okx:
    """OKX v5.

    checksums  books carry a CRC32; without, they carry 0, as the live exchange has been seen to do
    """

    name = "okx"
    numbered, terse = False, True
    book, trades = "books", "trades"

    def __init__(self, *, checksums: bool = True) -> None:
        self.checksummed = checksums
        self._business: set[int] = set()
        self._folding: dict[str, tuple[Print, int]] = {}
        self._told: dict[str, tuple[object, ...]] = {}

    def symbol(self, instrument: Instrument) -> str:
        return f"{instrument.base}-{instrument.quote}"

    def bind(self, desk: Desk) -> None:
        self._desk = desk
        self._names = {symbol: name for name, symbol in desk.symbols.items()}
        self._sequence: dict[str, int] = {}

    def render(self, frame: Frame) -> Iterator[Frame]:
        fact = frame.fact
        if isinstance(fact, Diff):
            yield from self._fold(frame.at, fact.symbol, None)
            yield from self._diff(frame.at, fact)
        elif isinstance(fact, Traded):
            name, print_ = self._names[fact.symbol], fact.print
            if self._desk.hub.wanted(f"{name}@trades-all"):
                payload = wire.trade("trades-all", name, print_, 1)
                yield Frame(frame.at, f"{name}@trades-all", payload, span=(print_.id, print_.id))
            yield from self._fold(frame.at, fact.symbol, print_)

    def accepts(self, path: str) -> bool:
        return path in {"/ws/v5/public", "/ws/v5/business"}

    def opened(self, connection: Connection, path: str, query: Query) -> None:
        if path.endswith("/business"):
            self._business.add(connection.number)

    def received(self, connection: Connection, text: str | bytes) -> None:
        said = text if isinstance(text, str) else text.decode(errors="replace")
        name = f"{connection.number:08x}"
        if said == "ping":
            connection.reply(b"pong")
            return
        try:
            if self._desk.rejecting:
                raise RequestError(60014, "Requests too frequent")
            request = parse(said, connection.number in self._business, self._desk.symbols)
        except RequestError as error:
            connection.reply(wire.error(error.code, error.text, name))
            return
        for arg, stream in request.args:
            if isinstance(stream, RequestError):
                connection.reply(wire.error(stream.code, stream.text, name))
                continue
            connection.reply(wire.event(request.op, arg, name))
            if request.op == "unsubscribe":
                connection.unsubscribe([stream])
            else:
                connection.subscribe([stream])
                for payload in self._first(stream):
                    connection.reply(payload)

    def rest(self, answers: Answers, path: str, query: Query) -> Answer:
        return rest.answer(answers, self._desk.symbols, path, query, self._desk.exchange_ms)

    def beat(self) -> Iterable[Frame]:
        now = self._desk.clock.monotonic()
        for connection in self._desk.hub.connections:
            if now - max(connection.last_sent, connection.last_heard) > SILENCE:
                connection.end(4004, "No data received in 30s.")
        return ()

    def busy(self, status: int) -> bytes:
        if status >= 500:
            return wire.answer([], 50001, "Service temporarily unavailable. Please try again later")
        return wire.answer([], 50011, "Too Many Requests")

    def _diff(self, at: int, diff: Diff) -> Iterator[Frame]:
        book = self._desk.truth.book(diff.symbol)
        if book is None:
            return
        name, ms, hub = self._names[diff.symbol], self._desk.exchange_ms, self._desk.hub
        previous = self._sequence.get(diff.symbol, diff.first - 1)
        self._sequence[diff.symbol] = diff.last
        if hub.wanted(f"{name}@books"):
            depth = Depth(diff.last, diff.bids, diff.asks)
            payload = wire.book(name, "update", ms, depth, previous, self._checksum(book.depth(wire.CHECKED_LEVELS)))
            yield Frame(at, f"{name}@books", payload, span=(diff.first, diff.last))
        for channel, levels in (("books5", 5), ("bbo-tbt", 1)):
            stream = f"{name}@{channel}"
            if hub.wanted(stream):
                depth = book.depth(levels)
                if self._fresh(stream, (*depth.bids, *depth.asks)):
                    yield Frame(at, stream, wire.top_book(channel, name, ms, depth))
        stream = f"{name}@tickers"
        stats = self._desk.market.tape(diff.symbol).stats
        if hub.wanted(stream):
            top = self._top(diff.symbol)
            if self._fresh(stream, (stats and stats.last_id, top)):
                yield Frame(at, stream, wire.ticker(name, ms, stats, top))

    def _fold(self, at: int, symbol: str, print_: Print | None) -> Iterator[Frame]:
        """Fold fills of one time, price and side; what they were folded into is told when another comes, or a diff."""
        last, count = self._folding.pop(symbol, (None, 0))
        if last is not None and print_ is not None and _one_order(last, print_):
            size = f"{float(last.size) + float(print_.size):.8f}"
            self._folding[symbol] = print_._replace(size=size), count + 1
            return
        if print_ is not None:
            self._folding[symbol] = print_, 1
        name = self._names[symbol]
        if last is not None and self._desk.hub.wanted(f"{name}@trades"):
            payload = wire.trade("trades", name, last, count)
            yield Frame(at, f"{name}@trades", payload, span=(last.id - count + 1, last.id))

    def _first(self, stream: str) -> Iterator[bytes]:
        """What a new subscription begins with."""
        name, _, channel = stream.partition("@")
        symbol, ms = self._desk.symbols[name], self._desk.exchange_ms
        if channel == "books":
            depth = self._desk.book(symbol, 1_000_000)
            yield wire.book(name, "snapshot", ms, depth, -1, self._checksum(depth))
        elif channel in {"books5", "bbo-tbt"}:
            yield wire.top_book(channel, name, ms, self._desk.book(symbol, 5 if channel == "books5" else 1))
        elif channel == "tickers":
            yield wire.ticker(name, ms, self._desk.market.tape(symbol).stats, self._top(symbol))
        else:
            # the last trade again: a client that comes back meets one it knows; those being folded are yet to come
            waiting = self._folding.get(symbol, (None, 0))[1] if channel == "trades" else 0
            for print_ in self._desk.trades(symbol, 1, before=waiting):
                yield wire.trade(channel, name, print_, 1)

    def _checksum(self, depth: Depth) -> int:
        if not self.checksummed:
            return 0
        return wire.checksum(depth.bids, depth.asks)

    def _top(self, symbol: str) -> Top | None:
        depth = self._desk.book(symbol, 1)
        return Top(*depth.bids[0], *depth.asks[0]) if depth.bids and depth.asks else None

    def _fresh(self, stream: str, value: tuple[object, ...]) -> bool:
        """Whether it differs from what the stream said last."""
        old = self._told.get(stream)
        self._told[stream] = value
        return old != value


def _one_order(first: Print, second: Print) -> bool:
    return (first.price, first.time, first.maker) == (second.price, second.time, second.maker)
