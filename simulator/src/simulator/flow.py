"""The order flow of one synthetic symbol: a limit order book in integers and what happens to it."""

from __future__ import annotations

from collections.abc import Iterator
from math import exp, sqrt
from random import Random

from simulator.binance import wire
from simulator.binance.slow_streams import SlowStreams
from simulator.market import MS, NS, Depth, Diff, Frame, Level, Top, Traded, plain
from simulator.tape import Print, Tape

DIFF_EVERY = 100 * MS
LEVELS = 400

DRIFT = 3.0
"""Standard deviation of the fair value per sqrt(s), in level gaps."""

# share of each kind of event, and how many messages (trades and bookTickers) one of it makes on average
TRADE, TOUCH = 0.14, 0.50
PER_EVENT = TRADE * 2.4 + TOUCH * 0.98 + 0.005
OTHERS = 1.0


class Flow:
    """One symbol: `begin`, then `step` at each `next_at`; answers hold for the last step taken.

    price        at the start, in ticks of 10^-places
    gap          ticks between neighbouring levels; inside, a price is a level number: number · gap ticks
    size_places  sizes are lots of 10^-size_places
    rate         messages/s
    levels       a side at the start; deep orders keep it between half and twice that
    """

    def __init__(
        self,
        symbol: str,
        *,
        price: int,
        places: int,
        gap: int,
        size_places: int,
        rate: float,
        seed: int,
        levels: int = LEVELS,
    ) -> None:
        self.symbol, self._name = symbol, symbol.lower()
        self._random = Random(f"{seed}:{symbol}")
        self._gap, self._ticks, self._lots = gap, 10**places, 10**size_places
        self._typical = max(2.0, 20_000 * self._ticks / price * self._lots)
        self._rate = event_rate(rate)
        self._fair = price / gap
        self._bids: dict[int, int] = {}
        self._asks: dict[int, int] = {}
        self._bid, self._ask = price // gap - 1, price // gap
        self._levels = levels
        for depth in range(levels):
            if depth == 0 or self._random.random() < 0.8:
                self._bids[self._bid - depth] = self._size()
                self._asks[self._ask + depth] = self._size()
        self._last_id = self._sent_id = 1_000_000 + self._random.randrange(1_000_000)
        self._trade_id = 1_000
        self._changed_bids: set[int] = set()
        self._changed_asks: set[int] = set()
        self._printed: tuple[int, int, int, int] | None = None
        self.ahead_ms = 0
        self.terse = False
        self.tape = Tape()
        self._slow = SlowStreams(symbol, self.tape)
        self._at = self._event_at = self._diff_at = self.next_at = 0

    def begin(self, at: int) -> int:
        """Start virtual time at `at` (ns); the time of the first step."""
        self._at, self._diff_at = at, at + DIFF_EVERY
        self._event_at = at + self._wait()
        self.next_at = min(self._event_at, self._diff_at)
        return self.next_at

    def step(self, at: int) -> Iterator[Frame]:
        """Everything that happens at `at`, which must be `next_at`."""
        if at >= self._event_at:
            yield from self._event(at)
            self._event_at = at + self._wait()
        if at >= self._diff_at:
            yield from self._diff(at)
            self._diff_at += DIFF_EVERY
        self.next_at = min(self._event_at, self._diff_at)

    def depth(self, limit: int) -> Depth:
        """The book with its last update id."""
        bids = sorted(self._bids, reverse=True)[:limit]
        asks = sorted(self._asks)[:limit]
        return Depth(
            self._last_id,
            [self._level(number, self._bids[number]) for number in bids],
            [self._level(number, self._asks[number]) for number in asks],
        )

    def top(self) -> Top:
        return Top(
            *self._level(self._bid, self._bids[self._bid]),
            *self._level(self._ask, self._asks[self._ask]),
        )

    def _event(self, at: int) -> Iterator[Frame]:
        self._fair += self._random.gauss(0.0, DRIFT) * sqrt((at - self._at) / NS)
        self._at = at
        draw = self._random.random()
        if draw < TRADE:
            yield from self._trade(at)
        elif draw < TRADE + TOUCH:
            self._touch()
        else:
            self._deep()
        best = (self._bid, self._bids[self._bid], self._ask, self._asks[self._ask])
        if best != self._printed and not self.terse:
            self._printed = best
            yield Frame(at, f"{self._name}@bookTicker", wire.book_ticker(self.symbol, self._last_id, self.top()))

    def _trade(self, at: int) -> Iterator[Frame]:
        """A market order of up to three levels, more often towards the fair value."""
        lean = (self._fair - (self._bid + self._ask) / 2) / 4
        buy = self._random.random() < 0.5 + max(-0.3, min(0.3, lean))
        left = self._size(0.4)
        for _ in range(3):
            best = self._ask if buy else self._bid
            there = (self._asks if buy else self._bids)[best]
            taken = min(left, there)
            left -= taken
            self._trade_id += 1
            event_ms = at // MS + self.ahead_ms
            price, size = self._level(best, taken)
            print_ = Print(self._trade_id, price, size, event_ms, not buy)
            self._set(not buy, best, there - taken)
            closed = self._slow.trade(at, event_ms, print_)
            if closed is not None and not self.terse:
                yield closed
            payload = b"" if self.terse else wire.trade(self.symbol, event_ms, print_)
            fact = Traded(self.symbol, print_)
            yield Frame(at, f"{self._name}@trade", payload, None, fact, (print_.id, print_.id))
            if not left:
                return

    def _touch(self) -> None:
        """A change at the best prices: following the fair value, into the spread, or of a size."""
        if self._fair > self._ask:
            self._set(False, self._ask, 0)
        elif self._fair < self._bid:
            self._set(True, self._bid, 0)
        else:
            bid = self._random.random() < 0.5
            if self._ask - self._bid > 1 and self._random.random() < 0.7:
                self._set(bid, self._bid + 1 if bid else self._ask - 1, self._size())
            else:
                self._set(bid, self._bid if bid else self._ask, self._size())

    def _deep(self) -> None:
        """A new, changed or cancelled order away from the best prices."""
        bid = self._random.random() < 0.5
        side = self._bids if bid else self._asks
        if len(side) > 2 * self._levels:
            self._set(bid, min(side) if bid else max(side), 0)
            return
        away = 1 + int(self._random.expovariate(1 / 30))
        number = self._bid - away if bid else self._ask + away
        cancel = number in side and len(side) > self._levels // 2 and self._random.random() < 0.5
        self._set(bid, number, 0 if cancel else self._size())

    def _set(self, bid: bool, number: int, size: int) -> None:
        """One book update; keeps the best prices."""
        self._last_id += 1
        side = self._bids if bid else self._asks
        (self._changed_bids if bid else self._changed_asks).add(number)
        if size:
            side[number] = size
        else:
            side.pop(number, None)
        if bid:
            self._bid = max(self._bid, number) if size else self._next(side, self._bid, -1)
        else:
            self._ask = min(self._ask, number) if size else self._next(side, self._ask, 1)

    def _next(self, side: dict[int, int], best: int, away: int) -> int:
        """The best level at or behind `best`; a side that ran thin is refilled behind it."""
        if len(side) < self._levels // 8:
            edge = (max(side) if away > 0 else min(side)) if side else best
            changed = self._changed_asks if away > 0 else self._changed_bids
            for number in range(edge + away, edge + away * (self._levels // 4 + 1), away):
                side[number] = self._size()
                changed.add(number)
                self._last_id += 1
        while best not in side:
            best += away
        return best

    def _diff(self, at: int) -> Iterator[Frame]:
        event_ms = at // MS + self.ahead_ms
        if self._changed_bids or self._changed_asks:
            first, last = self._sent_id + 1, self._last_id
            bids = [self._level(n, self._bids.get(n, 0)) for n in sorted(self._changed_bids, reverse=True)]
            asks = [self._level(n, self._asks.get(n, 0)) for n in sorted(self._changed_asks)]
            self._changed_bids.clear()
            self._changed_asks.clear()
            self._sent_id = last
            fact, update = Diff(self.symbol, first, last, bids, asks), b""
            if not self.terse:
                self._slow.depth(first, last, bids, asks)
                update = wire.depth_update(self.symbol, event_ms, first=first, last=last, bids=bids, asks=asks)
            yield Frame(at, f"{self._name}@depth@100ms", update, None, fact, (first, last))
        if not self.terse:
            yield from self._slow.tick(at, event_ms, self.top())

    def _level(self, number: int, size: int) -> Level:
        price, lots = f"{number * self._gap / self._ticks:.8f}", f"{size / self._lots:.8f}"
        return (plain(price), plain(lots)) if self.terse else (price, lots)

    def _size(self, share: float = 1.0) -> int:
        return 1 + int(self._random.expovariate(1 / (self._typical * share)))

    def _wait(self) -> int:
        return 1 + int(self._random.expovariate(self._rate) * NS)


def event_rate(messages: float) -> float:
    """Events/s that make about `messages` messages/s, of which up to 10 are diffs (one per 100 ms with a change)."""

    def expected(events: float) -> float:
        return events * PER_EVENT + 10 * (1 - exp(-events / 10)) + min(OTHERS, events)

    low, high = 0.0, 2 * messages / PER_EVENT + 1
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if expected(middle) < messages else (low, middle)
    return max(low, 1e-3)
