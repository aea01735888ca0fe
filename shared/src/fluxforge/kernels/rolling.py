"""Columns of the windows, in the catalogue's order.

Every value is computed from what stands in its window and nothing else: sums run over the window's own entries in log
order, the decayed sum over absolute one-second blocks; so a value forgets what has left its window to the last bit,
and a processor that started later gives the same bits.
"""

from __future__ import annotations

from math import exp2, nan, sqrt

import numpy as np

from fluxforge.clock import NS
from fluxforge.kernels import layout as at
from fluxforge.kernels import rings
from fluxforge.kernels.book import Floats, Ints
from fluxforge.kernels.compiled import njit
from fluxforge.kernels.steps import BLOCKS, DECAY, LONGEST_POINTER, POINTERS, REGIME_POINTER, STEPS, TRADES

REGIME_NS = 30 * NS
DECAY_SPAN = 10


@njit
def rolling_columns(ints: Ints, floats: Floats, base: int, horizons: Ints, values: Floats, c: int) -> int:
    """rv, return_std, ofi_decay, ofi_sum, tfi and trade_vol, each for every horizon."""
    time = ints[base + at.TIME]
    count = len(horizons)
    for h in range(count):
        since = time - horizons[h]
        pointer = POINTERS + 4 * h
        rv, std, ofi = return_window(ints, floats, base, rings.first_after(ints, base, STEPS, pointer, since))
        tfi, volume = trade_window(ints, floats, base, rings.first_after(ints, base, TRADES, pointer + 1, since))
        values[c + h] = rv
        values[c + count + h] = std
        values[c + 2 * count + h] = decayed(ints, floats, base, time, h, horizons[h], pointer + 2)
        values[c + 3 * count + h] = ofi
        values[c + 4 * count + h] = tfi
        values[c + 5 * count + h] = volume
    return c + 6 * count


@njit
def return_window(ints: Ints, floats: Floats, base: int, first: int) -> tuple[float, float, float]:
    """sqrt(Σ r²), population standard deviation of r (NaN without a step), Σ OFI over the steps from `first`."""
    head = base + STEPS
    cap = ints[head + at.RING_CAP]
    returns = base + ints[head + at.RING_AT] + cap
    n = ints[head + at.RING_N]
    squares = total = flow = 0.0
    steps = 0
    for entry in range(first, n):
        where = returns + (entry & (cap - 1))
        r = floats[where]
        if r == r:  # noqa: PLR0124  NaN marks an entry that is no step
            squares += r * r
            total += r
            flow += floats[where + cap]
            steps += 1
    if steps == 0:
        return 0.0, nan, 0.0
    mean = total / steps
    deviation = 0.0
    for entry in range(first, n):
        r = floats[returns + (entry & (cap - 1))]
        if r == r:  # noqa: PLR0124
            deviation += (r - mean) * (r - mean)
    return sqrt(squares), sqrt(deviation / steps), flow


@njit
def trade_window(ints: Ints, floats: Floats, base: int, first: int) -> tuple[float, float]:
    """Trade flow imbalance and volume of the trades from `first`."""
    head = base + TRADES
    cap = ints[head + at.RING_CAP]
    sizes = base + ints[head + at.RING_AT] + cap
    volume = bought = sold = 0.0
    for entry in range(first, ints[head + at.RING_N]):
        where = sizes + (entry & (cap - 1))
        size, side = floats[where], floats[where + cap]
        volume += size
        if side > 0.0:
            bought += size
        elif side < 0.0:
            sold += size
    taken = bought + sold
    return (bought - sold) / taken if taken > 0.0 else 0.0, volume


@njit
def decayed(ints: Ints, floats: Floats, base: int, time: int, h: int, horizon: int, pointer: int) -> float:
    """Σ OFI·2^(−age/horizon) over (t − 10 horizons, t].

    The window's first and last second are summed step by step, the whole seconds between by their blocks, carried
    from second to second: absolute blocks, so that the value knows nothing of when the processor started.
    """
    since = time - DECAY_SPAN * horizon
    first_block, last_block = since // NS + 1, time // NS - 1
    head = base + DECAY
    cap = ints[head + at.RING_CAP]
    times = base + ints[head + at.RING_AT]
    n = ints[head + at.RING_N]
    edge = 0.0
    entry = rings.first_after(ints, base, DECAY, pointer, since)
    while entry < n:
        where = times + (entry & (cap - 1))
        if ints[where] // NS >= first_block and first_block <= last_block:
            break
        edge += floats[where + cap] * exp2(-((time - ints[where]) / horizon))
        entry += 1
    if first_block > last_block:
        return edge
    blocks = base + BLOCKS
    block_cap = ints[blocks + at.RING_CAP]
    seconds = base + ints[blocks + at.RING_AT]
    carried = 0.0
    reached = first_block - 1
    block = rings.first_after(ints, base, BLOCKS, pointer + 1, reached)
    one_second = exp2(-(NS / horizon))
    while block < ints[blocks + at.RING_N]:
        where = seconds + (block & (block_cap - 1))
        second = ints[where]
        if second > last_block:
            break
        if second == reached + 1:
            carried = carried * one_second + floats[where + (h + 1) * block_cap]
        else:
            carried = carried * exp2(-((second - reached) * NS / horizon)) + floats[where + (h + 1) * block_cap]
        reached = second
        block += 1
    carried *= exp2(-((time - (reached + 1) * NS) / horizon))
    current = 0.0
    entry = n - 1
    oldest = ints[head + at.RING_LO]
    while entry >= oldest and ints[times + (entry & (cap - 1))] // NS > last_block:
        entry -= 1
    for later in range(entry + 1, n):
        where = times + (later & (cap - 1))
        current += floats[where + cap] * exp2(-((time - ints[where]) / horizon))
    return edge + carried + current


@njit
def regime_columns(ints: Ints, floats: Floats, base: int, longest: int, tight: float, values: Floats, c: int) -> int:
    """depth_0_5bps_sigma and the shares of time tight, wide and thin, over 30 s."""
    time = ints[base + at.TIME]
    head = base + STEPS
    cap = ints[head + at.RING_CAP]
    times = base + ints[head + at.RING_AT]
    lo, n = ints[head + at.RING_LO], ints[head + at.RING_N]
    spread_sum = depth_sum = known = 0.0
    first = rings.first_after(ints, base, STEPS, LONGEST_POINTER, time - longest)
    for i in range(max(first - 1, lo), n):
        where = times + (i & (cap - 1))
        until = time if i + 1 == n else ints[times + ((i + 1) & (cap - 1))]
        lasted = float(until - max(ints[where], time - longest))
        relative = floats[where + 4 * cap]
        if relative == relative:  # noqa: PLR0124
            spread_sum += lasted * relative
            depth_sum += lasted * floats[where + 3 * cap]
            known += lasted
    wide_above = 3.0 * (spread_sum / known) if known > 0.0 else np.inf
    thin_below = 0.5 * (depth_sum / known) if known > 0.0 else -np.inf
    tight_time = wide_time = thin_time = known = 0.0
    first = rings.first_after(ints, base, STEPS, REGIME_POINTER, time - REGIME_NS)
    snapshots = 0
    total = 0.0
    for i in range(max(first - 1, lo), n):
        where = times + (i & (cap - 1))
        until = time if i + 1 == n else ints[times + ((i + 1) & (cap - 1))]
        lasted = float(until - max(ints[where], time - REGIME_NS))
        depth, relative = floats[where + 3 * cap], floats[where + 4 * cap]
        if relative == relative:  # noqa: PLR0124
            known += lasted
            if relative < tight:
                tight_time += lasted
            if relative > wide_above:
                wide_time += lasted
            if depth < thin_below:
                thin_time += lasted
            if i >= first:
                total += depth
                snapshots += 1
    mean = total / snapshots
    deviation = 0.0
    for i in range(first, n):
        depth = floats[times + 3 * cap + (i & (cap - 1))]
        if depth == depth:  # noqa: PLR0124
            deviation += (depth - mean) * (depth - mean)
    values[c] = sqrt(deviation / snapshots)
    values[c + 1] = tight_time / known if known > 0.0 else nan
    values[c + 2] = wide_time / known if known > 0.0 else nan
    values[c + 3] = thin_time / known if known > 0.0 else nan
    return c + 4
