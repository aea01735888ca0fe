"""Steps: what a valid book changes in a key's record, and where the feature kernel keeps it."""

from __future__ import annotations

from math import exp2, log, nan

from fluxforge.clock import NS
from fluxforge.kernels import book, rings
from fluxforge.kernels import layout as at
from fluxforge.kernels.book import Floats, Ints
from fluxforge.kernels.compiled import njit
from fluxforge.kernels.market import EventRecord

TOUCH_BPS = 5.0

# Header words of a feature record, behind the core.
BUCKET = at.CORE_WORDS  # bucket of the newest row, counted from 1; 0 before the first
PREV_VELOCITY = at.CORE_WORDS + 1  # float
PREV_BIDS = at.CORE_WORDS + 2  # levels of the previous book kept for OFI
PREV_ASKS = at.CORE_WORDS + 3
STEPS = at.CORE_WORDS + 4  # ring: time, log return, OFI, depth within 5 bps, relative spread
DECAY = STEPS + at.RING_WORDS  # ring: time, OFI
TRADES = DECAY + at.RING_WORDS  # ring: time, size, side
BLOCKS = TRADES + at.RING_WORDS  # ring: second, decayed OFI of that second at its end, per horizon
REGIME_POINTER = BLOCKS + at.RING_WORDS
LONGEST_POINTER = REGIME_POINTER + 1
POINTERS = LONGEST_POINTER + 1  # per horizon: steps, trades, decay, blocks


@njit
def mark_unknown(ints: Ints, floats: Floats, base: int, time: int) -> None:
    """From `time` on no spread and no depth is known, until the next valid book."""
    if not ints[base + at.KNOWN]:
        return
    ints[base + at.KNOWN] = 0
    where = rings.slot_for_push(ints, base, STEPS, time)
    cap = ints[base + STEPS + at.RING_CAP]
    for column in range(1, 5):
        floats[where + column * cap] = nan


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
    time = ints[base + at.TIME]
    bid, ask = tops[0, 0], tops[2, 0]
    mid = (bid + ask) / 2.0
    spread = ask - bid
    have = ints[base + at.HAVE_PREV] == 1
    prev = base + previous
    out = len(values) - (6 + ofi_levels)
    change = flow = multi = velocity = accel = nan
    if have:
        change = log(mid / floats[base + at.PREV_MID])
        multi = 0.0
    prev_bids, prev_asks = ints[base + PREV_BIDS], ints[base + PREV_ASKS]
    for k in range(ofi_levels):
        value = nan
        if have and k < n_bids and k < n_asks and k < prev_bids and k < prev_asks:
            p = prev + 4 * k
            value = level_ofi(
                tops[0, k], tops[1, k], floats[p], floats[p + 1], tops[2, k], tops[3, k], floats[p + 2], floats[p + 3]
            )
            multi += value
            if k == 0:
                flow = value
        values[out + 2 + k] = value
    for k in range(min(ofi_levels, n_bids)):
        floats[prev + 4 * k] = tops[0, k]
        floats[prev + 4 * k + 1] = tops[1, k]
    for k in range(min(ofi_levels, n_asks)):
        floats[prev + 4 * k + 2] = tops[2, k]
        floats[prev + 4 * k + 3] = tops[3, k]
    ints[base + PREV_BIDS], ints[base + PREV_ASKS] = n_bids, n_asks
    if have:
        dt = (time - ints[base + at.PREV_TIME]) / 1e9
        if dt > 0.0:
            velocity = (mid - floats[base + at.PREV_MID]) / dt
            accel = (velocity - floats[base + PREV_VELOCITY]) / dt
    values[out], values[out + 1] = change, flow
    values[out + 2 + ofi_levels] = multi
    values[out + 3 + ofi_levels] = velocity
    values[out + 4 + ofi_levels] = accel
    ints[base + at.HAVE_PREV] = 1
    ints[base + at.KNOWN] = 1
    ints[base + at.PREV_TIME] = time
    floats[base + at.PREV_MID] = mid
    floats[base + PREV_VELOCITY] = velocity
    floats[base + at.QUOTE_MID], floats[base + at.QUOTE_SPREAD] = mid, spread
    ints[base + at.UPDATES] += event.updates
    near = book.depth_within(ints, floats, base, at.SIDE_BID, mid, TOUCH_BPS)
    near += book.depth_within(ints, floats, base, at.SIDE_ASK, mid, TOUCH_BPS)
    where = rings.slot_for_push(ints, base, STEPS, time)
    cap = ints[base + STEPS + at.RING_CAP]
    floats[where + cap] = change
    floats[where + 2 * cap] = flow
    floats[where + 3 * cap] = near
    floats[where + 4 * cap] = spread / mid
    if have:
        push_decay(ints, floats, base, time, flow, horizons)


@njit
def push_decay(ints: Ints, floats: Floats, base: int, time: int, flow: float, horizons: Ints) -> None:
    """Keep a step's OFI for the decayed sums: by itself, and in the block of its second."""
    where = rings.slot_for_push(ints, base, DECAY, time)
    floats[where + ints[base + DECAY + at.RING_CAP]] = flow
    second = time // NS
    head = base + BLOCKS
    n = ints[head + at.RING_N]
    cap = ints[head + at.RING_CAP]
    newest = base + ints[head + at.RING_AT] + ((n - 1) & (cap - 1))
    if n == ints[head + at.RING_LO] or ints[newest] != second:
        newest = rings.slot_for_push(ints, base, BLOCKS, second)
        for h in range(len(horizons)):
            floats[newest + (h + 1) * cap] = 0.0
    left = (second + 1) * NS - time
    for h in range(len(horizons)):
        floats[newest + (h + 1) * cap] += flow * exp2(-(left / horizons[h]))
