"""Laws of the kernels: the book is a sorted dict, windows forget, splits and restarts change no bit."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fluxforge import catalogue
from fluxforge.batch import EVENT, EventBatch, build
from fluxforge.events import AnyEvent, BookDelta, BookSnapshot, Reset, Trade
from fluxforge.kernels import layout
from fluxforge.kernels.bars import BarKernel
from fluxforge.kernels.config import BarConfig, FeatureConfig
from fluxforge.kernels.features import FeatureKernel
from kernel_stress import Market

S = 1_000_000_000
START = 1_700_000_000 * S
NAMES = {
    "exchange": "sim", "symbol": "A/B", "native": "AB", "source": "sim", "collector": "c", "connection": "1",
}  # fmt: skip
KEY = "sim|A/B"


def levels(pairs: Sequence[tuple[float, float]]) -> bytes:
    return b"".join(struct.pack("<2d", *pair) for pair in pairs)


def snapshot(time: int, bids: dict[float, float], asks: dict[float, float], *, refresh: bool = False) -> BookSnapshot:
    return BookSnapshot(
        **NAMES, ts=time, capture_ts=time, bids=levels(sorted(bids.items(), reverse=True)),
        asks=levels(sorted(asks.items())), refresh=refresh,
    )  # fmt: skip


def history(seed: int, seconds: int, *, deltas: int = 3) -> list[AnyEvent]:
    """A book that moves all the time, with trades and now and then a reset."""
    rng = random.Random(seed)
    time, mid = START, 100.0
    bids = {round(mid - 0.01 * k, 2): 1.0 * k for k in range(1, 30)}
    asks = {round(mid + 0.01 * k, 2): 1.0 * k for k in range(1, 30)}
    events: list[AnyEvent] = [snapshot(time, bids, asks)]
    while time < START + seconds * S:
        time += rng.randint(1, 400_000_000)
        if rng.random() < 0.25:
            events.append(
                Trade(**NAMES, ts=time, capture_ts=time, id="", price=mid, size=rng.random(), side=rng.choice([-1, 1]))
            )
            continue
        if rng.random() < 0.01:
            events.append(Reset(**NAMES, ts=time, capture_ts=time, reason="gap"))
            events.append(snapshot(time, bids, asks))
        if rng.random() < 0.02:
            events.append(snapshot(time, bids, asks, refresh=True))
        changes: list[list[tuple[float, float]]] = [[], []]
        for _ in range(rng.randint(1, deltas)):
            side = rng.randrange(2)
            book, other = (bids, asks) if side == 0 else (asks, bids)
            limit = min(other) if side == 0 else max(other)
            price = round(mid + rng.randint(-40, 40) * 0.01, 2)
            if (price >= limit) if side == 0 else (price <= limit):
                continue
            size = 0.0 if price in book and len(book) > 3 and rng.random() < 0.5 else rng.randint(1, 99) / 10
            book.pop(price, None)
            if size:
                book[price] = size
            changes[side].append((price, size))
        events.append(BookDelta(**NAMES, ts=time, capture_ts=time, bids=levels(changes[0]), asks=levels(changes[1])))
    return events


def batch(kernel: FeatureKernel | BarKernel, events: Sequence[AnyEvent], first: int = 0) -> EventBatch:
    slot = kernel.arena.slot(KEY)
    return build(events, [slot] * len(events), range(first, first + len(events)))


level_changes = st.lists(
    st.tuples(st.sampled_from(["bid", "ask"]), st.integers(1, 60), st.sampled_from([0.0, 0.0, 1.5, 2.25])), max_size=300
)


@settings(max_examples=60, deadline=None)
@given(level_changes, st.integers(1, 7))
def test_the_book_is_a_sorted_dict(changes: list[tuple[str, int, float]], per_event: int) -> None:
    """Whatever comes and goes, in whatever order, both sides hold just what a plain dict would."""
    bids, asks = {100.0 - k: 1.0 for k in range(1, 4)}, {100.0 + k: 1.0 for k in range(1, 4)}
    kernel = FeatureKernel(FeatureConfig(max_levels=80, hf_emit_interval=0.0))
    events: list[AnyEvent] = [snapshot(START, bids, asks)]
    expected = []
    for at in range(0, len(changes), per_event):
        sides: dict[str, list[tuple[float, float]]] = {"bid": [], "ask": []}
        for side, distance, size in changes[at : at + per_event]:
            price = 100.0 - distance if side == "bid" else 100.0 + distance
            book = bids if side == "bid" else asks
            book.pop(price, None)
            if size:
                book[price] = size
            sides[side].append((price, size))
        time = START + (at + 1) * S
        events.append(
            BookDelta(**NAMES, ts=time, capture_ts=time, bids=levels(sides["bid"]), asks=levels(sides["ask"]))
        )
        if bids and asks:
            expected.append((sorted(bids.items(), reverse=True), sorted(asks.items())))
    out = kernel.run(batch(kernel, events))
    assert len(out.values) == len(expected) + 1
    for row, (want_bids, want_asks) in zip(out.values[1:], expected, strict=True):
        quotes = row[2 : 2 + 4 * 80].reshape(80, 4)
        for side, want in ((quotes[:, :2], want_bids), (quotes[:, 2:], want_asks)):
            have = [tuple(pair) for pair in side.tolist() if pair[0] == pair[0]]
            assert have == want


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([300, 2000, 5000]), st.sampled_from([0.2, 0.5, 0.8]))
def test_a_deep_book_is_a_sorted_dict(seed: int, depth: int, removed: float) -> None:
    """Up to 5,000 levels a side, changed near the touch and far from it, emptied of tombstones and filled again."""
    rng = random.Random(seed)
    sides: tuple[dict[float, float], ...] = tuple(
        {20_000.0 + sign * (2 * k + 1): 1.0 + k for k in range(depth)} for sign in (-1, 1)
    )
    kernel = FeatureKernel(FeatureConfig(horizons=(1,)))
    events: list[AnyEvent] = [snapshot(START, *sides)]
    for at in range(1, 40):
        changes = []
        for side, sign in zip(sides, (-1, 1), strict=True):
            changes.append([])
            middle = rng.choice([0, 0, depth // 2, depth])
            for _ in range(rng.choice([0, 1, 20, 400])):
                price = 20_000.0 + sign * (1 + abs(middle + rng.randint(-300, 300)))
                size = 0.0 if rng.random() < removed and len(side) > 1 else rng.randint(1, 99) / 10
                side.pop(price, None)
                if size:
                    side[price] = size
                changes[-1].append((price, size))
        time = START + at * S
        events.append(BookDelta(**NAMES, ts=time, capture_ts=time, bids=levels(changes[0]), asks=levels(changes[1])))
    out = kernel.run(batch(kernel, events))
    assert len(out.values) == len(events)
    assert known_levels(kernel) == [sorted(side.items(), reverse=k == 0) for k, side in enumerate(sides)]
    names = catalogue.columns(kernel.config)
    assert out.values[-1, names.index("book_depth")] == min(map(len, sides))


def known_levels(kernel: FeatureKernel) -> list[list[tuple[float, float]]]:
    """Both sides of the first key's book, best first."""
    record = kernel.arena.record(0)
    found = []
    for side, sign in ((layout.SIDE_BID, 1.0), (layout.SIDE_ASK, -1.0)):
        place, capacity, used, _ = record[side : side + 4].tolist()
        keys, sizes = (record[place + k * capacity :][:used].view(np.float64) for k in range(2))
        live = sizes != 0.0
        pairs = zip((sign * keys[live]).tolist(), sizes[live].tolist(), strict=True)
        found.append(list(pairs)[::-1])
    return found


@pytest.mark.parametrize("seed", range(3))
def test_a_batch_may_be_cut_anywhere(seed: int) -> None:
    events = history(seed, 90)
    rng = random.Random(seed)
    for make in (lambda: FeatureKernel(FeatureConfig(horizons=(1, 3))), lambda: BarKernel(BarConfig(durations=(1, 5)))):
        whole = make()
        expected = whole.run(batch(whole, events))
        cut = make()
        at, rows = 0, []
        while at < len(events):
            take = rng.randint(1, 70)
            out = cut.run(batch(cut, events[at : at + take], at))
            rows.append(out[1] if isinstance(cut, FeatureKernel) else out[0])
            at += take
        got = np.concatenate(rows)
        want = expected[1] if isinstance(whole, FeatureKernel) else expected[0]
        names = [n for n in want.dtype.names or () if n != "event"]
        same = [got[n].tobytes() == want[n].tobytes() for n in names] if names else [got.tobytes() == want.tobytes()]
        assert all(same)
        assert whole.arena.save(0) == cut.arena.save(0), "the state's bytes depend on where batches were cut"


MAKES = (
    lambda: FeatureKernel(FeatureConfig(horizons=(1, 3))),
    lambda: FeatureKernel(FeatureConfig(horizons=(1, 3), hf_emit_interval=0.0, impact_window=20)),
    lambda: BarKernel(BarConfig(durations=(1, 5), information=(("tick", "default", 3.0), ("volume", "default", 2.0)))),
)


def odd_market(seed: int, count: int) -> EventBatch:
    """One key's events, good ones and all that can be wrong with one."""
    market, levels = Market(random.Random(seed), wild=False), []
    events = np.zeros(count, EVENT)
    for i, event in enumerate(events):
        event["offset"] = i
        levels += market.fill(event, len(levels))
    return EventBatch(events, np.array(levels))


@pytest.mark.parametrize("make", MAKES)
@pytest.mark.parametrize("seed", range(4))
def test_a_restored_record_goes_on_bit_for_bit(make: object, seed: int) -> None:
    """Cut anywhere, and again: saved with its book or without, what follows the cut is the same bytes.

    A record with its book is re-read from the cut or from its BookSnapshot, one without from its BookSnapshot.
    """
    assert callable(make)
    whole = make()
    events = batch(whole, history(seed, 60)) if seed % 2 else odd_market(seed, 400)
    count, slot = len(events.events), whole.arena.slot(KEY)
    assert slot == 0
    expected = outputs(whole.run(events), 0)
    assert len(expected[0]) > 20
    rng = random.Random(seed)
    for _ in range(8):
        kernel, found = make(), []
        kernel.arena.slot(KEY)
        start = at = 0
        for stop in (*sorted(rng.sample(range(count + 1), 3)), count):
            found.append(outputs(kernel.run(EventBatch(events.events[start:stop], events.levels)), start, at))
            book, from_the_cut = rng.choice([(True, True), (True, False), (False, False)])
            newest = int(kernel.arena.record(slot)[layout.BOOK_OFFSET])
            saved = kernel.arena.save(slot, book=book)
            kernel = make()
            kernel.arena.restore(KEY, saved, stop)
            at, start = stop, stop if from_the_cut or newest < 0 else newest
        for k, part in enumerate(expected):
            assert b"".join(one[k].tobytes() for one in found) == part.tobytes()


def outputs(out: Sequence[NDArray[Any]], start: int, at: int = 0) -> list[NDArray[Any]]:
    """What a run over the events from `start` on yielded, events counted from the first; none may come before `at`."""
    found = []
    for part in out:
        moved = part.copy()
        if moved.dtype.names:
            moved["event"] += start
            assert not len(moved) or moved["event"].min() >= at
        found.append(moved)
    return found


def test_a_spike_leaves_no_trace() -> None:
    """A 10^6-fold size and price pass through; once out of the windows every row is that of a run without them."""
    config = FeatureConfig(horizons=(1, 3), impact_window=20)
    calm = history(9, 30)
    time = calm[-1].capture_ts + S
    book = ({99.0: 5.0, 98.5: 2.0}, {101.0: 3.0, 101.5: 1.0})
    huge = ({99.0e6: 5.0e6, 98.5: 2.0}, {101.0e6: 3.0e6, 102.0e6: 1.0})
    spike: list[AnyEvent] = [
        snapshot(time, *huge),
        Trade(**NAMES, ts=time, capture_ts=time, id="", price=1e8, size=1e12, side=1),
        snapshot(time + 1, *book),
    ]
    plain: list[AnyEvent] = [snapshot(time, *book), snapshot(time + 1, *book)]
    after: list[AnyEvent] = []
    for k in range(1, 90):
        shifted = {99.0 - k % 3 * 0.25: 5.0 + k, 98.0: 1.0}
        after.append(snapshot(time + k * S, shifted, book[1]))
        stamp = time + k * S + k
        size = 1.0 + k % 5
        after.append(
            Trade(**NAMES, ts=stamp, capture_ts=stamp, id="", price=99.5 + k % 4, size=size, side=-1 if k % 3 else 1)
        )
    outs = []
    for middle in (spike, plain):
        kernel = FeatureKernel(config)
        out = kernel.run(batch(kernel, [*calm, *middle, *after]))
        gone = out.rows["time"] > time + 31 * S
        outs.append(out.values[gone][:, windowed(config)])
    assert len(outs[0]) == len(outs[1]) > 50
    assert outs[0].tobytes() == outs[1].tobytes()


def test_a_cold_start_one_longest_window_earlier_gives_the_same_bits() -> None:
    events = history(11, 200)
    config = FeatureConfig(horizons=(1, 3), impact_window=20)
    warm = FeatureKernel(config)
    full = warm.run(batch(warm, events))
    begin = next(
        i
        for i, e in enumerate(events)
        if isinstance(e, BookSnapshot) and not e.refresh and e.capture_ts > START + 60 * S
    )
    cold = FeatureKernel(config)
    part = cold.run(batch(cold, events[begin:], begin))
    ready = events[begin].capture_ts + 31 * S
    a, b = full.values[full.rows["time"] > ready], part.values[part.rows["time"] > ready]
    assert len(a) == len(b) > 50
    assert a[:, windowed(config)].tobytes() == b[:, windowed(config)].tobytes()


def windowed(config: FeatureConfig) -> list[int]:
    """The columns that look back over a window; VPIN's buckets go back to 00:00 UTC."""
    return [i for i, name in enumerate(catalogue.columns(config)) if name != "vpin"]


def test_vpin_remembers_nothing_of_the_day_before() -> None:
    """The same bits whether the processor knows yesterday, its half-full bucket and a huge trade, or not."""
    midnight = (START // (86_400 * S) + 1) * 86_400 * S
    shift = midnight - START - 60 * S
    events = [moved(event, shift) for event in history(13, 200)]
    begin = next(i for i, e in enumerate(events) if isinstance(e, BookSnapshot) and e.capture_ts > midnight - 50 * S)
    config = FeatureConfig(vpin_buckets=3, vpin_volume=1.3)
    huge = Trade(**NAMES, ts=START, capture_ts=START, id="", price=1.0, size=1e12, side=1)
    whole, cold = FeatureKernel(config), FeatureKernel(config)
    full, part = whole.run(batch(whole, [huge, *events])), cold.run(batch(cold, events[begin:]))
    column = catalogue.columns(config).index("vpin")
    a, b = (out.values[out.rows["time"] >= midnight, column] for out in (full, part))
    assert a.tobytes() == b.tobytes()
    assert np.isnan(a[0]) and len(set(a[~np.isnan(a)].tolist())) > 10
    yesterday = full.values[full.rows["time"] < midnight, column]
    assert not np.isnan(yesterday).any()


def moved(event: AnyEvent, by: int) -> AnyEvent:
    """The event `by` ns later."""
    later = event.capture_ts + by
    return msgspec.structs.replace(event, ts=later, capture_ts=later)
