"""The bar kernel: events of many keys in, closed bars out, one compiled call per batch.

A time bar is a bucket of an event's own time; it closes when the key's time t reaches its end plus the grace, and never
changes after. What comes later is late: it is named with the durations it missed, and changes nothing.

    t     ──────────────┬──────────────┬────► log order
    60 s  [  bucket 0   ) grace ▒▒ closed    an event with ts in bucket 0 is late from here on

Bars that trades close are in `information`.
"""

from __future__ import annotations

from math import log

import numpy as np
from numpy.typing import NDArray

from fluxforge.batch import INCOMPLETE, NO_TS, EventBatch
from fluxforge.clock import NS
from fluxforge.kernels import book, buckets, information, market
from fluxforge.kernels import layout as at
from fluxforge.kernels.arena import Arena
from fluxforge.kernels.book import Floats, Ints
from fluxforge.kernels.compiled import njit, read_only
from fluxforge.kernels.config import BarConfig
from fluxforge.kernels.market import EventRecord
from fluxforge.kernels.outputs import BAR, LATE, REJECT, BarOutput
from fluxforge.kernels.room import sides_are_full
from fluxforge.kernels.steps import level_ofi

# Header words of a bar record, behind the core.
DUE = at.CORE_WORDS  # t at which the next open bucket closes, ns
PREV_TOUCH = at.CORE_WORDS + 1  # bid, bid size, ask, ask size of the previous valid book
BUCKETS = at.CORE_WORDS + 5

_NEVER = 2**63 - 1


class BarKernel:
    """Open bars of many keys; see `Arena` for slots, saving and restoring."""

    def __init__(self, config: BarConfig) -> None:
        self.config = config
        self._grace = round(config.grace * NS)
        self._durations = np.array([d * NS for d in config.durations], np.int64)
        open_buckets = [-(-self._grace // (d * NS)) + 2 for d in config.durations]
        self._places = np.array([0, *np.cumsum(open_buckets)], np.int64)
        header = BUCKETS + buckets.WORDS * int(self._places[-1])
        self._information = header if config.information else 0
        if config.information:
            self.arena = Arena(header + information.HEADER_WORDS, (), self._thresholds)
        else:
            self.arena = Arena(header, ())

    def _thresholds(self, key: str) -> dict[int, float]:
        first = self._information + information.THRESHOLDS
        return {first + k: threshold for k, threshold in enumerate(self.config.thresholds(key))}

    def run(self, batch: EventBatch) -> BarOutput:
        """Process a batch; slots must come from `arena.slot`."""
        count = len(batch.events)
        events, levels = read_only(batch.events), read_only(batch.levels)
        late, rejects = np.empty(count, LATE), np.empty(count, REJECT)
        bars: list[NDArray[np.void]] = []
        start = n_late = n_rejects = 0
        room = 256 + int(self._places[-1]) + information.KINDS
        while True:
            some = np.empty(room, BAR)
            status, start, n_bars, n_late, n_rejects = _run(
                self.arena.ints,
                self.arena.floats,
                self.arena.bases,
                events,
                levels,
                start,
                self._durations,
                self._places,
                self._grace,
                self._information,
                some,
                late,
                n_late,
                rejects,
                n_rejects,
            )
            bars.append(some[:n_bars])
            if status == at.DONE:
                break
            if status == at.OUTPUT_FULL:
                room *= 2
            else:
                self.arena.serve(status, batch, start)
        return BarOutput(np.concatenate(bars), late[:n_late], rejects[:n_rejects])


@njit
def _run(
    ints: Ints,
    floats: Floats,
    bases: Ints,
    events: EventRecord,
    levels: Floats,
    start: int,
    durations: Ints,
    places: Ints,
    grace: int,
    info: int,
    bars: EventRecord,
    late: EventRecord,
    n_late: int,
    rejects: EventRecord,
    n_rejects: int,
) -> tuple[int, int, int, int, int]:
    """Events `start`…; stops at the end, where a record must grow, or where `bars` is nearly full."""
    n_bars = 0
    total = places[len(places) - 1]
    for i in range(start, len(events)):
        event = events[i]
        if not market.is_sound(bases, event, levels):
            return at.UNSOUND, i, n_bars, n_late, n_rejects
        base = bases[event.slot]
        if n_bars + total + information.KINDS > len(bars):
            return at.OUTPUT_FULL, i, n_bars, n_late, n_rejects
        if sides_are_full(ints, base, event):
            return at.GROW, i, n_bars, n_late, n_rejects
        if ints[base + DUE] == 0:
            empty(ints, base, total)
        action, reason = market.advance(ints, floats, base, event, levels)
        time = ints[base + at.TIME]
        if action != market.IGNORE and time >= ints[base + DUE]:
            n_bars = close_due(ints, floats, base, event, i, time, durations, places, grace, bars, n_bars)
        missed = 0
        if action == market.BOOK:
            missed = add_book(ints, floats, base, event, time, durations, places, grace, info)
        elif action == market.TRADE and time != NO_TS:
            missed = add_trade(ints, floats, base, event, time, durations, places, grace)
            if info:
                n_bars = information.add_trade(ints, floats, base + info, time, event, i, bars, n_bars)
        elif action == market.BROKEN and event.flags & INCOMPLETE and reason == at.OK and time != NO_TS:
            mark_incomplete(ints, floats, base, time, durations, places, grace)
            if info:
                information.mark_incomplete(ints, floats, base + info, time)
        if missed:
            entry = late[n_late]
            entry.event, entry.durations = i, missed
            n_late += 1
        if reason != at.OK:
            reject = rejects[n_rejects]
            reject.event, reject.reason = i, reason
            n_rejects += 1
    return at.DONE, len(events), n_bars, n_late, n_rejects


@njit
def empty(ints: Ints, base: int, total: int) -> None:
    """No bucket is open."""
    for place in range(total):
        ints[base + BUCKETS + place * buckets.WORDS + buckets.START] = buckets.EMPTY
    ints[base + DUE] = _NEVER


@njit
def bucket_of(
    ints: Ints, floats: Floats, base: int, stamp: int, d: int, durations: Ints, places: Ints, grace: int
) -> int:
    """The word of the open bucket that holds `stamp`, opened when need be; −1 when it has closed."""
    duration = durations[d]
    index = stamp // duration
    start = index * duration
    if start + duration + grace <= ints[base + at.TIME]:
        return -1
    word = base + BUCKETS + (places[d] + index % (places[d + 1] - places[d])) * buckets.WORDS
    if ints[word + buckets.START] != start:
        buckets.begin(ints, floats, word, start)
        ints[base + DUE] = min(ints[base + DUE], start + duration + grace)
    return int(word)


@njit
def add_book(
    ints: Ints,
    floats: Floats,
    base: int,
    event: EventRecord,
    time: int,
    durations: Ints,
    places: Ints,
    grace: int,
    info: int,
) -> int:
    """Step from the previous book and fold it into every open bucket; returns the durations missed."""
    bid, bid_size = book.best(ints, floats, base, at.SIDE_BID)
    ask_key, ask_size = book.best(ints, floats, base, at.SIDE_ASK)
    ask = -ask_key
    mid, spread = (bid + ask) / 2.0, ask - bid
    flow = change = 0.0
    was = base + PREV_TOUCH
    if ints[base + at.HAVE_PREV]:
        flow = level_ofi(bid, bid_size, floats[was], floats[was + 1], ask, ask_size, floats[was + 2], floats[was + 3])
        change = log(mid / floats[base + at.PREV_MID])
    floats[was], floats[was + 1], floats[was + 2], floats[was + 3] = bid, bid_size, ask, ask_size
    floats[base + at.PREV_MID] = mid
    imbalance = (bid_size - ask_size) / (bid_size + ask_size)
    ints[base + at.HAVE_PREV] = 1
    stamp = event.ts if event.ts != NO_TS else time
    missed = 0
    for d in range(len(durations)):
        word = bucket_of(ints, floats, base, stamp, d, durations, places, grace)
        if word < 0:
            missed |= 1 << d
            continue
        buckets.fold_book(ints, floats, word, mid, spread, imbalance, flow, change)
    if info:
        information.add_book(ints, floats, base + info, time, mid, spread, imbalance, flow, change)
    return missed


@njit
def add_trade(
    ints: Ints, floats: Floats, base: int, event: EventRecord, time: int, durations: Ints, places: Ints, grace: int
) -> int:
    """Fold a trade into every open bucket; returns the durations missed."""
    stamp = event.ts if event.ts != NO_TS else time
    missed = 0
    for d in range(len(durations)):
        word = bucket_of(ints, floats, base, stamp, d, durations, places, grace)
        if word < 0:
            missed |= 1 << d
            continue
        buckets.fold_trade(ints, floats, word, event.price, event.size, event.side)
    return missed


@njit
def mark_incomplete(
    ints: Ints, floats: Floats, base: int, time: int, durations: Ints, places: Ints, grace: int
) -> None:
    """Trades before t may be missing: every open bucket, and the one that holds t, says so."""
    for d in range(len(durations)):
        bucket_of(ints, floats, base, time, d, durations, places, grace)
        for place in range(places[d], places[d + 1]):
            word = base + BUCKETS + place * buckets.WORDS
            if ints[word + buckets.START] != buckets.EMPTY:
                ints[word + buckets.INCOMPLETE] = 1


@njit
def close_due(
    ints: Ints,
    floats: Floats,
    base: int,
    event: EventRecord,
    i: int,
    time: int,
    durations: Ints,
    places: Ints,
    grace: int,
    bars: EventRecord,
    n_bars: int,
) -> int:
    """Close every bucket whose end + grace ≤ t: by duration, then by start. Returns the new count of bars."""
    due = _NEVER
    for d in range(len(durations)):
        while True:
            earliest = -1
            for place in range(places[d], places[d + 1]):
                word = base + BUCKETS + place * buckets.WORDS
                if ints[word + buckets.START] != buckets.EMPTY and (
                    earliest < 0 or ints[word + buckets.START] < ints[earliest + buckets.START]
                ):
                    earliest = word
            if earliest < 0:
                break
            closes = ints[earliest + buckets.START] + durations[d] + grace
            if closes > time:
                due = min(due, closes)
                break
            if ints[earliest + buckets.COUNT] + ints[earliest + buckets.TRADES] > 0:
                bar = bars[n_bars]
                bar.event, bar.slot, bar.kind, bar.duration = i, event.slot, 0, durations[d] // NS
                buckets.write_bar(ints, floats, earliest, ints[earliest + buckets.START] + durations[d], bar)
                n_bars += 1
            ints[earliest + buckets.START] = buckets.EMPTY
    ints[base + DUE] = due
    return n_bars
