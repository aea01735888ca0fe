"""The features as an idiomatic Polars batch: lazy expressions over a frame of books and trades.

A window is "the rows up to this one, not older than h"; Polars' windows look at an index alone, so the index is the
time with the row's number in its low bits, and rows of equal time keep their order.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
from benchmarks.history import DEPTH, Books
from benchmarks.ours import FLOOR_COLUMNS
from numpy.typing import NDArray

_LOW = 1 << 20
_EDGES = (0.0, 5.0, 10.0, 25.0, 50.0)
_HORIZONS = (1, 5, 30, 60)
_REGIME_MS = 30_000
_TIGHT = 1e-4
_SIDES = ("bid", "ask")
_MID = pl.col("mid_price")


def feature_run(books: Books, emit_ms: int) -> Callable[[], NDArray[np.float64]]:
    """A run over all books: rows × the floor's columns; the frame of raw events is made beforehand."""
    raw = frame(books)
    return lambda: features(raw, emit_ms).fill_null(float("nan")).to_numpy()


def features(raw: pl.DataFrame, emit_ms: int) -> pl.DataFrame:
    """The floor's columns of each book, or of the first one in each `emit_ms`."""
    events = raw.with_columns(t=pl.col("t").cum_max()).with_columns(u=pl.col("t") * _LOW + pl.col("row"))
    book = events.filter(pl.col("kind") == 0).drop("size", "sign").lazy()
    book = book.with_columns(_touch()).with_columns(_static()).with_columns(_dynamic()).with_columns(_velocity())
    rows = book.with_columns(_acceleration(), *_held()).collect()
    for h in _HORIZONS:
        rows = rows.join(_returns(rows, h), on="u").join(_trades(events, h), on="u")
    rows = rows.join(_means(rows), on="u")
    rows = rows.join(_regimes(rows), on="u").with_columns(_time())
    if emit_ms:
        rows = rows.filter((pl.col("t") // emit_ms).is_first_distinct())
    return rows.select(pl.col(FLOOR_COLUMNS).cast(pl.Float64))


def frame(books: Books) -> pl.DataFrame:
    """Books and trades as one frame of raw events."""
    is_book = books.kind == 0
    columns: dict[str, Any] = {"row": np.arange(len(books.kind)), "kind": books.kind, "t": books.time_ms}
    for name, values in (("size", books.trade_size), ("sign", books.trade_sign)):
        columns[name] = np.full(len(books.kind), np.nan)
        columns[name][~is_book] = values
    for side, prices, sizes in (("bid", books.bid_price, books.bid_size), ("ask", books.ask_price, books.ask_size)):
        for k in range(DEPTH):
            for name, values in (("price", prices), ("size", sizes)):
                column = np.full(len(books.kind), np.nan)
                column[is_book] = values[:, k]
                columns[f"{side}_{name}_L{k}"] = column
    return pl.DataFrame(columns)


def _level(side: str, what: str, k: int = 0) -> pl.Expr:
    return pl.col(f"{side}_{what}_L{k}")


def _touch() -> list[pl.Expr]:
    bid, ask = _level("bid", "price"), _level("ask", "price")
    return [((bid + ask) / 2).alias("mid_price"), (ask - bid).alias("spread")]


def _distance(side: str, k: int) -> pl.Expr:
    price = _level(side, "price", k)
    return (_MID - price if side == "bid" else price - _MID) / _MID * 1e4


def _band(side: str, low: float, high: float) -> pl.Expr:
    inside = [
        pl.when((_distance(side, k) >= low) & (_distance(side, k) < high)).then(_level(side, "size", k)).otherwise(0.0)
        for k in range(DEPTH)
    ]
    return pl.sum_horizontal(inside)


def _static() -> list[pl.Expr]:
    bid, ask = _level("bid", "price"), _level("ask", "price")
    bid_size, ask_size = _level("bid", "size"), _level("ask", "size")
    micro = (bid_size * ask + ask_size * bid) / (bid_size + ask_size)
    top = [(side, k) for side in _SIDES for k in range(10)]
    value = pl.sum_horizontal([_level(side, "price", k) * _level(side, "size", k) for side, k in top])
    found = [
        (pl.col("spread") / _MID).alias("relative_spread"),
        micro.alias("microprice"),
        (micro - _MID).alias("micro_minus_mid"),
        (value / pl.sum_horizontal([_level(side, "size", k) for side, k in top])).alias("weighted_mid"),
        pl.lit(DEPTH).alias("book_depth"),
    ]
    for side in _SIDES:
        for low, high in pairwise(_EDGES):
            found.append(_band(side, low, high).alias(f"{side}_vol_band_{low:g}_{high:g}bps"))
        found.append(_band(side, 0.0, _EDGES[-1]).alias(f"total_{side}_volume"))
        found.append(_distance(side, DEPTH - 1).alias(f"{side}_reach_bps"))
    for k in range(10):
        bids, asks = _level("bid", "size", k), _level("ask", "size", k)
        found.append(((bids - asks) / (bids + asks)).alias(f"imbalance_L{k}"))
    return found


def _dynamic() -> list[pl.Expr]:
    found = [(_MID / _MID.shift()).log().alias("log_return_step")]
    flows = [_flow(k) for k in range(5)]
    found += [flow.alias(f"ofi_L{k}") for k, flow in enumerate(flows)]
    multi = pl.sum_horizontal(flows, ignore_nulls=False)
    seconds = (pl.col("t") - pl.col("t").shift()) / 1000
    velocity = pl.when(seconds > 0).then((_MID - _MID.shift()) / seconds)
    return [*found, flows[0].alias("ofi_step"), multi.alias("ofi_multi"), velocity.alias("mid_velocity")]


def _flow(k: int) -> pl.Expr:
    bid, ask = _level("bid", "price", k), _level("ask", "price", k)
    bids, asks = _level("bid", "size", k), _level("ask", "size", k)
    return (
        (bid >= bid.shift()) * bids
        - (bid <= bid.shift()) * bids.shift()
        - (ask <= ask.shift()) * asks
        + (ask >= ask.shift()) * asks.shift()
    )


def _velocity() -> list[pl.Expr]:
    depth = pl.col("bid_vol_band_0_5bps") + pl.col("ask_vol_band_0_5bps")
    return [depth.alias("depth"), ((pl.col("t") - pl.col("t").shift()) / 1000).alias("seconds")]


def _acceleration() -> pl.Expr:
    velocity = pl.col("mid_velocity")
    change = (velocity - velocity.shift()) / pl.col("seconds")
    return pl.when(pl.col("seconds") > 0).then(change).alias("mid_accel")


def _held() -> list[pl.Expr]:
    """What held from the previous book until this one, and how long."""
    t = pl.col("t")
    held = [pl.col("relative_spread").shift().alias("held_spread"), pl.col("depth").shift().alias("held_depth")]
    return [*held, t.shift().alias("held_from"), (t - t.shift()).alias("held")]


def _returns(rows: pl.DataFrame, h: int) -> pl.DataFrame:
    r = pl.col("log_return_step")
    return rows.select("u", "log_return_step", "ofi_step").rolling("u", period=_period(h * 1000)).agg(
        (r * r).sum().sqrt().alias(f"rv_{h}s"),
        r.std(ddof=0).alias(f"return_std_{h}s"),
        pl.col("ofi_step").sum().alias(f"ofi_sum_{h}s"),
    )  # fmt: skip


def _trades(events: pl.DataFrame, h: int) -> pl.DataFrame:
    size = pl.col("size").fill_nan(0.0)
    net = (pl.col("size") * pl.col("sign")).fill_nan(0.0)
    sums = events.select("u", size.alias("volume"), net.alias("net")).rolling("u", period=_period(h * 1000))
    volume, imbalance = pl.col("volume"), pl.when(pl.col("volume") > 0).then(pl.col("net") / pl.col("volume"))
    return sums.agg(pl.col("volume").sum(), pl.col("net").sum()).select(
        "u", volume.alias(f"trade_vol_{h}s"), imbalance.otherwise(0.0).alias(f"tfi_{h}s")
    )


def _clipped(what: pl.Expr, window_ms: int) -> pl.Expr:
    """Σ what·held over the window; of the interval that reaches in from before it only the part inside."""
    outside = (pl.col("t").last() - window_ms - pl.col("held_from").first()).clip(lower_bound=0)
    return (what * pl.col("held")).sum() - (outside * what.first()).fill_null(0)


def _means(rows: pl.DataFrame) -> pl.DataFrame:
    window = 1000 * max(_HORIZONS)
    known = _clipped(pl.lit(1.0), window)
    names = ("u", "t", "held_from", "held", "held_spread", "held_depth")
    return rows.select(names).rolling("u", period=_period(window)).agg(
        (3.0 * _clipped(pl.col("held_spread"), window) / known).alias("wide_above"),
        (0.5 * _clipped(pl.col("held_depth"), window) / known).alias("thin_below"),
    )  # fmt: skip


def _regimes(rows: pl.DataFrame) -> pl.DataFrame:
    known = _clipped(pl.lit(1.0), _REGIME_MS)
    spread, depth = pl.col("held_spread"), pl.col("held_depth")
    shares = {
        "spread_regime_tight_frac": spread < _TIGHT,
        "spread_regime_wide_frac": spread > pl.col("wide_above").last(),
        "liquidity_regime_thin_frac": depth < pl.col("thin_below").last(),
    }
    names = ("u", "t", "held_from", "held", "held_spread", "held_depth", "depth", "wide_above", "thin_below")
    return rows.select(names).rolling("u", period=_period(_REGIME_MS)).agg(
        pl.col("depth").std(ddof=0).alias("depth_0_5bps_sigma"),
        *(
            (_clipped(share.cast(pl.Float64), _REGIME_MS) / known).alias(name) for name, share in shares.items()
        ),
    )  # fmt: skip


def _time() -> list[pl.Expr]:
    at = pl.from_epoch(pl.col("t"), "ms")
    day = at.dt.weekday() - 1
    hour, minute = at.dt.hour().alias("hour_of_day"), at.dt.minute().alias("minute_of_hour")
    return [hour, minute, day.alias("day_of_week"), (day >= 5).alias("is_weekend")]


def _period(window_ms: int) -> str:
    return f"{window_ms * _LOW}i"
