"""All feeds as one sequence of steps: within a step, a lane for each partition, each in the order of its due times."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from fluxforge.replay.feed import Feed, Piece


class Span(NamedTuple):
    """Records [start, end) of a piece."""

    piece: Piece
    start: int
    end: int


class Step:
    """Records of all partitions, due before those of the next step."""

    def __init__(self, lanes: Sequence[Sequence[Span]]) -> None:
        self._lanes = [deque(lane) for lane in lanes if lane]

    def __bool__(self) -> bool:
        return bool(self._lanes)

    def next_due(self) -> int:
        """When the first of what is left is due, ns."""
        return min(int(lane[0].piece.times[lane[0].start]) for lane in self._lanes)

    def take(self, until: int | None) -> Iterator[Span]:
        """Pass on what is due up to `until`, inclusive; all where that is None. An offset is never parted."""
        for lane in self._lanes:
            while lane:
                piece, start, end = lane.popleft()
                cut = end if until is None else start + int(np.searchsorted(piece.times[start:end], until, "right"))
                if cut < end:
                    lane.appendleft(Span(piece, cut, end))
                if cut > start:
                    yield Span(piece, start, cut)
                if cut < end:
                    break
        self._lanes = [lane for lane in self._lanes if lane]


def steps(feeds: Sequence[Feed], before_load: Callable[[], None] = lambda: None) -> Iterator[Step]:
    """Everything, in order of due times; ties in the order of the feeds. A feed is opened when its time has come."""
    feeds = list(feeds)
    while feeds:
        reading = [feed for feed in feeds if not feed.done]
        bound = min((feed.frontier for feed in reading), default=None)
        by_partition: dict[int, list[list[Span]]] = {}
        for feed in feeds:
            spans = [Span(*found) for found in feed.take_before(bound)]
            if spans:
                by_partition.setdefault(feed.partition, []).append(spans)
        step = Step([_one(of_feeds) for of_feeds in by_partition.values()])
        if step:
            yield step
        for feed in reading:
            if feed.frontier == bound:
                before_load()
                feed.load()
        feeds = [feed for feed in feeds if feed.holds or not feed.done]


def _one(of_feeds: list[list[Span]]) -> list[Span]:
    """The spans of several feeds that share a partition, as one lane."""
    if len(of_feeds) == 1:
        return of_feeds[0]
    spans = [span for spans in of_feeds for span in spans]
    times = np.concatenate([span.piece.times[span.start : span.end] for span in spans])
    of_span = np.repeat(np.arange(len(spans)), [span.end - span.start for span in spans])
    order = np.argsort(times, kind="stable")
    owners = of_span[order]
    edges = np.flatnonzero(np.diff(owners, prepend=-1, append=-1))
    at = [span.start for span in spans]
    lane = []
    for start, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        owner = int(owners[start])
        lane.append(Span(spans[owner].piece, at[owner], at[owner] + end - start))
        at[owner] += end - start
    return lane
