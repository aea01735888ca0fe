"""The features in plain Python: lists, deques and the standard library, one event after the other."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Callable

from benchmarks.history import Books

_HORIZONS_MS = (1_000, 5_000, 30_000, 60_000)
_EDGES = (5.0, 10.0, 25.0, 50.0)
_LEVELS, _OFI_LEVELS, _TIGHT = 10, 5, 1e-4
_REGIME_MS = 30_000

Side = list[tuple[float, float]]
Step = tuple[int, float, float, float, float]


def feature_run(books: Books, emit_ms: int) -> Callable[[], list[list[float]]]:
    """A run over all books: rows of the floor's columns; books and trades are made into lists beforehand."""
    bids, asks = (
        [list(zip(*level, strict=True)) for level in zip(prices.tolist(), sizes.tolist(), strict=True)]
        for prices, sizes in ((books.bid_price, books.bid_size), (books.ask_price, books.ask_size))
    )
    trades = list(zip(books.trade_size.tolist(), books.trade_sign.tolist(), strict=True))
    events = list(zip(books.kind.tolist(), books.place.tolist(), books.time_ms.tolist(), strict=True))

    def run() -> list[list[float]]:
        market, bucket = Market(), -1
        rows = []
        for kind, index, time in events:
            market.time = max(market.time, time)
            if kind:
                market.trades.append((market.time, *trades[index]))
                continue
            dynamic = market.step(bids[index], asks[index])
            if not emit_ms or market.time // emit_ms != bucket:
                bucket = market.time // emit_ms if emit_ms else -1
                rows.append([*market.static(), *dynamic, *market.rolling(), *market.regimes(), *market.clock()])
        return rows

    return run


class Market:
    """One market: its newest book, and the steps and trades of the longest window."""

    def __init__(self) -> None:
        self.time = 0
        self.bids: Side = []
        self.asks: Side = []
        self.velocity = math.nan
        self.steps: deque[Step] = deque()
        self.trades: deque[tuple[int, float, float]] = deque()

    @property
    def mid(self) -> float:
        return (self.bids[0][0] + self.asks[0][0]) / 2

    def bands(self, side: Side) -> list[float]:
        """Σ size by distance from mid."""
        found = [0.0] * len(_EDGES)
        for price, size in side:
            distance = abs(self.mid - price) / self.mid * 1e4
            for k, edge in enumerate(_EDGES):
                if distance < edge:
                    found[k] += size
                    break
        return found

    def step(self, bids: Side, asks: Side) -> list[float]:
        """Take a book; its dynamic columns."""
        had_bids, had_asks = self.bids, self.asks
        had_mid = self.mid if had_bids else math.nan
        self.bids, self.asks = bids, asks
        change = flow = multi = velocity = acceleration = math.nan
        flows = [math.nan] * _OFI_LEVELS
        if had_bids:
            change = math.log(self.mid / had_mid)
            flows = [_flow(bids[k], had_bids[k], asks[k], had_asks[k]) for k in range(_OFI_LEVELS)]
            flow, multi = flows[0], sum(flows)
            seconds = (self.time - self.steps[-1][0]) / 1000
            if seconds > 0:
                velocity = (self.mid - had_mid) / seconds
                acceleration = (velocity - self.velocity) / seconds
        self.velocity = velocity
        near = self.bands(bids)[0] + self.bands(asks)[0]
        self.steps.append((self.time, change, flow, near, (asks[0][0] - bids[0][0]) / self.mid))
        oldest = self.time - max(_HORIZONS_MS)
        while len(self.steps) > 1 and self.steps[1][0] <= oldest:
            self.steps.popleft()
        while self.trades and self.trades[0][0] <= oldest:
            self.trades.popleft()
        return [change, flow, *flows, multi, velocity, acceleration]

    def static(self) -> list[float]:
        """Columns of the newest book."""
        (bid, bid_size), (ask, ask_size), mid = self.bids[0], self.asks[0], self.mid
        micro = (bid_size * ask + ask_size * bid) / (bid_size + ask_size)
        top = self.bids[:_LEVELS] + self.asks[:_LEVELS]
        bands = [self.bands(self.bids), self.bands(self.asks)]
        row = [mid, ask - bid, (ask - bid) / mid, micro, micro - mid]
        row.append(sum(price * size for price, size in top) / sum(size for _, size in top))
        row += [size for pair in zip(*bands, strict=True) for size in pair]
        row += [sum(bands[0]), sum(bands[1]), float(min(len(self.bids), len(self.asks)))]
        row += [abs(mid - side[-1][0]) / mid * 1e4 for side in (self.bids, self.asks)]
        for bid_level, ask_level in zip(self.bids[:_LEVELS], self.asks[:_LEVELS], strict=True):
            row += [*bid_level, *ask_level, (bid_level[1] - ask_level[1]) / (bid_level[1] + ask_level[1])]
        return row

    def rolling(self) -> list[float]:
        """Columns of the windows."""
        row = []
        for horizon in _HORIZONS_MS:
            since = self.time - horizon
            steps = [step for step in self.steps if step[0] > since and step[1] == step[1]]
            trades = [trade for trade in self.trades if trade[0] > since]
            returns = [step[1] for step in steps]
            volume, net = sum(size for _, size, _ in trades), sum(size * sign for _, size, sign in trades)
            row += [
                math.sqrt(sum(r * r for r in returns)),
                _deviation(returns),
                sum(step[2] for step in steps),
                volume,
                net / volume if volume else 0.0,
            ]
        return row

    def held(self, window_ms: int) -> list[tuple[int, float, float]]:
        """How long, within the window, each relative spread and depth held: (ms, spread, depth)."""
        since, found, until = self.time - window_ms, [], self.time
        for time, _, _, depth, spread in reversed(self.steps):
            found.append((until - max(time, since), spread, depth))
            until = time
            if time <= since:
                break
        return found

    def regimes(self) -> list[float]:
        """depth_0_5bps_sigma and the shares of time."""
        held = self.held(max(_HORIZONS_MS))
        known = sum(ms for ms, _, _ in held)
        wide = 3 * sum(ms * spread for ms, spread, _ in held) / known if known else math.inf
        thin = 0.5 * sum(ms * depth for ms, _, depth in held) / known if known else -math.inf
        depths = [step[3] for step in self.steps if step[0] > self.time - _REGIME_MS]
        held = self.held(_REGIME_MS)
        known = sum(ms for ms, _, _ in held)
        if not known:
            return [_deviation(depths), math.nan, math.nan, math.nan]
        return [
            _deviation(depths),
            sum(ms for ms, spread, _ in held if spread < _TIGHT) / known,
            sum(ms for ms, spread, _ in held if spread > wide) / known,
            sum(ms for ms, _, depth in held if depth < thin) / known,
        ]

    def clock(self) -> list[float]:
        """Columns of t."""
        seconds = self.time // 1000
        day = (seconds // 86400 + 3) % 7
        return [seconds // 3600 % 24, day, float(day >= 5), seconds // 60 % 60]


def _flow(
    bid: tuple[float, float], had_bid: tuple[float, float], ask: tuple[float, float], had_ask: tuple[float, float]
) -> float:
    flow = 0.0
    if bid[0] >= had_bid[0]:
        flow += bid[1]
    if bid[0] <= had_bid[0]:
        flow -= had_bid[1]
    if ask[0] <= had_ask[0]:
        flow -= ask[1]
    if ask[0] >= had_ask[0]:
        flow += had_ask[1]
    return flow


def _deviation(values: list[float]) -> float:
    if not values:
        return math.nan
    mean = statistics.fmean(values)
    return math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))
