"""Event rings inside a record: push at the head, forget from the tail, walk in log order.

Columns lie side by side, each `capacity` words; column 0 is always the time (ns), never falling.
"""

from __future__ import annotations

from fluxforge.kernels import layout as at
from fluxforge.kernels.book import Ints
from fluxforge.kernels.compiled import njit, word


@njit
def slot_for_push(ints: Ints, base: int, head: int, time: int) -> int:
    """The word of column 0 for a new entry at `time`; add `capacity` per further column."""
    h = base + head
    n = ints[word(h + at.RING_N)]
    where = base + ints[word(h + at.RING_AT)] + (n & (ints[word(h + at.RING_CAP)] - 1))
    ints[word(where)] = time
    ints[word(h + at.RING_N)] = n + 1
    return where


@njit
def forget_until(ints: Ints, base: int, head: int, time: int, keep: int) -> None:
    """Drop the oldest entries with a time ≤ `time`, but keep the newest `keep` (0 or 1) of those."""
    h = base + head
    start = base + ints[word(h + at.RING_AT)]
    mask = ints[word(h + at.RING_CAP)] - 1
    lo, n = ints[word(h + at.RING_LO)], ints[word(h + at.RING_N)]
    while lo + keep < n and ints[word(start + ((lo + keep) & mask))] <= time:
        lo += 1
    ints[word(h + at.RING_LO)] = lo


@njit
def is_full(ints: Ints, base: int, head: int) -> bool:
    """Whether fewer than two places are free."""
    h = base + head
    return ints[word(h + at.RING_N)] - ints[word(h + at.RING_LO)] + 2 > ints[word(h + at.RING_CAP)]


@njit
def first_after(ints: Ints, base: int, head: int, pointer: int, time: int) -> int:
    """The first entry whose time is > `time`; `pointer` (a header word) remembers it, since time never falls."""
    h = base + head
    start = base + ints[word(h + at.RING_AT)]
    mask = ints[word(h + at.RING_CAP)] - 1
    n = ints[word(h + at.RING_N)]
    entry = max(ints[word(base + pointer)], ints[word(h + at.RING_LO)])
    while entry < n and ints[word(start + (entry & mask))] <= time:
        entry += 1
    ints[word(base + pointer)] = entry
    return entry
