"""A Bronze chain as kernel batches, with the Resets of `fluxforge.replay.gaps` behind what it lacks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from fluxforge import bronze
from fluxforge.batch import INCOMPLETE, EventBatch
from fluxforge.bronze import BronzeBatch
from fluxforge.bronze.batches import UNUSED, Slots, build
from fluxforge.bronze.read import OnError
from fluxforge.events import Kind
from fluxforge.files import ChainId, Tree

_OF_THE_KEY = ["slot", "offset", "ts", "capture_ts", "skew", "collector", "levels"]
"""What a Reset takes from the event it stands before."""


def read_batches(
    tree: Tree,
    chain: ChainId,
    slots: Slots,
    *,
    start: int = 0,
    end: int | None = None,
    renewed: frozenset[int] | None = None,
    begun: bool = False,
    whole: bool = False,
    on_error: OnError,
) -> Iterator[BronzeBatch]:
    """The chain's offsets [start, end); behind offsets that are in no segment, each key begins with a Reset.

    Trades and books have the columns that batches are made of, and all others only if `whole`.

    A gap before the first event parts nothing. Who goes on in the chain says whether it has `begun`, and which slots
    are `renewed` behind the last gap, as in `BronzeBatch`.
    """

    def behind(_first: int, _next: int) -> None:
        nonlocal renewed
        if begun:
            renewed = frozenset()

    without = frozenset() if whole else UNUSED
    found = bronze.read_tables(tree, chain, start=start, end=end, without=without, on_gap=behind, on_error=on_error)
    for tables in found:
        batch = build(tables, slots)
        if len(batch.batch.events):
            begun = True
            if renewed is None:
                yield batch
            else:
                yield with_resets(batch, renewed)
                renewed |= set(np.unique(batch.batch.events["slot"]).tolist())


def with_resets(found: BronzeBatch, renewed: frozenset[int]) -> BronzeBatch:
    """The batch with a Reset before the first event of each slot that is not yet `renewed`."""
    events = found.batch.events
    slots, first = np.unique(events["slot"], return_index=True)
    spots = np.sort(first[~np.isin(slots, list(renewed))])
    if not len(spots):
        return found._replace(renewed=renewed)
    resets = np.zeros(len(spots), events.dtype)
    resets["kind"], resets["flags"] = Kind.RESET, INCOMPLETE
    for name in _OF_THE_KEY:
        resets[name] = events[name][spots]
    return BronzeBatch(
        EventBatch(np.insert(events, spots, resets), found.batch.levels),
        found.tables,
        np.insert(found.table, spots, found.table[spots]),
        np.insert(found.row, spots, found.row[spots]),
        renewed,
    )


def inserted(found: BronzeBatch) -> NDArray[np.bool_]:
    """Whether each event is a Reset of `with_resets`: it has the place of the event that it stands before."""
    same = np.zeros(len(found.row), bool)
    same[:-1] = (found.table[1:] == found.table[:-1]) & (found.row[1:] == found.row[:-1])
    return same
