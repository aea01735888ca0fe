"""The full L2 book of a key, inside its record.

Each side is two sorted runs, keys and sizes, ascending with the best level last: a bid's key is its price, an ask's
its negated price. So an update near the touch moves few words. A removed level stays as a tombstone (size 0) that the
next insertion nearby takes over; the last slot is never a tombstone, so the best is always at the end.
"""

from __future__ import annotations

from math import isfinite

import numpy as np
from numpy.typing import NDArray

from fluxforge.kernels import layout as at
from fluxforge.kernels.compiled import njit, word

_REACH = 32
"""How far an insertion looks for a tombstone before it moves everything up to the touch."""

_LARGEST = float(np.finfo(np.float64).max)

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@njit
def clear(ints: Ints, base: int, side: int) -> None:
    """Forget one side."""
    ints[word(base + side + at.SIDE_N)] = 0
    ints[word(base + side + at.SIDE_LIVE)] = 0


@njit
def find(floats: Floats, keys: int, n: int, key: float) -> int:
    """Index of the first slot whose key is ≥ `key`: gallops down from the best, then bisects."""
    step, high = 1, n
    low = n - 1
    while low >= 0 and floats[word(keys + low)] >= key:
        high = low
        low -= step
        step <<= 1
    low = max(low, -1)
    while high - low > 1:
        middle = (low + high) >> 1
        if floats[word(keys + middle)] >= key:
            high = middle
        else:
            low = middle
    return high


@njit
def insert(ints: Ints, floats: Floats, base: int, side: int, slot: int, key: float, size: float) -> None:
    """Put a new level before `slot` (the first greater key); takes a tombstone near by or moves the rest up."""
    head = base + side
    keys = base + ints[word(head + at.SIDE_AT)]
    sizes = keys + ints[word(head + at.SIDE_CAP)]
    n = ints[word(head + at.SIDE_N)]
    ints[word(head + at.SIDE_LIVE)] += 1
    up = slot
    while up < n and up < slot + _REACH and floats[word(sizes + up)] != 0.0:
        up += 1
    if up < n and up < slot + _REACH:
        for j in range(up, slot, -1):
            floats[word(keys + j)] = floats[word(keys + j - 1)]
            floats[word(sizes + j)] = floats[word(sizes + j - 1)]
        floats[word(keys + slot)] = key
        floats[word(sizes + slot)] = size
        return
    if up < n:
        down = slot - 1
        while down >= 0 and down > slot - _REACH and floats[word(sizes + down)] != 0.0:
            down -= 1
        if down >= 0 and floats[word(sizes + down)] == 0.0:
            for j in range(down, slot - 1):
                floats[word(keys + j)] = floats[word(keys + j + 1)]
                floats[word(sizes + j)] = floats[word(sizes + j + 1)]
            floats[word(keys + slot - 1)] = key
            floats[word(sizes + slot - 1)] = size
            return
    for j in range(n, slot, -1):
        floats[word(keys + j)] = floats[word(keys + j - 1)]
        floats[word(sizes + j)] = floats[word(sizes + j - 1)]
    floats[word(keys + slot)] = key
    floats[word(sizes + slot)] = size
    ints[word(head + at.SIDE_N)] = n + 1


@njit
def update(ints: Ints, floats: Floats, base: int, side: int, key: float, size: float) -> None:
    """Set one level to an absolute size; 0 removes it. The side must have room for one more slot."""
    head = base + side
    keys = base + ints[word(head + at.SIDE_AT)]
    sizes = keys + ints[word(head + at.SIDE_CAP)]
    n = ints[word(head + at.SIDE_N)]
    slot = find(floats, keys, n, key)
    if slot == n or floats[word(keys + slot)] != key:
        if size != 0.0:
            insert(ints, floats, base, side, slot, key, size)
        return
    was = floats[word(sizes + slot)]
    floats[word(sizes + slot)] = size
    if size != 0.0:
        if was == 0.0:
            ints[word(head + at.SIDE_LIVE)] += 1
    elif was != 0.0:
        ints[word(head + at.SIDE_LIVE)] -= 1
        while n > 0 and floats[word(sizes + n - 1)] == 0.0:
            n -= 1
        ints[word(head + at.SIDE_N)] = n


@njit
def apply(ints: Ints, floats: Floats, base: int, side: int, sign: float, levels: Floats, first: int, count: int) -> int:
    """Apply `count` level changes from `levels[first:]`; bad ones are passed over. Returns OK or BAD_LEVEL."""
    reason = at.OK
    for k in range(count):
        price = levels[word(first + 2 * k)]
        size = levels[word(first + 2 * k + 1)]
        if isfinite(price) and isfinite(size) and price > 0.0 and size >= 0.0:
            update(ints, floats, base, side, sign * price, size)
        else:
            reason = at.BAD_LEVEL
    return reason


@njit
def check_side(levels: Floats, first: int, count: int, sign: float, unsorted: int) -> int:
    """The reason a snapshot's side is no valid one, or OK; `sign` is 1 for bids (descending), −1 for asks."""
    last = np.inf
    for k in range(count):
        price = levels[word(first + 2 * k)]
        size = levels[word(first + 2 * k + 1)]
        if not (isfinite(price) and isfinite(size)):
            return at.NOT_FINITE
        if price <= 0.0 or size <= 0.0:
            return at.NOT_POSITIVE
        if sign * price >= last:
            return unsorted
        last = sign * price
    return at.OK


@njit
def install_side(
    ints: Ints, floats: Floats, base: int, side: int, sign: float, levels: Floats, first: int, count: int
) -> bool:
    """Replace one side (best first in `levels`), checking as it goes; whether it is a valid one.

    Keys that fall strictly from below +∞ (bids) or 0 (asks) are good prices when the last one is.
    """
    head = base + side
    keys = base + ints[word(head + at.SIDE_AT)]
    ints[word(head + at.SIDE_N)] = count
    ints[word(head + at.SIDE_LIVE)] = count
    valid = True
    last = np.inf if sign > 0.0 else 0.0
    # Unsigned indices: the compiler need not ask whether they count from the end.
    one, two, cap = np.uint64(1), np.uint64(2), np.uint64(ints[word(head + at.SIDE_CAP)])
    source, target = np.uint64(first), np.uint64(keys + count - 1)
    for _ in range(count):
        price = levels[source]
        size = levels[source + one]
        key = sign * price
        floats[target] = key
        floats[target + cap] = size
        valid &= (key < last) & (size > 0.0) & (size <= _LARGEST)
        last = key
        source += two
        target -= one
    return valid and (count == 0 or (last > 0.0 if sign > 0.0 else last > -np.inf))


@njit
def install(ints: Ints, floats: Floats, base: int, levels: Floats, first: int, bids: int, asks: int) -> int:
    """Replace the book by a snapshot. Returns OK, or why it cannot stand (the book is then forgotten)."""
    sound = install_side(ints, floats, base, at.SIDE_BID, 1.0, levels, first, bids)
    sound &= install_side(ints, floats, base, at.SIDE_ASK, -1.0, levels, first + 2 * bids, asks)
    if sound:
        ints[word(base + at.HAVE_BOOK)] = 1
        return at.OK
    clear(ints, base, at.SIDE_BID)
    clear(ints, base, at.SIDE_ASK)
    ints[word(base + at.HAVE_BOOK)] = 0
    reason = check_side(levels, first, bids, 1.0, at.BIDS_UNSORTED)
    return reason if reason != at.OK else check_side(levels, first + 2 * bids, asks, -1.0, at.ASKS_UNSORTED)


@njit
def side_equals(
    ints: Ints, floats: Floats, base: int, side: int, sign: float, levels: Floats, first: int, count: int
) -> bool:
    """Whether one side holds exactly these levels (best first in `levels`)."""
    head = base + side
    if ints[word(head + at.SIDE_LIVE)] != count:
        return False
    keys = base + ints[word(head + at.SIDE_AT)]
    sizes = keys + ints[word(head + at.SIDE_CAP)]
    slot = ints[word(head + at.SIDE_N)] - 1
    for k in range(count):
        while floats[word(sizes + slot)] == 0.0:
            slot -= 1
        if (
            floats[word(keys + slot)] != sign * levels[word(first + 2 * k)]
            or floats[word(sizes + slot)] != levels[word(first + 2 * k + 1)]
        ):
            return False
        slot -= 1
    return True


@njit
def check_touch(ints: Ints, floats: Floats, base: int) -> int:
    """OK when both sides are there and the best bid is below the best ask; else the reason."""
    bids, asks = ints[word(base + at.SIDE_BID + at.SIDE_N)], ints[word(base + at.SIDE_ASK + at.SIDE_N)]
    if bids == 0 or asks == 0:
        return at.EMPTY_SIDE
    bid, ask = best(ints, floats, base, at.SIDE_BID)[0], -best(ints, floats, base, at.SIDE_ASK)[0]
    return at.OK if bid < ask else at.CROSSED


@njit
def best(ints: Ints, floats: Floats, base: int, side: int) -> tuple[float, float]:
    """Key and size of the best level of a side that has one."""
    head = base + side
    where = base + ints[word(head + at.SIDE_AT)] + ints[word(head + at.SIDE_N)] - 1
    return floats[word(where)], floats[word(where + ints[word(head + at.SIDE_CAP)])]


@njit
def top(
    ints: Ints, floats: Floats, base: int, side: int, sign: float, count: int, prices: Floats, sizes_out: Floats
) -> int:
    """Copy the best `count` levels into `prices` and `sizes_out`; returns how many there are."""
    head = base + side
    keys = base + ints[word(head + at.SIDE_AT)]
    sizes = keys + ints[word(head + at.SIDE_CAP)]
    slot = ints[word(head + at.SIDE_N)] - 1
    found = 0
    while found < count and slot >= 0:
        size = floats[word(sizes + slot)]
        if size != 0.0:
            prices[found] = sign * floats[word(keys + slot)]
            sizes_out[found] = size
            found += 1
        slot -= 1
    return found


@njit
def distance_bps(key: float, mid: float) -> float:
    """How far a level is from mid, bps."""
    return abs(mid - abs(key)) / mid * 1e4


@njit
def depth_until(
    floats: Floats, keys: int, sizes: int, slot: int, sign: float, mid: float, limit_bps: float
) -> tuple[float, int]:
    """Σ size from `slot` downwards while the distance from mid is below `limit_bps`; and the slot where that ends.

    The distance decides; but its three roundings cannot lift a level over the limit that is 1e-8 bps inside it, so
    the division is left out for those.
    """
    total = 0.0
    inside = sign * mid - mid * (limit_bps * 1e-4 - 1e-12)
    while slot >= 0 and floats[word(keys + slot)] >= inside:
        total += floats[word(sizes + slot)]
        slot -= 1
    while slot >= 0 and distance_bps(floats[word(keys + slot)], mid) < limit_bps:
        total += floats[word(sizes + slot)]
        slot -= 1
    return total, slot


@njit
def depth_within(ints: Ints, floats: Floats, base: int, side: int, sign: float, mid: float, limit_bps: float) -> float:
    """Σ size of one side's levels closer than `limit_bps` to mid."""
    head = base + side
    keys = base + ints[word(head + at.SIDE_AT)]
    sizes = keys + ints[word(head + at.SIDE_CAP)]
    return depth_until(floats, keys, sizes, ints[word(head + at.SIDE_N)] - 1, sign, mid, limit_bps)[0]
