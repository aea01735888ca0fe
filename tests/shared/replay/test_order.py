"""The pure parts: the clock, and the order of many feeds."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluxforge.bronze.records import Records
from fluxforge.replay.clock import VirtualClock
from fluxforge.replay.feed import Piece, due, parts
from fluxforge.replay.lanes import steps

SECOND = 1_000_000_000


class Ticking:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


class TestClock:
    def test_runs_at_its_speed_and_stands_while_paused(self) -> None:
        ours = Ticking()
        clock = VirtualClock(10.0, ours)
        clock.start(5 * SECOND)
        assert clock.now() == 5 * SECOND
        ours.seconds = 2.0
        assert clock.now() == 25 * SECOND
        assert clock.until(45 * SECOND) == 2.0
        assert clock.until(24 * SECOND) == 0.0
        clock.pause()
        ours.seconds = 1000.0
        assert clock.now() == 25 * SECOND
        clock.resume()
        ours.seconds = 1001.0
        assert clock.now() == 35 * SECOND

    def test_at_full_speed_nothing_waits(self) -> None:
        clock = VirtualClock(None, Ticking())
        clock.start(5)
        assert clock.now() is None and clock.until(10**18) == 0.0
        clock.pause()
        clock.resume()
        assert clock.now() is None


class Given:
    """A feed of ready pieces; records are (source, number)."""

    def __init__(self, source: int, partition: int, pieces: list[list[int]]) -> None:
        self.source, self.partition = source, partition
        self.done, self._held = False, []
        self.frontier = pieces[0][0] if pieces else 0
        self._pieces = self._make(pieces)
        self.opened_at: int | None = None

    def _make(self, pieces: list[list[int]]) -> Iterator[Piece]:
        number = 0
        for times in pieces:
            values: Any = [(self.source, number + n) for n in range(len(times))]
            number += len(times)
            blank: Any = [None] * len(times)
            records = Records(
                self.partition, np.zeros((len(times), 2), np.int64), np.array(times), *[blank] * 2, values, blank
            )
            yield Piece(self.source, records, np.array(times, np.int64), None, {})

    @property
    def holds(self) -> bool:
        return bool(self._held)

    def load(self) -> None:
        piece = next(self._pieces, None)
        if piece is None:
            self.done = True
            return
        self.frontier = int(piece.times[-1])
        self._held.append((piece, 0))

    from fluxforge.replay.feed import Feed

    take_before = Feed.take_before
    del Feed


feeds_of = st.lists(
    st.tuples(st.integers(0, 1), st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=4), max_size=4)), max_size=4
)


def rising(pieces: list[list[int]]) -> list[list[int]]:
    at, found = 0, []
    for piece in pieces:
        found.append([at := at + gap for gap in piece])
    return found


@given(feeds_of, st.lists(st.integers(0, 60), max_size=5))
def test_each_partition_comes_in_order_of_time_then_of_feeds(feeds: list[Any], stops: list[int]) -> None:
    """In one go, or up to one moment after the other."""
    made = [(partition, rising(pieces)) for partition, pieces in feeds]
    got: dict[int, list[Any]] = {0: [], 1: []}
    latest = -1
    for step in steps([Given(n, partition, pieces) for n, (partition, pieces) in enumerate(made)]):  # type: ignore[misc]
        assert step.next_due() >= latest
        for until in (*sorted(stops), None):
            for piece, start, end in step.take(until):
                assert until is None or piece.times[end - 1] <= until
                got[piece.records.partition] += piece.records.values[start:end]
                latest = max(latest, int(piece.times[end - 1]))
            assert until is None or not step or step.next_due() > until
        assert not step
    for partition, found in got.items():
        wanted = [
            (time, source, number)
            for source, (of, pieces) in enumerate(made)
            if of == partition
            for number, time in enumerate(time for piece in pieces for time in piece)
        ]
        assert found == [(source, number) for _, source, number in sorted(wanted)]


def test_a_feed_is_opened_when_its_time_has_come() -> None:
    early, late = Given(0, 0, [[1, 2], [3, 9]]), Given(1, 0, [[20, 21]])
    loads: list[int] = []
    for feed in (early, late):
        load = feed.load
        feed.load = lambda load=load, feed=feed: (loads.append(feed.source), load())  # type: ignore[method-assign, assignment, misc]
    for step in steps([early, late]):  # type: ignore[list-item]
        list(step.take(None))
    assert loads == [0, 0, 0, 1, 1]


def test_times_never_run_back_and_an_offset_has_one() -> None:
    captured, offsets = np.array([5, 3, 9, 7, 8, 20]), np.array([1, 2, 3, 3, 3, 4])
    assert due(captured, offsets, 4).tolist() == [5, 5, 9, 9, 9, 20]
    assert due(captured, offsets, 10).tolist() == [10, 10, 10, 10, 10, 20]
    assert due(np.array([1, 5]), np.array([7, 7]), 0).tolist() == [5, 5]


@given(st.lists(st.lists(st.integers(0, 40), max_size=30), min_size=1, max_size=3), st.integers(1, 9))
def test_parts_cover_all_in_order_and_never_part_an_offset(columns: list[list[int]], most: int) -> None:
    tables = [pa.table({"offset": pa.array(sorted(each), pa.int64())}) for each in columns]
    found = [[n for table in part for n in table["offset"].to_pylist()] for part in parts(tables, most)]
    assert sorted(n for part in found for n in part) == sorted(n for each in columns for n in each)
    filled = [part for part in found if part]
    assert all(max(one) < min(other) for one, other in pairwise(filled))
    assert all(len(set(part)) <= most + 1 for part in filled)


@pytest.mark.parametrize("speed", [0.5, 3.0])
def test_until_is_when_it_is(speed: float) -> None:
    ours = Ticking()
    clock = VirtualClock(speed, ours)
    clock.start(0)
    ours.seconds = clock.until(7 * SECOND)
    assert clock.now() == pytest.approx(7 * SECOND)
