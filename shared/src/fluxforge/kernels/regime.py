"""Columns of the spread and liquidity regimes: shares of time, and the deviation of the depth near the touch."""

from __future__ import annotations

from math import nan, sqrt

import numpy as np

from fluxforge.clock import NS
from fluxforge.kernels import blocks, rings
from fluxforge.kernels import layout as at
from fluxforge.kernels.book import Floats, Ints
from fluxforge.kernels.compiled import njit, word
from fluxforge.kernels.records import (
    LONGEST_BLOCK_POINTER,
    LONGEST_POINTER,
    REGIME_BLOCK_POINTER,
    REGIME_POINTER,
    STEP_BLOCKS,
    STEPS,
)

REGIME_NS = 30 * NS


@njit
def regime_columns(ints: Ints, floats: Floats, base: int, longest: int, tight: float, values: Floats, c: int) -> int:
    """depth_0_5bps_sigma and the shares of time tight, wide and thin, over 30 s.

    A spread lasts from its entry to the next; the entry before the window covers its start; NaN is unknown time.
    Times are summed as whole ns.
    """
    time = ints[word(base + at.TIME)]
    wide_above, thin_below = thresholds(ints, floats, base, time, longest)
    head = base + STEPS
    mask = ints[word(head + at.RING_CAP)] - 1
    times = base + ints[word(head + at.RING_AT)]
    lo, n = ints[word(head + at.RING_LO)], ints[word(head + at.RING_N)]
    since = time - REGIME_NS
    first = rings.first_after(ints, base, STEPS, REGIME_POINTER, since)
    i = max(first - 1, lo)
    entry = times + (i & mask)
    before = min(ints[word(entry)] - since, 0)
    known, tight_time, wide_time, thin_time = shares(floats, entry, mask + 1, before, tight, wide_above, thin_below)
    while i < n:
        entry = times + (i & mask)
        # Those whose next entry lies beside them, in one run that the compiler can turn into vector code.
        run = min(n - 1 - i, mask - (i & mask))
        for k in range(entry, entry + run):
            lasted = ints[word(k + 1)] - ints[word(k)]
            all_of, tight_of, wide_of, thin_of = shares(floats, k, mask + 1, lasted, tight, wide_above, thin_below)
            known, tight_time = known + all_of, tight_time + tight_of
            wide_time, thin_time = wide_time + wide_of, thin_time + thin_of
        i += run
        entry += run
        until = ints[word(times)] if i + 1 < n else time
        lasted = until - ints[word(entry)]
        all_of, tight_of, wide_of, thin_of = shares(floats, entry, mask + 1, lasted, tight, wide_above, thin_below)
        known, tight_time = known + all_of, tight_time + tight_of
        wide_time, thin_time = wide_time + wide_of, thin_time + thin_of
        i += 1
    values[c] = depth_deviation(ints, floats, base, first, time - REGIME_NS)
    values[c + 1] = tight_time / known if known else nan
    values[c + 2] = wide_time / known if known else nan
    values[c + 3] = thin_time / known if known else nan
    return c + 4


@njit
def shares(
    floats: Floats, entry: int, cap: int, lasted: int, tight: float, wide_above: float, thin_below: float
) -> tuple[int, int, int, int]:
    """What of the time that an entry of STEPS lasted is known, tight, wide and thin; `entry` is its first word."""
    depth, spread = floats[word(entry + 3 * cap)], floats[word(entry + 4 * cap)]
    return (
        lasted if spread == spread else 0,  # noqa: PLR0124
        lasted if spread < tight else 0,
        lasted if spread > wide_above else 0,
        lasted if depth < thin_below else 0,
    )


@njit
def depth_deviation(ints: Ints, floats: Floats, base: int, first: int, since: int) -> float:
    """Population standard deviation of the depth near the touch over the books after `since`, of which there is one."""
    whole = since // NS + 1
    head = base + STEPS
    mask = ints[word(head + at.RING_CAP)] - 1
    times = base + ints[word(head + at.RING_AT)]
    depths = times + 3 * (mask + 1)
    n = ints[word(head + at.RING_N)]
    total = books = 0.0
    entry = first
    while entry < n and ints[word(times + (entry & mask))] < whole * NS:
        depth = floats[word(depths + (entry & mask))]
        if depth == depth:  # noqa: PLR0124
            total += depth
            books += 1.0
        entry += 1
    head = base + STEP_BLOCKS
    block_mask = ints[word(head + at.RING_CAP)] - 1
    cap = block_mask + 1
    seconds = base + ints[word(head + at.RING_AT)]
    block = rings.first_after(ints, base, STEP_BLOCKS, REGIME_BLOCK_POINTER, whole - 1)
    last = ints[word(head + at.RING_N)]
    for k in range(block, last):
        where = seconds + (k & block_mask)
        total += floats[word(where + blocks.DEPTH * cap)]
        books += floats[word(where + blocks.BOOKS * cap)]
    mean = total / books
    deviation = 0.0
    for k in range(first, entry):
        depth = floats[word(depths + (k & mask))]
        if depth == depth:  # noqa: PLR0124
            deviation += (depth - mean) * (depth - mean)
    for k in range(block, last):
        where = seconds + (k & block_mask)
        inside = floats[word(where + blocks.BOOKS * cap)]
        apart = floats[word(where + blocks.DEPTH * cap)] / inside - mean
        deviation += floats[word(where + blocks.DEPTH_DEVIATION * cap)] + inside * apart * apart
    return sqrt(deviation / books)


@njit
def thresholds(ints: Ints, floats: Floats, base: int, time: int, longest: int) -> tuple[float, float]:
    """Three times the mean spread and half the mean depth, both weighted by time, over the longest window."""
    head = base + STEPS
    mask = ints[word(head + at.RING_CAP)] - 1
    times = base + ints[word(head + at.RING_AT)]
    depths = times + 3 * (mask + 1)
    spreads = depths + mask + 1
    lo, n = ints[word(head + at.RING_LO)], ints[word(head + at.RING_N)]
    since = time - longest
    whole = since // NS + 1
    first = rings.first_after(ints, base, STEPS, LONGEST_POINTER, since)
    i = max(first - 1, lo)
    spread_sum = depth_sum = known = 0.0
    while i < n and ints[word(times + (i & mask))] < whole * NS:
        until = ints[word(times + ((i + 1) & mask))] if i + 1 < n else time
        lasted = float(until - max(ints[word(times + (i & mask))], since))
        spread = floats[word(spreads + (i & mask))]
        if spread == spread:  # noqa: PLR0124
            spread_sum += lasted * spread
            depth_sum += lasted * floats[word(depths + (i & mask))]
            known += lasted
        i += 1
    head = base + STEP_BLOCKS
    mask = ints[word(head + at.RING_CAP)] - 1
    cap = mask + 1
    seconds = base + ints[word(head + at.RING_AT)]
    for k in range(
        rings.first_after(ints, base, STEP_BLOCKS, LONGEST_BLOCK_POINTER, whole - 1), ints[word(head + at.RING_N)]
    ):
        where = seconds + (k & mask)
        spread_sum += floats[word(where + blocks.SPREAD_TIME * cap)]
        depth_sum += floats[word(where + blocks.DEPTH_TIME * cap)]
        known += floats[word(where + blocks.KNOWN * cap)]
    if known == 0.0:
        return np.inf, -np.inf
    return 3.0 * (spread_sum / known), 0.5 * (depth_sum / known)
