"""Columns of the windows, in the catalogue's order.

Every value is computed from what stands in its window and nothing else: the window's first, cut second entry by
entry, every later second by its block, all in log order. So a value forgets what has left its window to the last bit,
and a processor that started later gives the same bits.

    (since                                    t]
     ├ cut ┤├─ block ─┤├─ block ─┤ … ├─ running ┤
"""

from __future__ import annotations

from math import exp2, nan, sqrt

import numpy as np
from numpy.typing import NDArray

from fluxforge.clock import NS
from fluxforge.kernels import blocks, rings
from fluxforge.kernels import layout as at
from fluxforge.kernels.book import Floats, Ints
from fluxforge.kernels.compiled import njit, word
from fluxforge.kernels.records import DECAY, DECAY_BLOCKS, POINTERS, STEP_BLOCKS, STEPS, TRADE_BLOCKS, TRADES

DECAY_SPAN = 10
POINTER_WORDS = 6
"""Per horizon: the first step, trade, decaying step of its windows, and the first block of each."""


@njit
def rolling_columns(
    ints: Ints, floats: Floats, base: int, horizons: Ints, weights: Floats, values: Floats, c: int
) -> int:
    """rv, return_std, ofi_decay, ofi_sum, tfi and trade_vol, each for every horizon."""
    time = ints[word(base + at.TIME)]
    count = len(horizons)
    for h in range(count):
        pointer = POINTERS + POINTER_WORDS * h
        since = time - horizons[h]
        rv, std, ofi = return_window(ints, floats, base, since, pointer)
        tfi, volume = trade_window(ints, floats, base, since, pointer + 2)
        values[c + h] = rv
        values[c + count + h] = std
        values[c + 2 * count + h] = decayed(ints, floats, base, time, h, horizons[h], pointer + 4, weights[h])
        values[c + 3 * count + h] = ofi
        values[c + 4 * count + h] = tfi
        values[c + 5 * count + h] = volume
    return c + 6 * count


@njit
def return_window(ints: Ints, floats: Floats, base: int, since: int, pointer: int) -> tuple[float, float, float]:
    """sqrt(Σ r²), population standard deviation of r (NaN without a step), Σ OFI over the steps after `since`."""
    whole = since // NS + 1
    head = base + STEPS
    mask = ints[word(head + at.RING_CAP)] - 1
    times = base + ints[word(head + at.RING_AT)]
    returns = times + mask + 1
    n = ints[word(head + at.RING_N)]
    first = entry = rings.first_after(ints, base, STEPS, pointer, since)
    squares = total = flow = steps = 0.0
    while entry < n and ints[word(times + (entry & mask))] < whole * NS:
        r = floats[word(returns + (entry & mask))]
        if r == r:  # noqa: PLR0124  NaN marks an entry that is no step
            squares += r * r
            total += r
            flow += floats[word(returns + mask + 1 + (entry & mask))]
            steps += 1.0
        entry += 1
    head = base + STEP_BLOCKS
    block_mask = ints[word(head + at.RING_CAP)] - 1
    cap = block_mask + 1
    seconds = base + ints[word(head + at.RING_AT)]
    block = rings.first_after(ints, base, STEP_BLOCKS, pointer + 1, whole - 1)
    last = ints[word(head + at.RING_N)]
    for k in range(block, last):
        where = seconds + (k & block_mask)
        steps += floats[word(where + blocks.STEP_COUNT * cap)]
        squares += floats[word(where + blocks.SQUARE * cap)]
        total += floats[word(where + blocks.RETURN * cap)]
        flow += floats[word(where + blocks.FLOW * cap)]
    if steps == 0.0:
        return 0.0, nan, 0.0
    mean = total / steps
    deviation = 0.0
    for k in range(first, entry):
        r = floats[word(returns + (k & mask))]
        if r == r:  # noqa: PLR0124
            deviation += (r - mean) * (r - mean)
    for k in range(block, last):
        where = seconds + (k & block_mask)
        inside = floats[word(where + blocks.STEP_COUNT * cap)]
        if inside > 0.0:
            apart = floats[word(where + blocks.RETURN * cap)] / inside - mean
            deviation += floats[word(where + blocks.RETURN_DEVIATION * cap)] + inside * apart * apart
    return sqrt(squares), sqrt(deviation / steps), flow


@njit
def trade_window(ints: Ints, floats: Floats, base: int, since: int, pointer: int) -> tuple[float, float]:
    """Trade flow imbalance and volume of the trades after `since`."""
    whole = since // NS + 1
    head = base + TRADES
    mask = ints[word(head + at.RING_CAP)] - 1
    times = base + ints[word(head + at.RING_AT)]
    sizes = times + mask + 1
    n = ints[word(head + at.RING_N)]
    entry = rings.first_after(ints, base, TRADES, pointer, since)
    volume = bought = sold = 0.0
    while entry < n and ints[word(times + (entry & mask))] < whole * NS:
        size, side = floats[word(sizes + (entry & mask))], floats[word(sizes + mask + 1 + (entry & mask))]
        volume += size
        bought += size if side > 0.0 else 0.0
        sold += size if side < 0.0 else 0.0
        entry += 1
    head = base + TRADE_BLOCKS
    mask = ints[word(head + at.RING_CAP)] - 1
    cap = mask + 1
    seconds = base + ints[word(head + at.RING_AT)]
    for block in range(
        rings.first_after(ints, base, TRADE_BLOCKS, pointer + 1, whole - 1), ints[word(head + at.RING_N)]
    ):
        where = seconds + (block & mask)
        volume += floats[word(where + blocks.VOLUME * cap)]
        bought += floats[word(where + blocks.BOUGHT * cap)]
        sold += floats[word(where + blocks.SOLD * cap)]
    taken = bought + sold
    return (bought - sold) / taken if taken > 0.0 else 0.0, volume


@njit
def decayed(
    ints: Ints, floats: Floats, base: int, time: int, h: int, horizon: int, pointer: int, weights: Floats
) -> float:
    """Σ OFI·2^(−age/horizon) over (t − 10 horizons, t]; `weights[word(k)]` is 2^(−k s/horizon), k < 10 horizons.

    Blocks are as of the end of their second; their sum is as of the end of the running one, then brought back to t.
    They run in four partial sums, dealt from the window's first.
    """
    since = time - DECAY_SPAN * horizon
    whole, second = since // NS + 1, time // NS
    head = base + DECAY
    mask = ints[word(head + at.RING_CAP)] - 1
    times = base + ints[word(head + at.RING_AT)]
    flows = times + mask + 1
    n = ints[word(head + at.RING_N)]
    edge = 0.0
    entry = rings.first_after(ints, base, DECAY, pointer, since)
    while entry < n and ints[word(times + (entry & mask))] < whole * NS:
        edge += floats[word(flows + (entry & mask))] * exp2(-((time - ints[word(times + (entry & mask))]) / horizon))
        entry += 1
    head = base + DECAY_BLOCKS
    mask = ints[word(head + at.RING_CAP)] - 1
    seconds = base + ints[word(head + at.RING_AT)]
    sums = seconds + (h + 1) * (mask + 1)
    n = ints[word(head + at.RING_N)]
    block = rings.first_after(ints, base, DECAY_BLOCKS, pointer + 1, whole - 1)
    p0 = p1 = p2 = p3 = 0.0
    while block + 4 <= n:
        b0, b1, b2, b3 = block & mask, (block + 1) & mask, (block + 2) & mask, (block + 3) & mask
        p0 += floats[word(sums + b0)] * weights[word(second - ints[word(seconds + b0)])]
        p1 += floats[word(sums + b1)] * weights[word(second - ints[word(seconds + b1)])]
        p2 += floats[word(sums + b2)] * weights[word(second - ints[word(seconds + b2)])]
        p3 += floats[word(sums + b3)] * weights[word(second - ints[word(seconds + b3)])]
        block += 4
    while block < n:
        p0 += floats[word(sums + (block & mask))] * weights[word(second - ints[word(seconds + (block & mask))])]
        block += 1
    return edge + ((p0 + p1) + (p2 + p3)) * exp2(((second + 1) * NS - time) / horizon)


def decay_weights(horizons: tuple[int, ...]) -> NDArray[np.float64]:
    """2^(−k/h) [horizons, 10 × longest]: what is left after k whole seconds, for horizons of h s."""
    ages = np.arange(DECAY_SPAN * max(horizons))
    return np.exp2(-ages / np.array(horizons)[:, None])
