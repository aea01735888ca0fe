"""Whether an event fits a record as it is: a kernel stops before one that does not, and the arena makes room."""

from __future__ import annotations

from fluxforge.clock import NS
from fluxforge.events import Kind
from fluxforge.kernels import layout as at
from fluxforge.kernels import rings
from fluxforge.kernels.book import Ints
from fluxforge.kernels.compiled import njit, word
from fluxforge.kernels.market import EventRecord
from fluxforge.kernels.records import DECAY, DECAY_BLOCKS, STEP_BLOCKS, STEPS, TRADE_BLOCKS, TRADES
from fluxforge.kernels.regime import REGIME_NS
from fluxforge.kernels.rolling import DECAY_SPAN

_TRADE = int(Kind.TRADE)


@njit
def needs_room(ints: Ints, base: int, event: EventRecord, longest: int, impacts: int, window: int) -> bool:
    """Whether the record must grow before this event; forgets what has left the windows first."""
    if rings_are_full(ints, base, event.kind, impacts):
        time = ints[word(base + at.TIME)]
        remembered = time - max(longest, REGIME_NS)
        rings.forget_until(ints, base, STEPS, remembered, 1)
        rings.forget_until(ints, base, STEP_BLOCKS, remembered // NS, 0)
        rings.forget_until(ints, base, TRADES, time - max(longest, window * NS), 0)
        rings.forget_until(ints, base, TRADE_BLOCKS, (time - longest) // NS, 0)
        rings.forget_until(ints, base, DECAY, time - DECAY_SPAN * longest, 0)
        rings.forget_until(ints, base, DECAY_BLOCKS, (time - DECAY_SPAN * longest) // NS, 0)
        rings.forget_until(ints, base, impacts, time // NS - window - 1, 1)
        if rings_are_full(ints, base, event.kind, impacts):
            return True
    return sides_are_full(ints, base, event)


@njit
def rings_are_full(ints: Ints, base: int, kind: int, impacts: int) -> bool:
    """Whether a ring may not take what one event of this kind can bring."""
    if kind == _TRADE:
        return (
            rings.is_full(ints, base, TRADES)
            | rings.is_full(ints, base, TRADE_BLOCKS)
            | rings.is_full(ints, base, impacts)
        )
    return (
        rings.is_full(ints, base, STEPS)
        | rings.is_full(ints, base, DECAY)
        | rings.is_full(ints, base, STEP_BLOCKS)
        | rings.is_full(ints, base, DECAY_BLOCKS)
        | rings.is_full(ints, base, impacts)
    )


@njit
def sides_are_full(ints: Ints, base: int, event: EventRecord) -> bool:
    """Whether a side of the book may not take the event's levels."""
    return (
        ints[word(base + at.SIDE_BID + at.SIDE_N)] + event.bids >= ints[word(base + at.SIDE_BID + at.SIDE_CAP)]
        or ints[word(base + at.SIDE_ASK + at.SIDE_N)] + event.asks >= ints[word(base + at.SIDE_ASK + at.SIDE_CAP)]
    )
