"""Feature rows the slow and plain way: at each row every window is recomputed from the whole history.

Written from the definitions of the features alone, never from the kernel. Besides the readings of `naive_log`:

1.  updates_since_last counts valid book events with a known t only.
2.  A step lies in a window by the key's time t at its later book; a trade by t at the trade.
3.  ofi_sum and ofi_decay are 0 where the window holds no step; return_std is null there. tfi is 0 where the known
    sides of the window's trades sum to 0.
4.  The 0–5 bps depth of sigma and of the thin regime is that of the first band [0, bands_bps[0]).
5.  A spread lasts from its book to t after the next valid book or break; at a row it lasts to the row. Both regime
    means run over the known time in (t − longest horizon, t]; with no known time in the 30 s window the share is null.
6.  A row's `after_gap` looks at breaks since the last row, this event included; so does `late_clamped`.
7.  truncated_band: outermost edge > the smaller of bid and ask reach.
8.  micro_minus_mid needs no previous book and is never null.
9.  Distances are (mid − p)/mid·10⁴ for bids and (p − mid)/mid·10⁴ for asks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from fluxforge.events import AnyEvent, BookDelta, BookSnapshot
from fluxforge.kernels.config import FeatureConfig
from reference.naive_impact import ImpactHistory
from reference.naive_log import NS, Levels, Moment, by_key, moments

Row = dict[str, Any]

REGIME_S = 30


def feature_rows(
    events: Iterable[AnyEvent], config: FeatureConfig | None = None, offsets: Iterable[int] | None = None
) -> list[Row]:
    """All rows, key after key in order of first appearance, each key's in log order; null is None.

    `offsets` run alongside the events (default 0, 1, 2…).
    """
    events = list(events)
    logs = by_key(events, range(len(events)) if offsets is None else offsets)
    return [row for log in logs.values() for row in key_rows(moments(log), config or FeatureConfig())]


@dataclass
class Book:
    """What is remembered of a valid book; `bids` and `asks` hold the top levels the features look at."""

    t: int
    bids: Levels
    asks: Levels
    mid: float
    relative_spread: float
    depth: float
    velocity: float | None = None


@dataclass
class Step:
    """The change from one valid book to the next."""

    t: int
    log_return: float
    ofi: float


@dataclass
class Lasting:
    """A book's spread and depth hold over [start, end); end is None while they still do."""

    start: int
    end: int | None
    relative_spread: float
    depth: float


@dataclass
class History:
    """All that ever happened to one key."""

    books: list[Book] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    trades: list[tuple[int, float, int]] = field(default_factory=list)
    lasting: list[Lasting] = field(default_factory=list)

    def end_lasting(self, t: int | None) -> None:
        if self.lasting and self.lasting[-1].end is None:
            self.lasting[-1].end = t


def key_rows(log: Iterable[Moment], config: FeatureConfig) -> list[Row]:
    """The rows of one key."""
    rows: list[Row] = []
    history = History()
    impact: ImpactHistory | None = None
    previous: Book | None = None
    after_gap = late = False
    updates = 0
    bucket: int | None = None
    interval = round(config.hf_emit_interval * NS)
    for moment in log:
        late = late or moment.late
        impact = impact or ImpactHistory(moment.event.key, config)
        if moment.what != "book":
            impact.other(moment)
        if moment.what == "break":
            after_gap, previous = True, None
            history.end_lasting(moment.t)
        if moment.what == "trade":
            assert moment.t is not None
            history.trades.append((moment.t, moment.event.size, moment.event.side))  # type: ignore[union-attr]
        if moment.what != "book":
            continue
        assert moment.t is not None
        assert isinstance(moment.event, BookSnapshot | BookDelta)
        static = static_features(moment.bids, moment.asks, config)
        keep = max(config.max_levels, config.ofi_levels)
        book = Book(
            moment.t,
            moment.bids[:keep],
            moment.asks[:keep],
            static["mid_price"],
            static["relative_spread"],
            first_band_depth(static, config),
        )
        dynamic = dynamic_features(book, previous, config)
        book.velocity = dynamic["mid_velocity"]
        impact.book(book.t, book.mid, dynamic["ofi_step"])
        if previous is not None:
            history.steps.append(Step(book.t, dynamic["log_return_step"], dynamic["ofi_step"]))
        history.books.append(book)
        history.end_lasting(book.t)
        history.lasting.append(Lasting(book.t, None, book.relative_spread, book.depth))
        previous = book
        updates += moment.event.updates if isinstance(moment.event, BookSnapshot) else 1
        if interval and book.t // interval == bucket:
            continue
        bucket = book.t // interval if interval else None
        truncated = outer_edge(config) > min(static["bid_reach_bps"], static["ask_reach_bps"])
        conflated = isinstance(moment.event, BookSnapshot) and moment.event.conflated
        rows.append(
            {
                "exchange": moment.event.exchange,
                "symbol": moment.event.symbol,
                "timestamp": book.t,
                "capture_ts": moment.event.capture_ts,
                "source_offset": moment.offset,
                "sampling": "conflated" if conflated else "event",
                "updates_since_last": updates,
                "quality": 1 * after_gap + 2 * late + 4 * truncated,
                **static,
                "micro_minus_mid": static["microprice"] - static["mid_price"],
                **dynamic,
                **rolling_features(history, book.t, config),
                **impact.features(book.t),
                **time_features(book.t),
            }
        )
        if config.keep_raw_arrays:
            rows[-1]["bids"] = [{"price": p, "size": q} for p, q in moment.bids[: config.max_levels]]
            rows[-1]["asks"] = [{"price": p, "size": q} for p, q in moment.asks[: config.max_levels]]
        after_gap = late = False
        updates = 0
    return rows


def outer_edge(config: FeatureConfig) -> float:
    return config.bands_bps[-1]


def band_names(side: str, config: FeatureConfig) -> list[tuple[str, float, float]]:
    """(name, lo, hi) of each band."""
    edges = (0.0, *config.bands_bps)
    return [(f"{side}_vol_band_{lo:g}_{hi:g}bps", lo, hi) for lo, hi in pairwise(edges)]


def first_band_depth(static: Row, config: FeatureConfig) -> float:
    return static[band_names("bid", config)[0][0]] + static[band_names("ask", config)[0][0]]


def static_features(bids: Levels, asks: Levels, config: FeatureConfig) -> Row:
    """Of one book."""
    (pb, qb), (pa, qa) = bids[0], asks[0]
    mid = (pb + pa) / 2
    row: Row = {"best_bid": pb, "best_ask": pa}
    for k in range(config.max_levels):
        bid = bids[k] if k < len(bids) else (None, None)
        ask = asks[k] if k < len(asks) else (None, None)
        row[f"bid_price_L{k}"], row[f"bid_size_L{k}"] = bid
        row[f"ask_price_L{k}"], row[f"ask_size_L{k}"] = ask
        both = k < len(bids) and k < len(asks)
        row[f"imbalance_L{k}"] = (bids[k][1] - asks[k][1]) / (bids[k][1] + asks[k][1]) if both else None
    row["mid_price"] = mid
    row["spread"] = pa - pb
    row["relative_spread"] = (pa - pb) / mid
    row["microprice"] = (qb * pa + qa * pb) / (qb + qa)
    top = bids[: config.max_levels] + asks[: config.max_levels]
    row["weighted_mid"] = math.fsum(p * q for p, q in top) / math.fsum(q for _, q in top)
    for side, levels, sign in (("bid", bids, -1), ("ask", asks, 1)):
        distances = [(sign * (p - mid) / mid * 1e4, q) for p, q in levels]
        volumes = []
        for name, lo, hi in band_names(side, config):
            volumes.append(math.fsum(q for d, q in distances if lo <= d < hi))
            row[name] = volumes[-1]
        row[f"total_{side}_volume"] = math.fsum(volumes)
        row[f"{side}_reach_bps"] = distances[-1][0]
    row["book_depth"] = min(len(bids), len(asks))
    return row


def level_ofi(
    bid: tuple[float, float], ask: tuple[float, float], bid0: tuple[float, float], ask0: tuple[float, float]
) -> float:
    """Cont, Kukanov, Stoikov 2014, at one level: (price, size) now and before."""
    e = 0.0
    e += bid[1] if bid[0] >= bid0[0] else 0.0
    e -= bid0[1] if bid[0] <= bid0[0] else 0.0
    e -= ask[1] if ask[0] <= ask0[0] else 0.0
    e += ask0[1] if ask[0] >= ask0[0] else 0.0
    return e


def dynamic_features(book: Book, previous: Book | None, config: FeatureConfig) -> Row:
    """Against the previous valid book; all None without one."""
    row: Row = {"log_return_step": None, "ofi_step": None}
    row |= {f"ofi_L{k}": None for k in range(config.ofi_levels)}
    row |= {"ofi_multi": None, "mid_velocity": None, "mid_accel": None}
    if previous is None:
        return row
    row["log_return_step"] = math.log(book.mid / previous.mid)
    row["ofi_step"] = level_ofi(book.bids[0], book.asks[0], previous.bids[0], previous.asks[0])
    present = []
    for k in range(config.ofi_levels):
        if all(k < len(side) for side in (book.bids, book.asks, previous.bids, previous.asks)):
            present.append(level_ofi(book.bids[k], book.asks[k], previous.bids[k], previous.asks[k]))
            row[f"ofi_L{k}"] = present[-1]
    row["ofi_multi"] = math.fsum(present)
    dt = (book.t - previous.t) / NS
    if dt > 0:
        row["mid_velocity"] = (book.mid - previous.mid) / dt
        if previous.velocity is not None:
            row["mid_accel"] = (row["mid_velocity"] - previous.velocity) / dt
    return row


def population_std(values: Sequence[float]) -> float | None:
    if not values:
        return None
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((x - mean) ** 2 for x in values) / len(values))


def rolling_features(history: History, t: int, config: FeatureConfig) -> Row:
    """Every window, from the whole history."""
    row: Row = {}
    for h in config.horizons:
        steps = [s for s in history.steps if t - h * NS < s.t <= t]
        trades = [(size, side) for at, size, side in history.trades if t - h * NS < at <= t]
        returns = [s.log_return for s in steps]
        row[f"rv_{h}s"] = math.sqrt(math.fsum(r * r for r in returns))
        row[f"return_std_{h}s"] = population_std(returns)
        row[f"ofi_decay_{h}s"] = math.fsum(
            s.ofi * 2.0 ** (-(t - s.t) / (h * NS)) for s in history.steps if t - 10 * h * NS < s.t <= t
        )
        row[f"ofi_sum_{h}s"] = math.fsum(s.ofi for s in steps)
        buy = math.fsum(size for size, side in trades if side > 0)
        sell = math.fsum(size for size, side in trades if side < 0)
        row[f"tfi_{h}s"] = (buy - sell) / (buy + sell) if buy + sell else 0.0
        row[f"trade_vol_{h}s"] = math.fsum(size for size, _ in trades)
    depths = [b.depth for b in history.books if t - REGIME_S * NS < b.t <= t]
    row["depth_0_5bps_sigma"] = population_std(depths)
    recent = clipped(history.lasting, t - REGIME_S * NS, t)
    longest = clipped(history.lasting, t - max(config.horizons) * NS, t)
    spread = time_mean([(ns, spread) for ns, spread, _ in longest])
    depth = time_mean([(ns, depth) for ns, _, depth in longest])
    row["spread_regime_tight_frac"] = share([(ns, s < config.tight_spread_threshold) for ns, s, _ in recent])
    row["spread_regime_wide_frac"] = share([(ns, spread is not None and s > 3 * spread) for ns, s, _ in recent])
    row["liquidity_regime_thin_frac"] = share([(ns, depth is not None and d < depth / 2) for ns, _, d in recent])
    return row


def clipped(lasting: list[Lasting], start: int, end: int) -> list[tuple[int, float, float]]:
    """(ns inside (start, end], relative spread, depth) of what lasted there."""
    inside = [
        (min(x.end if x.end is not None else end, end) - max(x.start, start), x.relative_spread, x.depth)
        for x in lasting
    ]
    return [x for x in inside if x[0] > 0]


def time_mean(weighted: list[tuple[int, float]]) -> float | None:
    total = sum(ns for ns, _ in weighted)
    return math.fsum(ns * x for ns, x in weighted) / total if total else None


def share(weighted: list[tuple[int, bool]]) -> float | None:
    total = sum(ns for ns, _ in weighted)
    return sum(ns for ns, is_so in weighted if is_so) / total if total else None


def time_features(t: int) -> Row:
    at = datetime.fromtimestamp(t // NS, UTC)
    return {
        "hour_of_day": at.hour,
        "day_of_week": at.weekday(),
        "is_weekend": at.weekday() >= 5,
        "minute_of_hour": at.minute,
    }
