"""The merged order of chains against `heapq.merge` over single events."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import accumulate, groupby

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fluxforge.batch import EVENT, EventBatch
from fluxforge.bronze import BronzeBatch
from fluxforge.etl.merge import Feed, merge

Line = list[tuple[int, int]]
"""The events of one offset: (capture time, levels)."""

lines = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 2)), min_size=1, max_size=3)
chains = st.lists(st.lists(st.lists(lines, min_size=1, max_size=4), max_size=4), max_size=4)
"""Chains of batches of lines."""


def bronze(first_offset: int, batch: Sequence[Line], mark: int) -> BronzeBatch:
    events = np.zeros(sum(map(len, batch)), EVENT)
    levels: list[float] = []
    at = 0
    for offset, line in enumerate(batch, start=first_offset):
        for capture, count in line:
            event = events[at]
            event["offset"], event["capture_ts"] = offset, capture
            event["levels"], event["bids"] = len(levels), count
            levels += [1000.0 * mark + offset] * (2 * count)
            at += 1
    nothing = np.zeros(len(events), np.int64)
    return BronzeBatch(EventBatch(events, np.array(levels)), [], nothing, nothing)


def batches(mark: int, chain: Sequence[Sequence[Line]]) -> Iterator[BronzeBatch]:
    offset = 0
    for batch in chain:
        yield bronze(offset, batch, mark)
        offset += len(batch)


def expected(found: Sequence[Sequence[Sequence[Line]]]) -> list[tuple[int, int, int]]:
    """(chain, offset, capture) in order: by the latest capture so far at the end of a line, then by chain."""
    streams = []
    for mark, chain in enumerate(found):
        flat = [line for batch in chain for line in batch]
        keys = accumulate((max(capture for capture, _ in line) for line in flat), max)
        streams.append([(key, mark, offset, line) for offset, (key, line) in enumerate(zip(keys, flat, strict=True))])
    merged = heapq.merge(*streams, key=lambda one: one[:3])
    return [(mark, offset, capture) for _, mark, offset, line in merged for capture, _ in line]


@given(chains)
def test_merged_order(found: list[list[list[Line]]]) -> None:
    feeds = []
    for mark, chain in enumerate(found):
        first = min((capture for batch in chain for line in batch for capture, _ in line), default=0)
        feeds.append(Feed(mark, first, partial(batches, mark, chain)))
    ours = []
    for merged in merge(feeds):
        for event, mark in zip(merged.batch.events, merged.chain.tolist(), strict=True):
            ours.append((mark, int(event["offset"]), int(event["capture_ts"])))
            start = int(event["levels"])
            own = merged.batch.levels[start : start + 2 * int(event["bids"])]
            assert len(own) == 2 * event["bids"]
            assert (own == 1000.0 * mark + event["offset"]).all()
        ends = [(mark, offset) for (mark, offset), _ in groupby(ours, key=lambda one: one[:2])]
        assert len(ends) == len(set(ends)), "a line was cut in two"
    assert ours == expected(found)
