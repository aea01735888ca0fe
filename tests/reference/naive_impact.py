"""Flow toxicity and impact the slow and plain way: each value at each row from the whole history of the key.

Written from the definitions and the words of the catalogue alone, never from the kernel. Besides the readings of
`naive_log`:

1.  A book, break or trade lies in the second of the key's time t after it.
2.  The mid at a moment s is that of the last book with t < s; unknown where a break with t < s came after it. A second
    with a break in it counts for nothing, whatever came after the break.
3.  A trade meets the mid of the newest book before it in log order, unless a break came between.
4.  Volumes of buckets are exact fractions; the tolerance of a full bucket is 10⁻⁹ of its volume.
5.  Days of the buckets are those of t, at the trade and at the row alike.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from fluxforge.events import Trade
from fluxforge.kernels.config import FeatureConfig
from reference.naive_log import NS, Moment

DAY = 86_400 * NS
ENOUGH = 1 - Fraction(1, 10**9)


@dataclass
class Bucket:
    """Buy and sell volume and all volume of one bucket."""

    buy: Fraction = Fraction(0)
    sell: Fraction = Fraction(0)
    filled: Fraction = Fraction(0)


def buckets(trades: Sequence[tuple[float, int]], volume: float) -> list[Bucket]:
    """The full buckets of (size, taker side) in log order."""
    full: list[Bucket] = []
    bucket, room = Bucket(), Fraction(volume)
    for size, side in trades:
        rest = Fraction(size)
        while rest > 0:
            part = min(rest, room - bucket.filled)
            bucket.filled += part
            bucket.buy += part if side > 0 else 0
            bucket.sell += part if side < 0 else 0
            rest -= part
            if bucket.filled >= room * ENOUGH:
                full.append(bucket)
                bucket = Bucket()
    return full


def vpin(trades: Sequence[tuple[float, int]], volume: float, n: int) -> float | None:
    """Of one day's trades."""
    last = buckets(trades, volume)[-n:]
    if len(last) < n:
        return None
    return float(sum(abs(bucket.buy - bucket.sell) for bucket in last) / (n * Fraction(volume)))


def slope(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Least squares with an intercept."""
    if not x or min(x) == max(x):
        return None
    xs, ys = [Fraction(v) for v in x], [Fraction(v) for v in y]
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    around = sum((a - mean_x) ** 2 for a in xs)
    return float(sum((a - mean_x) * (b - mean_y) for a, b in zip(xs, ys, strict=True)) / around)


def covariance(prices: Sequence[float]) -> float | None:
    """Of successive changes."""
    changes = [Fraction(b) - Fraction(a) for a, b in itertools.pairwise(prices)]
    pairs = list(zip(changes[1:], changes, strict=False))
    if len(pairs) < 2:
        return None
    mean_a, mean_b = (sum(one) / len(pairs) for one in zip(*pairs, strict=True))
    return float(sum((a - mean_a) * (b - mean_b) for a, b in pairs) / len(pairs))


@dataclass
class ImpactHistory:
    """All that ever happened to one key, as far as flow and impact look at it.

    mids    (t, mid after a book; None after a break)
    steps   (t, ofi_step) of books that follow a book
    trades  (t, trade, mid it met)
    """

    key: str
    config: FeatureConfig
    mids: list[tuple[int, float | None]] = field(default_factory=list)
    steps: list[tuple[int, float]] = field(default_factory=list)
    trades: list[tuple[int, Trade, float | None]] = field(default_factory=list)

    def book(self, t: int, mid: float, ofi: float | None) -> None:
        self.mids.append((t, mid))
        if ofi is not None:
            self.steps.append((t, ofi))

    def other(self, moment: Moment) -> None:
        """A moment that is no book."""
        if moment.t is None:
            return
        if moment.what == "break":
            self.mids.append((moment.t, None))
        elif moment.what == "trade":
            assert isinstance(moment.event, Trade)
            self.trades.append((moment.t, moment.event, self.mids[-1][1] if self.mids else None))

    def mid_before(self, time: int) -> float | None:
        """The mid that held just before `time`."""
        at = bisect_left(self.mids, time, key=lambda one: one[0])
        return self.mids[at - 1][1] if at else None

    def features(self, t: int) -> dict[str, Any]:
        """At a row of time t."""
        window, n = self.config.impact_window, self.config.vpin_buckets
        running = t // NS
        moves, volumes, flows, illiquidity, last_prices = [], [], [], [], []
        for second in range(running - window, running):
            start, end = second * NS, (second + 1) * NS
            trades = [one for at, one, _ in inside(self.trades, start, end)]
            if trades:
                last_prices.append(trades[-1].price)
            opening, closing = self.mid_before(start), self.mid_before(end)
            if opening is None or any(mid is None for _, mid in inside(self.mids, start, end)):
                continue
            assert closing is not None
            moves.append(closing - opening)
            volumes.append(math.fsum(one.size * one.side for one in trades))
            flows.append(math.fsum(ofi for _, ofi in inside(self.steps, start, end)))
            if trades:
                notional = math.fsum(one.price * one.size for one in trades)
                illiquidity.append(abs(math.log(closing / opening)) / notional)
        met = [(one, mid) for _, one, mid in inside(self.trades, t - window * NS + 1, t + 1) if mid is not None]
        today = [(one.size, one.side) for at, one, _ in self.trades if at // DAY == t // DAY]
        spread = covariance(last_prices)
        return {
            "kyle_lambda": slope(volumes, moves),
            "ofi_beta": slope(flows, moves),
            "amihud": math.fsum(illiquidity) / len(illiquidity) if illiquidity else None,
            "vpin": vpin(today, self.config.bucket_volume(self.key), n),
            "roll_spread": None if spread is None or spread > 0 else 2 * math.sqrt(-spread),
            "effective_spread": (
                math.fsum(one.size * 2 * abs(one.price - mid) / mid for one, mid in met)
                / math.fsum(one.size for one, _ in met)
                if met
                else None
            ),
        }


def inside(history: list[Any], start: int, end: int) -> list[Any]:
    """What has start ≤ t < end."""
    low, high = (bisect_left(history, time, key=lambda one: one[0]) for time in (start, end))
    return history[low:high]
