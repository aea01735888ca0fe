"""Steps: what a valid book changes in a key's record, and where the feature kernel keeps it."""

from __future__ import annotations

from math import log, nan

from fluxforge.kernels import blocks, book, rings
from fluxforge.kernels import layout as at
from fluxforge.kernels.book import Floats, Ints
from fluxforge.kernels.compiled import njit, word
from fluxforge.kernels.market import EventRecord
from fluxforge.kernels.records import DECAY, PREV_ASKS, PREV_BIDS, PREV_VELOCITY, STEPS

TOUCH_BPS = 5.0


@njit
def mark_unknown(ints: Ints, floats: Floats, base: int, time: int) -> None:
    """From `time` on no spread and no depth is known, until the next valid book."""
    if not ints[word(base + at.KNOWN)]:
        return
    ints[word(base + at.KNOWN)] = 0
    blocks.end_entry(ints, floats, base, time)
    where = rings.slot_for_push(ints, base, STEPS, time)
    cap = ints[word(base + STEPS + at.RING_CAP)]
    for column in range(1, 5):
        floats[word(where + column * cap)] = nan


@njit
def level_ofi(
    bid: float, bid_size: float, was_bid: float, was_bid_size: float,
    ask: float, ask_size: float, was_ask: float, was_ask_size: float,
) -> float:  # fmt: skip
    """Order flow imbalance of one level (Cont, Kukanov, Stoikov 2014, arXiv:1011.6402)."""
    flow = 0.0
    if bid >= was_bid:
        flow += bid_size
    if bid <= was_bid:
        flow -= was_bid_size
    if ask <= was_ask:
        flow -= ask_size
    if ask >= was_ask:
        flow += was_ask_size
    return flow


@njit
def step(
    ints: Ints,
    floats: Floats,
    base: int,
    event: EventRecord,
    tops: Floats,
    n_bids: int,
    n_asks: int,
    ofi_levels: int,
    previous: int,
    horizons: Ints,
    values: Floats,
) -> None:
    """Difference the book with the previous one and push the step.

    The dynamic values are left at the end of `values`, where `fill` takes them from.
    """
    time = ints[word(base + at.TIME)]
    bid, ask = tops[0, 0], tops[2, 0]
    mid = (bid + ask) / 2.0
    spread = ask - bid
    have = ints[word(base + at.HAVE_PREV)] == 1
    prev = base + previous
    out = len(values) - (6 + ofi_levels)
    change = flow = multi = velocity = accel = nan
    if have:
        change = log(mid / floats[word(base + at.PREV_MID)])
        multi = 0.0
    prev_bids, prev_asks = ints[word(base + PREV_BIDS)], ints[word(base + PREV_ASKS)]
    for k in range(ofi_levels):
        value = nan
        if have and k < n_bids and k < n_asks and k < prev_bids and k < prev_asks:
            p = prev + 4 * k
            value = level_ofi(
                tops[0, k],
                tops[1, k],
                floats[word(p)],
                floats[word(p + 1)],
                tops[2, k],
                tops[3, k],
                floats[word(p + 2)],
                floats[word(p + 3)],
            )
            multi += value
            if k == 0:
                flow = value
        values[out + 2 + k] = value
    kept_bids, kept_asks = min(ofi_levels, n_bids), min(ofi_levels, n_asks)
    for k in range(kept_bids):
        floats[word(prev + 4 * k)] = tops[0, k]
        floats[word(prev + 4 * k + 1)] = tops[1, k]
    for k in range(kept_asks):
        floats[word(prev + 4 * k + 2)] = tops[2, k]
        floats[word(prev + 4 * k + 3)] = tops[3, k]
    ints[word(base + PREV_BIDS)], ints[word(base + PREV_ASKS)] = kept_bids, kept_asks
    if have:
        dt = (time - ints[word(base + at.PREV_TIME)]) / 1e9
        if dt > 0.0:
            velocity = (mid - floats[word(base + at.PREV_MID)]) / dt
            accel = (velocity - floats[word(base + PREV_VELOCITY)]) / dt
    values[out], values[out + 1] = change, flow
    values[out + 2 + ofi_levels] = multi
    values[out + 3 + ofi_levels] = velocity
    values[out + 4 + ofi_levels] = accel
    ints[word(base + at.HAVE_PREV)] = 1
    ints[word(base + at.KNOWN)] = 1
    ints[word(base + at.PREV_TIME)] = time
    floats[word(base + at.PREV_MID)] = mid
    floats[word(base + PREV_VELOCITY)] = velocity
    floats[word(base + at.QUOTE_MID)], floats[word(base + at.QUOTE_SPREAD)] = mid, spread
    ints[word(base + at.UPDATES)] += event.updates
    near = book.depth_within(ints, floats, base, at.SIDE_BID, 1.0, mid, TOUCH_BPS)
    near += book.depth_within(ints, floats, base, at.SIDE_ASK, -1.0, mid, TOUCH_BPS)
    blocks.end_entry(ints, floats, base, time)
    blocks.add_step(ints, floats, base, time, change, flow, near, horizons)
    where = rings.slot_for_push(ints, base, STEPS, time)
    cap = ints[word(base + STEPS + at.RING_CAP)]
    floats[word(where + cap)] = change
    floats[word(where + 2 * cap)] = flow
    floats[word(where + 3 * cap)] = near
    floats[word(where + 4 * cap)] = spread / mid
    if have:
        where = rings.slot_for_push(ints, base, DECAY, time)
        floats[word(where + ints[word(base + DECAY + at.RING_CAP)])] = flow
