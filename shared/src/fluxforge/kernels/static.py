"""Columns of one book and of one time, in the catalogue's order."""

from __future__ import annotations

from math import nan

from fluxforge.clock import NS
from fluxforge.kernels import book
from fluxforge.kernels import layout as at
from fluxforge.kernels.book import Floats, Ints
from fluxforge.kernels.compiled import njit, word


@njit
def static_columns(
    ints: Ints,
    floats: Floats,
    base: int,
    tops: Floats,
    n_bids: int,
    n_asks: int,
    max_levels: int,
    bands: Floats,
    values: Floats,
) -> tuple[int, bool]:
    """The columns of one book; returns the next column and whether a band is truncated."""
    bid, bid_size, ask, ask_size = tops[0, 0], tops[1, 0], tops[2, 0], tops[3, 0]
    mid = (bid + ask) / 2.0
    values[0], values[1] = bid, ask
    c = 2
    value_sum = size_sum = 0.0
    for k in range(max_levels):
        values[c] = tops[0, k] if k < n_bids else nan
        values[c + 1] = tops[1, k] if k < n_bids else nan
        values[c + 2] = tops[2, k] if k < n_asks else nan
        values[c + 3] = tops[3, k] if k < n_asks else nan
        c += 4
    values[c] = mid
    values[c + 1] = ask - bid
    values[c + 2] = (ask - bid) / mid
    values[c + 3] = (bid_size * ask + ask_size * bid) / (bid_size + ask_size)
    c += 4
    for k in range(max_levels):
        both = k < n_bids and k < n_asks
        values[c + k] = (tops[1, k] - tops[3, k]) / (tops[1, k] + tops[3, k]) if both else nan
    c += max_levels
    for side in range(0, 4, 2):
        for k in range(min(max_levels, n_bids if side == 0 else n_asks)):
            value_sum += tops[side, k] * tops[side + 1, k]
            size_sum += tops[side + 1, k]
    values[c] = value_sum / size_sum
    c += 1
    n_bands = len(bands) - 1
    bid_reach = band_columns(ints, floats, base, at.SIDE_BID, 1.0, mid, bands, values, c)
    ask_reach = band_columns(ints, floats, base, at.SIDE_ASK, -1.0, mid, bands, values, c + 1)
    total_bids = total_asks = 0.0
    for k in range(n_bands):
        total_bids += values[c + 2 * k]
        total_asks += values[c + 2 * k + 1]
    c += 2 * n_bands
    values[c], values[c + 1] = total_bids, total_asks
    live_bids, live_asks = ints[word(base + at.SIDE_BID + at.SIDE_LIVE)], ints[word(base + at.SIDE_ASK + at.SIDE_LIVE)]
    values[c + 2] = min(live_bids, live_asks)
    values[c + 3], values[c + 4] = bid_reach, ask_reach
    return c + 5, min(bid_reach, ask_reach) < bands[n_bands]


@njit
def band_columns(
    ints: Ints, floats: Floats, base: int, side: int, sign: float, mid: float, bands: Floats, values: Floats, c: int
) -> float:
    """Σ size per depth band into every second column from `c`; returns the reach of the side, bps."""
    head = base + side
    keys = base + ints[word(head + at.SIDE_AT)]
    sizes = keys + ints[word(head + at.SIDE_CAP)]
    slot = ints[word(head + at.SIDE_N)] - 1
    for k in range(len(bands) - 1):
        values[c + 2 * k], slot = book.depth_until(floats, keys, sizes, slot, sign, mid, bands[k + 1])
    deepest = 0
    while floats[word(sizes + deepest)] == 0.0:
        deepest += 1
    return book.distance_bps(floats[word(keys + deepest)], mid)


@njit
def time_columns(time: int, values: Floats, c: int) -> None:
    """hour_of_day, day_of_week (Monday = 0), is_weekend, minute_of_hour of t, UTC."""
    seconds = time // NS
    day = (seconds // 86400 + 3) % 7
    values[c] = seconds // 3600 % 24
    values[c + 1] = day
    values[c + 2] = 1.0 if day >= 5 else 0.0
    values[c + 3] = seconds // 60 % 60
