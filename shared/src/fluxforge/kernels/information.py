"""Information-driven bars: tick, volume, dollar and tick-imbalance bars (López de Prado 2018, ch. 2).

Books and trades go into the open bar of each type in log order; the trade that brings its type to the threshold is
in the bar and closes it. The next event opens the next bar. At 00:00 UTC of t what is open is dropped.
"""

from __future__ import annotations

from math import inf, nan

from fluxforge.clock import NS
from fluxforge.kernels import buckets
from fluxforge.kernels.book import Floats, Ints
from fluxforge.kernels.compiled import njit
from fluxforge.kernels.config import INFORMATION
from fluxforge.kernels.market import EventRecord

KINDS = len(INFORMATION)
_TICK, _VOLUME, _DOLLAR, _IMBALANCE = range(KINDS)

# Words from `info` on: the first word of this part of a bar record, in absolute terms.
_DAY = 0  # of t, counted from 1; 0 before the first event
_BALANCE = 1  # trades bought less sold of the open tick-imbalance bar
_PRICE, _SIGN = 2, 3  # of the newest trade of the day: price (NaN: none) and side
THRESHOLDS = 4  # per type; infinity: no such bars
_BUCKETS = THRESHOLDS + KINDS
HEADER_WORDS = _BUCKETS + KINDS * buckets.WORDS

_ENOUGH = 1.0 - 1e-9
"""Decimal sizes that add up to the threshold reach it, whatever their sum is in binary."""

_DAY_NS = 86_400 * NS


@njit
def turn_day(ints: Ints, floats: Floats, info: int, time: int) -> None:
    """Drop what is open from another day."""
    day = time // _DAY_NS + 1
    if ints[info + _DAY] == day:
        return
    ints[info + _DAY] = day
    floats[info + _BALANCE] = floats[info + _SIGN] = 0.0
    floats[info + _PRICE] = nan
    for k in range(KINDS):
        word = info + _BUCKETS + k * buckets.WORDS
        ints[word + buckets.START] = buckets.EMPTY
        ints[word + buckets.INCOMPLETE] = 0


@njit
def bucket_of(ints: Ints, floats: Floats, info: int, k: int, time: int) -> int:
    """The word of a type's open bar, opened when need be."""
    word = info + _BUCKETS + k * buckets.WORDS
    if ints[word + buckets.START] == buckets.EMPTY:
        incomplete = ints[word + buckets.INCOMPLETE]
        buckets.begin(ints, floats, word, time)
        ints[word + buckets.INCOMPLETE] = incomplete
    return word


@njit
def add_book(
    ints: Ints,
    floats: Floats,
    info: int,
    time: int,
    mid: float,
    spread: float,
    imbalance: float,
    flow: float,
    change: float,
) -> None:
    """A valid book, into the open bar of each type."""
    turn_day(ints, floats, info, time)
    for k in range(KINDS):
        if floats[info + THRESHOLDS + k] < inf:
            word = bucket_of(ints, floats, info, k, time)
            buckets.fold_book(ints, floats, word, mid, spread, imbalance, flow, change)


@njit
def add_trade(
    ints: Ints, floats: Floats, info: int, time: int, event: EventRecord, i: int, bars: EventRecord, n_bars: int
) -> int:
    """A trade, into the open bar of each type; closes those that have reached it. Returns the new count of bars."""
    turn_day(ints, floats, info, time)
    floats[info + _BALANCE] += sign_of(floats, info, event.price, event.side)
    for k in range(KINDS):
        threshold = floats[info + THRESHOLDS + k]
        if threshold == inf:
            continue
        word = bucket_of(ints, floats, info, k, time)
        buckets.fold_trade(ints, floats, word, event.price, event.size, event.side)
        if k == _TICK:
            reached = float(ints[word + buckets.TRADES])
        elif k == _VOLUME:
            reached = floats[word + buckets.VOLUME]
        elif k == _DOLLAR:
            reached = floats[word + buckets.NOTIONAL]
        else:
            reached = abs(floats[info + _BALANCE])
        if reached < threshold * _ENOUGH:
            continue
        bar = bars[n_bars]
        bar.event, bar.slot, bar.kind, bar.duration = i, event.slot, k + 1, 0
        buckets.write_bar(ints, floats, word, time, bar)
        n_bars += 1
        ints[word + buckets.START] = buckets.EMPTY
        ints[word + buckets.INCOMPLETE] = 0
        if k == _IMBALANCE:
            floats[info + _BALANCE] = 0.0
    return n_bars


@njit
def sign_of(floats: Floats, info: int, price: float, side: float) -> float:
    """1 bought, −1 sold: the taker's side, else by the tick rule, else that of the trade before, else 0."""
    last = floats[info + _PRICE]
    sign = side
    if side == 0.0:
        sign = 1.0 if price > last else -1.0 if price < last else floats[info + _SIGN]
    floats[info + _PRICE], floats[info + _SIGN] = price, sign
    return sign


@njit
def mark_incomplete(ints: Ints, floats: Floats, info: int, time: int) -> None:
    """Trades before t may be missing: the bars that are open, or open next, say so."""
    turn_day(ints, floats, info, time)
    for k in range(KINDS):
        ints[info + _BUCKETS + k * buckets.WORDS + buckets.INCOMPLETE] = 1
