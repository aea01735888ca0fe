"""What happened in each second of t, gathered as it happens: the blocks of which the windows are made.

Blocks lie at absolute seconds, so a window's value knows nothing of when the processor started. A second without an
entry has no block. Deviations are summed by the update of Youngs and Cramer (1971).
"""

from __future__ import annotations

from math import exp2

from fluxforge.clock import NS
from fluxforge.kernels import layout as at
from fluxforge.kernels import rings
from fluxforge.kernels.book import Floats, Ints
from fluxforge.kernels.compiled import njit, word
from fluxforge.kernels.records import DECAY_BLOCKS, STEP_BLOCKS, STEPS, TRADE_BLOCKS

# Columns of STEP_BLOCKS. A book's depth and spread last until the next entry and belong to the second it came in.
STEP_COUNT, RETURN, SQUARE, RETURN_DEVIATION, FLOW = 1, 2, 3, 4, 5
KNOWN, SPREAD_TIME, DEPTH_TIME = 6, 7, 8  # ns known, and spread and depth weighted by it
BOOKS, DEPTH, DEPTH_DEVIATION = 9, 10, 11
STEP_COLUMNS = 12

# Columns of TRADE_BLOCKS: sizes.
VOLUME, BOUGHT, SOLD = 1, 2, 3
TRADE_COLUMNS = 4


@njit
def block_of(ints: Ints, floats: Floats, base: int, ring: int, columns: int, second: int) -> int:
    """The word of the second's block, made empty when need be."""
    head = base + ring
    cap = ints[word(head + at.RING_CAP)]
    n = ints[word(head + at.RING_N)]
    newest = base + ints[word(head + at.RING_AT)] + ((n - 1) & (cap - 1))
    if n > ints[word(head + at.RING_LO)] and ints[word(newest)] == second:
        return int(newest)
    where = rings.slot_for_push(ints, base, ring, second)
    for column in range(1, columns):
        floats[word(where + column * cap)] = 0.0
    return int(where)


@njit
def add_step(
    ints: Ints, floats: Floats, base: int, time: int, change: float, flow: float, near: float, horizons: Ints
) -> None:
    """A valid book: its step (NaN where none precedes it) and its depth."""
    second = time // NS
    where = block_of(ints, floats, base, STEP_BLOCKS, STEP_COLUMNS, second)
    cap = ints[word(base + STEP_BLOCKS + at.RING_CAP)]
    if change == change:  # noqa: PLR0124  not NaN
        floats[word(where + SQUARE * cap)] += change * change
        floats[word(where + FLOW * cap)] += flow
        add_deviating(floats, where + STEP_COUNT * cap, where + RETURN * cap, where + RETURN_DEVIATION * cap, change)
        decays = block_of(ints, floats, base, DECAY_BLOCKS, 1 + len(horizons), second)
        cap_decays = ints[word(base + DECAY_BLOCKS + at.RING_CAP)]
        left = (second + 1) * NS - time
        for h in range(len(horizons)):
            floats[word(decays + (h + 1) * cap_decays)] += flow * exp2(-(left / horizons[h]))
    add_deviating(floats, where + BOOKS * cap, where + DEPTH * cap, where + DEPTH_DEVIATION * cap, near)


@njit
def add_deviating(floats: Floats, count: int, total: int, deviation: int, value: float) -> None:
    """Count, Σ and Σ(x − mean)², each at its word, with one more value."""
    n = floats[word(count)] + 1.0
    s = floats[word(total)] + value
    if n > 1.0:
        apart = n * value - s
        floats[word(deviation)] += apart * apart / (n * (n - 1.0))
    floats[word(count)], floats[word(total)] = n, s


@njit
def end_entry(ints: Ints, floats: Floats, base: int, time: int) -> None:
    """The newest spread and depth, where known, held until `time`: they are weighted in the block they came in."""
    head = base + STEPS
    n = ints[word(head + at.RING_N)]
    if n == ints[word(head + at.RING_LO)]:
        return
    cap = ints[word(head + at.RING_CAP)]
    entry = base + ints[word(head + at.RING_AT)] + ((n - 1) & (cap - 1))
    spread = floats[word(entry + 4 * cap)]
    if spread == spread:  # noqa: PLR0124
        head = base + STEP_BLOCKS
        block_cap = ints[word(head + at.RING_CAP)]
        block = base + ints[word(head + at.RING_AT)] + ((ints[word(head + at.RING_N)] - 1) & (block_cap - 1))
        lasted = float(time - ints[word(entry)])
        floats[word(block + KNOWN * block_cap)] += lasted
        floats[word(block + SPREAD_TIME * block_cap)] += lasted * spread
        floats[word(block + DEPTH_TIME * block_cap)] += lasted * floats[word(entry + 3 * cap)]


@njit
def add_trade(ints: Ints, floats: Floats, base: int, time: int, size: float, side: float) -> None:
    """A trade."""
    where = block_of(ints, floats, base, TRADE_BLOCKS, TRADE_COLUMNS, time // NS)
    cap = ints[word(base + TRADE_BLOCKS + at.RING_CAP)]
    floats[word(where + VOLUME * cap)] += size
    if side > 0.0:
        floats[word(where + BOUGHT * cap)] += size
    elif side < 0.0:
        floats[word(where + SOLD * cap)] += size
