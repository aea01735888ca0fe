"""Skew, silence, backoff, whose clock: the small laws of time."""

from __future__ import annotations

import random
from statistics import median_high

from hypothesis import given
from hypothesis import strategies as st

from collector.backoff import Backoff
from collector.clock_source import BOOKS, ClockChoice
from collector.patience import Patience
from collector.silence import Silence
from collector.skew import Skew
from fluxforge.clock import NS
from fluxforge.events import BookSnapshot, ClockSource, Heartbeat

WHO = dict.fromkeys(("exchange", "symbol", "native", "source", "collector", "connection"), "x")


@given(st.lists(st.tuples(st.integers(-(10**12), 10**12), st.none() | st.integers(-(10**12), 10**12)), max_size=100))
def test_skew_is_the_median_of_the_last_31_stamped_events(observed):
    skew = Skew()
    for capture, ts in observed:
        skew.observe(capture, ts)
    lags = [capture - ts for capture, ts in observed if ts is not None][-31:]
    assert skew.value == (-median_high(lags) if lags else 0)
    assert skew.known == bool(lags)


def test_one_bad_stamp_does_not_move_the_skew():
    skew = Skew()
    for at in range(31):
        skew.observe(at * NS, at * NS + 5)
    assert skew.observe(40 * NS, 10**18) == 5


def test_skew_follows_a_replay_ten_times_as_fast():
    skew, clock = Skew(), 0
    for at in range(0, 100 * NS, NS // 100):
        clock = 10 * at
        skew.observe(at, clock)
    assert abs(at + skew.value - clock) < 2 * NS


def test_a_key_is_due_after_each_silent_second():
    silence = Silence(["a", "b"], now=0)
    silence.heard("b", NS // 2)
    assert silence.due(NS - 1) == []
    assert silence.due(NS) == ["a"]
    assert silence.due(NS + NS // 2) == ["b"]
    assert silence.due(2 * NS) == ["a"]


def test_backoff_is_capped_jittered_and_forgets():
    backoff = Backoff(1.0, 8.0, random.Random(1))
    waits = [backoff.next() for _ in range(200)]
    assert all(0 < wait <= 8 for wait in waits)
    assert waits[0] <= 1
    assert max(waits[5:]) > 7
    assert len(set(waits)) == len(waits)
    backoff.reset()
    assert backoff.next() <= 1


def book(ts: int | None) -> BookSnapshot:
    return BookSnapshot(**WHO, ts=ts, capture_ts=1, bids=b"", asks=b"", conflated=True)


def test_capture_time_is_the_clock_only_where_no_book_carries_one():
    choice = ClockChoice(follows_books=True)
    for _ in range(BOOKS - 1):
        choice.see(book(None))
        choice.see(Heartbeat(**WHO, ts=None, capture_ts=1))
        assert choice.clock is None
    choice.see(book(None))
    assert choice.clock is ClockSource.CAPTURE
    choice.see(book(5))
    assert choice.clock is ClockSource.CAPTURE, "a key never changes its clock"


def test_a_rest_snapshot_without_time_decides_nothing():
    choice = ClockChoice(follows_books=True)
    choice.see(book(None))
    choice.see(book(7))
    assert choice.clock is ClockSource.EXCHANGE


def test_without_books_the_exchanges_times_are_taken():
    assert ClockChoice(follows_books=False).clock is ClockSource.EXCHANGE
    choice = ClockChoice(follows_books=True)
    choice.give_up()
    assert choice.clock is ClockSource.EXCHANGE


def feed(patience: Patience, start: float, stop: float, every: float) -> float:
    """Data each `every` s from `start` to `stop`; nothing may expire meanwhile."""
    now = start
    while now < stop:
        assert not patience.expired(now)
        patience.heard(now)
        now += every
    return now - every


def test_a_busy_socket_that_falls_silent_is_dead_after_the_base():
    patience = Patience(20.0, now=0.0)
    last = feed(patience, 0.0, 100.0, 0.1)
    assert not patience.expired(last + 20.0)
    assert patience.expired(last + 20.1)


def test_patience_doubles_while_every_new_socket_is_silent_too():
    patience, now, waits = Patience(20.0, now=0.0), 0.0, []
    for _ in range(8):
        patience.opened(now)
        waits.append(patience.limit)
        assert not patience.expired(now + patience.limit)
        now += patience.limit + 0.1
        assert patience.expired(now)
    assert waits == [20, 40, 80, 160, 320, 600, 600, 600]


def test_a_thin_market_is_learned_and_forgotten():
    patience = Patience(20.0, now=0.0)
    now = 0.0
    patience.heard(now)
    assert patience.expired(now + 21)
    patience.opened(21.0)
    patience.heard(30.0)
    assert patience.limit == 40, "nine silent seconds on a new socket: the market was silent"
    assert not patience.expired(69.0)
    last = feed(patience, 69.0, 120.0, 0.2)
    assert patience.limit == 20, "a busy market again"
    assert patience.expired(last + 20.1)
    patience.opened(last + 21)
    patience.heard(last + 21.5)
    patience.heard(last + 90.0)
    assert patience.limit == 20, "data at once on a new socket: the stall was one"
