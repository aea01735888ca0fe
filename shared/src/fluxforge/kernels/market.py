"""What every kernel does first with an event: whose it is, what time it makes, what it does to the book.

`advance` returns one of the actions below; the caller then takes its step. Rules: FEATURES.md, "Notation", "Valid
book", and the design's rule for redundant collectors.
"""

from __future__ import annotations

from math import isfinite, nan
from typing import Any

from fluxforge.batch import NO_TS, REFRESH
from fluxforge.events import Kind
from fluxforge.kernels import book
from fluxforge.kernels import layout as at
from fluxforge.kernels.book import Floats, Ints
from fluxforge.kernels.compiled import njit, word

EventRecord = Any
"""One record of dtype EVENT, its fields as attributes (numba's view of it)."""

IGNORE = 0  # nothing more to do
BOOK = 1  # a valid book stands: take a step
BROKEN = 2  # the book became invalid or was reset: nothing holds from t on
TRADE = 3
REJECT = 4  # refused for its reason; the book is as it was
TICK = 5  # only time moved

_BOOK_SNAPSHOT = int(Kind.BOOK_SNAPSHOT)
_BOOK_DELTA = int(Kind.BOOK_DELTA)
_TRADE = int(Kind.TRADE)
_RESET = int(Kind.RESET)


@njit
def is_sound(bases: Ints, event: EventRecord, levels: Floats) -> bool:
    """Whether the event's key has a record and its levels lie in `levels`: beyond that, nothing checks an index."""
    if word(event.slot) >= word(len(bases)) or bases[word(event.slot)] < 0:
        return False
    count, first, bids, asks = len(levels), event.levels, event.bids, event.asks
    if bids | asks == 0:
        return True
    return (
        (0 <= first <= count) and (0 <= bids <= count) and (0 <= asks <= count) and first + 2 * (bids + asks) <= count
    )


@njit
def forget(ints: Ints, floats: Floats, base: int) -> None:
    """No book holds any more: nothing is differenced with it."""
    ints[word(base + at.HAVE_PREV)] = 0
    ints[word(base + at.GAP_COUNT)] += 1
    floats[word(base + at.QUOTE_MID)] = nan
    floats[word(base + at.QUOTE_SPREAD)] = nan


@njit
def drop_book(ints: Ints, base: int) -> None:
    """Forget the L2 book until the next snapshot."""
    book.clear(ints, base, at.SIDE_BID)
    book.clear(ints, base, at.SIDE_ASK)
    ints[word(base + at.HAVE_BOOK)] = 0


@njit
def rebuild(ints: Ints, floats: Floats, base: int, event: EventRecord, levels: Floats) -> None:
    """Book only, for events that a restored record has already seen."""
    if (
        not ints[word(base + at.REBUILDS)]
        or event.collector != ints[word(base + at.COLLECTOR)]
        or event.offset < ints[word(base + at.BOOK_OFFSET)]
    ):
        return
    if event.kind == _BOOK_SNAPSHOT:
        book.install(ints, floats, base, levels, event.levels, event.bids, event.asks)
    elif event.kind == _BOOK_DELTA and ints[word(base + at.HAVE_BOOK)]:
        apply_delta(ints, floats, base, event, levels)
    elif event.kind == _RESET:
        drop_book(ints, base)


@njit
def apply_delta(ints: Ints, floats: Floats, base: int, event: EventRecord, levels: Floats) -> int:
    """Apply both sides of a delta; OK or BAD_LEVEL."""
    first = event.levels
    bids = book.apply(ints, floats, base, at.SIDE_BID, 1.0, levels, first, event.bids)
    asks = book.apply(ints, floats, base, at.SIDE_ASK, -1.0, levels, first + 2 * event.bids, event.asks)
    return max(bids, asks)


@njit
def followed(ints: Ints, floats: Floats, base: int, event: EventRecord) -> bool:
    """Whether the event's collector is the one this key follows; switches after its silence."""
    current = ints[word(base + at.COLLECTOR)]
    if current == event.collector:
        return True
    if current >= 0:
        time = ints[word(base + at.TIME)]
        silent = event.ts != NO_TS and (time == NO_TS or event.ts - time > at.COLLECTOR_SILENCE_NS)
        if event.kind != _BOOK_SNAPSHOT or not silent:
            return False
        drop_book(ints, base)
        forget(ints, floats, base)
    ints[word(base + at.COLLECTOR)] = event.collector
    return True


@njit
def take_snapshot(ints: Ints, floats: Floats, base: int, event: EventRecord, levels: Floats) -> tuple[int, int]:
    """Install or verify a snapshot; (action, reason)."""
    first, bids, asks = event.levels, event.bids, event.asks
    ints[word(base + at.BOOK_OFFSET)] = event.offset
    if event.flags & REFRESH:
        if (
            ints[word(base + at.HAVE_BOOK)]
            and book.side_equals(ints, floats, base, at.SIDE_BID, 1.0, levels, first, bids)
            and book.side_equals(ints, floats, base, at.SIDE_ASK, -1.0, levels, first + 2 * bids, asks)
        ):
            return TICK, at.OK
        reason = book.install(ints, floats, base, levels, first, bids, asks)
        return BROKEN, reason
    reason = book.install(ints, floats, base, levels, first, bids, asks)
    if reason == at.OK:
        reason = book.check_touch(ints, floats, base)
    return (BOOK, at.OK) if reason == at.OK else (BROKEN, reason)


@njit
def take_delta(ints: Ints, floats: Floats, base: int, event: EventRecord, levels: Floats) -> tuple[int, int]:
    """Apply a delta; (action, reason)."""
    if not ints[word(base + at.HAVE_BOOK)]:
        return TICK, at.OK
    reason = apply_delta(ints, floats, base, event, levels)
    if reason == at.OK:
        reason = book.check_touch(ints, floats, base)
    return (BOOK, at.OK) if reason == at.OK else (BROKEN, reason)


@njit
def advance(ints: Ints, floats: Floats, base: int, event: EventRecord, levels: Floats) -> tuple[int, int]:
    """Move the key by one event. Returns (action, reason).

    BROKEN and REJECT with a reason other than OK go to the dead-letter topic. Before the key's first time an event
    only builds the book.
    """
    if event.offset < ints[word(base + at.RESUME)]:
        rebuild(ints, floats, base, event, levels)
        return IGNORE, at.OK
    if not followed(ints, floats, base, event):
        return IGNORE, at.OK
    kind, ts = event.kind, event.ts
    if ts != NO_TS:
        if ts > event.capture_ts + event.skew + at.FUTURE_TOLERANCE_NS:
            return REJECT, at.FUTURE_STAMP
        if ts > ints[word(base + at.TIME)]:
            ints[word(base + at.TIME)] = ts
        elif ts < ints[word(base + at.TIME)] and kind <= _TRADE:
            ints[word(base + at.LATE_COUNT)] += 1
    action, reason = TICK, at.OK
    if kind == _BOOK_DELTA:
        action, reason = take_delta(ints, floats, base, event, levels)
    elif kind == _TRADE:
        if not (isfinite(event.price) and isfinite(event.size) and event.price > 0.0 and event.size > 0.0):
            return REJECT, at.BAD_TRADE
        action = TRADE
    elif kind == _BOOK_SNAPSHOT:
        action, reason = take_snapshot(ints, floats, base, event, levels)
    elif kind == _RESET:
        drop_book(ints, base)
        action = BROKEN
    if action == BROKEN:
        forget(ints, floats, base)
    if ints[word(base + at.TIME)] == NO_TS and action == BOOK:
        return IGNORE, at.OK
    return action, reason
