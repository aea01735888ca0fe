"""Flow toxicity and impact, in the catalogue's order: Kyle's lambda, the slope on OFI, Amihud, VPIN, Roll, effective
spread. Definitions and sources: `fluxforge.catalogue`.

What happens in a second of t is gathered in one entry of a ring. Everything that looks at whole seconds changes only
when t enters a new one; it is computed once then, from the entries of the window alone, in log order.
"""

from __future__ import annotations

from math import log, nan, sqrt

import numpy as np

from fluxforge.clock import NS
from fluxforge.kernels import layout as at
from fluxforge.kernels import rings
from fluxforge.kernels.book import Floats, Ints
from fluxforge.kernels.compiled import njit, word
from fluxforge.kernels.market import EventRecord
from fluxforge.kernels.records import TRADES

COLUMNS = 6

# Words from `impact` on, the first word of this part of a feature record's header.
SECONDS = 0  # ring, see below
_POINTER = at.RING_WORDS  # first entry of the window
_TRADE_POINTER = _POINTER + 1  # first trade of the window
_COMPUTED = _POINTER + 2  # 2·second + 1 of t when the next six were computed; 0 before
_VALUES = _POINTER + 3  # kyle_lambda, ofi_beta, amihud, roll_spread
_WEIGHTED, _SIZES = _POINTER + 7, _POINTER + 8  # effective spreads times sizes, and sizes, of the seconds wholly inside
_DAY = _POINTER + 9  # day of the buckets, counted from 1
_FILLED, _BALANCE = _POINTER + 10, _POINTER + 11  # of the open bucket: volume, bought − sold
_FULL = _POINTER + 12  # full buckets of the day, counted up to a multiple of n that is beyond n
_TOXIC = _POINTER + 13  # Σ|Vb − Vs| of the last n full buckets
VOLUME = _POINTER + 14  # V, a parameter of the key
_BUCKETS = _POINTER + 15  # |Vb − Vs| of each of them
HEADER_WORDS = _BUCKETS

# Columns of the ring, per second in which anything happened.
_OPEN, _CLOSE = 1, 2  # mid at its start (NaN: the second does not count) and at its end (NaN: unknown)
_SIGNED, _FLOW, _NOTIONAL, _LAST = 3, 4, 5, 6  # bought − sold, OFI, quote volume, last trade price (NaN: none)
_EFFECTIVE, _MET = 7, 8  # effective spreads times sizes, and sizes, of trades that met a known mid
_AMIHUD = 9  # |log return| / quote volume of an ended second, −1 until it is first asked for
RING_COLUMNS = 10

_ENOUGH = 1.0 - 1e-9
_DAY_NS = 86_400 * NS


@njit
def second_of(ints: Ints, floats: Floats, base: int, impact: int, second: int) -> int:
    """The word of the second's entry, made when need be: it opens with the mid the newest one closed with."""
    head = base + impact
    cap = ints[word(head + at.RING_CAP)]
    n = ints[word(head + at.RING_N)]
    newest = base + ints[word(head + at.RING_AT)] + ((n - 1) & (cap - 1))
    empty = n == ints[word(head + at.RING_LO)]
    if not empty and ints[word(newest)] == second:
        return int(newest)
    mid = nan if empty else floats[word(newest + _CLOSE * cap)]
    where = rings.slot_for_push(ints, base, impact, second)
    floats[word(where + _OPEN * cap)] = floats[word(where + _CLOSE * cap)] = mid
    for column in range(_SIGNED, RING_COLUMNS):
        floats[word(where + column * cap)] = 0.0
    floats[word(where + _LAST * cap)] = nan
    floats[word(where + _AMIHUD * cap)] = -1.0
    return int(where)


@njit
def add_book(ints: Ints, floats: Floats, base: int, impact: int, mid: float, flow: float) -> None:
    """A valid book; `flow` is its OFI, NaN where no book precedes it."""
    where = second_of(ints, floats, base, impact, ints[word(base + at.TIME)] // NS)
    cap = ints[word(base + impact + at.RING_CAP)]
    floats[word(where + _CLOSE * cap)] = mid
    if flow == flow:  # noqa: PLR0124  not NaN
        floats[word(where + _FLOW * cap)] += flow
    else:
        floats[word(where + _OPEN * cap)] = nan


@njit
def add_break(ints: Ints, floats: Floats, base: int, impact: int) -> None:
    """A reset or an invalid book: the mid is unknown from here on."""
    head = base + impact
    if ints[word(head + at.RING_N)] == ints[word(head + at.RING_LO)]:
        return
    where = second_of(ints, floats, base, impact, ints[word(base + at.TIME)] // NS)
    cap = ints[word(head + at.RING_CAP)]
    floats[word(where + _OPEN * cap)] = floats[word(where + _CLOSE * cap)] = nan


@njit
def add_trade(ints: Ints, floats: Floats, base: int, impact: int, event: EventRecord, buckets: int) -> float:
    """A trade; returns its effective spread relative to mid, NaN where the mid is unknown."""
    time = ints[word(base + at.TIME)]
    where = second_of(ints, floats, base, impact, time // NS)
    cap = ints[word(base + impact + at.RING_CAP)]
    price, size = event.price, event.size
    floats[word(where + _SIGNED * cap)] += size * event.side
    floats[word(where + _NOTIONAL * cap)] += price * size
    floats[word(where + _LAST * cap)] = price
    mid = floats[word(base + at.QUOTE_MID)]
    effective = 2.0 * abs(price - mid) / mid
    if effective == effective:  # noqa: PLR0124
        floats[word(where + _EFFECTIVE * cap)] += size * effective
        floats[word(where + _MET * cap)] += size
    pour(ints, floats, base + impact, size, event.side, time // _DAY_NS + 1, buckets)
    return effective


@njit
def pour(ints: Ints, floats: Floats, head: int, size: float, side: float, day: int, n: int) -> None:
    """Fill VPIN buckets with a trade. `head` is the absolute word of `impact`."""
    if ints[word(head + _DAY)] != day:
        ints[word(head + _DAY)], ints[word(head + _FULL)] = day, 0
        floats[word(head + _FILLED)] = floats[word(head + _BALANCE)] = 0.0
    volume = floats[word(head + VOLUME)]
    enough = volume * _ENOUGH
    filled = floats[word(head + _FILLED)]
    if filled + size < enough:
        floats[word(head + _FILLED)] = filled + size
        floats[word(head + _BALANCE)] += side * size
        return
    room = volume - filled
    push_bucket(ints, floats, head, abs(floats[word(head + _BALANCE)] + side * min(size, room)), n)
    rest = max(size - room, 0.0)
    left = np.fmod(rest, volume)
    whole = np.rint((rest - left) / volume)
    if left >= enough:
        left, whole = 0.0, whole + 1.0
    # Of a trade that fills more buckets than are looked at, only the last n leave anything behind.
    for _ in range(int(min(whole, float(n)))):
        push_bucket(ints, floats, head, abs(side) * volume, n)
    floats[word(head + _FILLED)], floats[word(head + _BALANCE)] = left, side * left
    full = ints[word(head + _FULL)]
    newest = full % n
    toxic = 0.0
    # From the oldest on: what stands behind the newest, once n are full, came before what stands up to it.
    if full >= n:
        for k in range(newest, n):
            toxic += floats[word(head + _BUCKETS + k)]
    for k in range(newest):
        toxic += floats[word(head + _BUCKETS + k)]
    floats[word(head + _TOXIC)] = toxic


@njit
def push_bucket(ints: Ints, floats: Floats, head: int, imbalance: float, n: int) -> None:
    """One more full bucket."""
    full = ints[word(head + _FULL)]
    floats[word(head + _BUCKETS + full % n)] = imbalance
    ints[word(head + _FULL)] = full + 1 if full + 1 < 3 * n else full + 1 - n


@njit
def impact_columns(
    ints: Ints, floats: Floats, base: int, impact: int, window: int, n: int, values: Floats, c: int
) -> int:
    """The six columns; `window` in seconds."""
    time = ints[word(base + at.TIME)]
    second = time // NS
    head = base + impact
    if ints[word(head + _COMPUTED)] != 2 * second + 1:
        ints[word(head + _COMPUTED)] = 2 * second + 1
        whole_seconds(ints, floats, base, impact, second, window)
    for k in range(3):
        values[c + k] = floats[word(head + _VALUES + k)]
    known = ints[word(head + _DAY)] == time // _DAY_NS + 1 and ints[word(head + _FULL)] >= n
    values[c + 3] = floats[word(head + _TOXIC)] / (n * floats[word(head + VOLUME)]) if known else nan
    values[c + 4] = floats[word(head + _VALUES + 3)]
    values[c + 5] = effective_spread(ints, floats, base, impact, time, window)
    return c + COLUMNS


@njit
def effective_spread(ints: Ints, floats: Floats, base: int, impact: int, time: int, window: int) -> float:
    """Over the trades of (t − window, t]: those of the window's first second, the whole seconds, the running one."""
    since = time - window * NS
    whole = (time // NS - window + 1) * NS
    head = base + TRADES
    cap = ints[word(head + at.RING_CAP)]
    times = base + ints[word(head + at.RING_AT)]
    weighted = sizes = 0.0
    entry = rings.first_after(ints, base, TRADES, impact + _TRADE_POINTER, since)
    while entry < ints[word(head + at.RING_N)]:
        where = times + (entry & (cap - 1))
        if ints[word(where)] >= whole:
            break
        effective = floats[word(where + 3 * cap)]
        if effective == effective:  # noqa: PLR0124
            weighted += floats[word(where + cap)] * effective
            sizes += floats[word(where + cap)]
        entry += 1
    running = second_of(ints, floats, base, impact, time // NS)
    cap = ints[word(base + impact + at.RING_CAP)]
    weighted += floats[word(base + impact + _WEIGHTED)] + floats[word(running + _EFFECTIVE * cap)]
    sizes += floats[word(base + impact + _SIZES)] + floats[word(running + _MET * cap)]
    return weighted / sizes if sizes > 0.0 else nan


@njit
def whole_seconds(ints: Ints, floats: Floats, base: int, impact: int, now: int, window: int) -> None:
    """What the `window` whole seconds before second `now` yield, into the header."""
    head = base + impact
    cap = ints[word(head + at.RING_CAP)]
    seconds = base + ints[word(head + at.RING_AT)]
    first = rings.first_after(ints, base, impact, impact + _POINTER, now - window - 1)
    n = ints[word(head + at.RING_N)]
    before = seconds + ((first - 1) & (cap - 1))
    known = (
        first > ints[word(head + at.RING_LO)]
        and floats[word(before + _CLOSE * cap)] == floats[word(before + _CLOSE * cap)]
    )
    count = empty = impacts = pairs = 0
    signed = flow = moved = amihud = newer = older = weighted = sizes = 0.0
    signed_varies = flow_varies = False
    x_before = f_before = 0.0
    price = change = nan
    reached = now - window - 1
    entry = first
    while entry < n:
        where = seconds + (entry & (cap - 1))
        if ints[word(where)] >= now:
            break
        if known:
            empty += ints[word(where)] - reached - 1
        reached = ints[word(where)]
        opened, closed = floats[word(where + _OPEN * cap)], floats[word(where + _CLOSE * cap)]
        if opened == opened:  # noqa: PLR0124
            x, f = floats[word(where + _SIGNED * cap)], floats[word(where + _FLOW * cap)]
            signed, flow, moved = signed + x, flow + f, moved + (closed - opened)
            signed_varies |= (count > 0) & (x != x_before)
            flow_varies |= (count > 0) & (f != f_before)
            x_before, f_before = x, f
            count += 1
            if floats[word(where + _NOTIONAL * cap)] > 0.0:
                if floats[word(where + _AMIHUD * cap)] < 0.0:
                    floats[word(where + _AMIHUD * cap)] = (
                        abs(log(closed / opened)) / floats[word(where + _NOTIONAL * cap)]
                    )
                amihud += floats[word(where + _AMIHUD * cap)]
                impacts += 1
        last = floats[word(where + _LAST * cap)]
        if last == last:  # noqa: PLR0124
            step = last - price
            if change == change:  # noqa: PLR0124
                newer, older, pairs = newer + step, older + change, pairs + 1
            price, change = last, step
        if reached > now - window:
            weighted += floats[word(where + _EFFECTIVE * cap)]
            sizes += floats[word(where + _MET * cap)]
        known = closed == closed  # noqa: PLR0124
        entry += 1
    if known:
        empty += now - 1 - reached
    if empty > 0:
        # In an empty second both are 0, as they are before the first.
        signed_varies |= x_before != 0.0
        flow_varies |= f_before != 0.0
        count += empty
    scale = 1.0 / max(count, 1)
    signed, flow, moved = signed * scale, flow * scale, moved * scale
    newer, older = newer / max(pairs, 1), older / max(pairs, 1)
    # The empty seconds lie at the origin, away from the means.
    xx, xy = empty * signed * signed, empty * signed * moved
    ff, fy = empty * flow * flow, empty * flow * moved
    covariance = 0.0
    price = change = nan
    for k in range(first, entry):
        where = seconds + (k & (cap - 1))
        opened, last = floats[word(where + _OPEN * cap)], floats[word(where + _LAST * cap)]
        if opened == opened:  # noqa: PLR0124
            x, f = floats[word(where + _SIGNED * cap)] - signed, floats[word(where + _FLOW * cap)] - flow
            y = floats[word(where + _CLOSE * cap)] - opened - moved
            xx, xy, ff, fy = xx + x * x, xy + x * y, ff + f * f, fy + f * y
        if last == last:  # noqa: PLR0124
            step = last - price
            if change == change:  # noqa: PLR0124
                covariance += (step - newer) * (change - older)
            price, change = last, step
    values = head + _VALUES
    floats[word(values)] = xy / xx if signed_varies and xx > 0.0 else nan
    floats[word(values + 1)] = fy / ff if flow_varies and ff > 0.0 else nan
    floats[word(values + 2)] = amihud / impacts if impacts > 0 else nan
    floats[word(values + 3)] = 2.0 * sqrt(-covariance / pairs) if pairs > 1 and covariance <= 0.0 else nan
    floats[word(head + _WEIGHTED)], floats[word(head + _SIZES)] = weighted, sizes
