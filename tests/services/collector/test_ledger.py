"""The coverage ledger: every count, every second without data, hour by hour, from the events alone."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import pytest

from collector.identity import Identity
from collector.ledger import DARK_AFTER, SETTLE, Ledger
from fluxforge.clock import HOUR, MS, NS
from fluxforge.events import AnyEvent, BookDelta, BookSnapshot, Coverage, Heartbeat, Reset, Ticker, Trade

START = 1_700_000_000 * NS
WHO: Identity = {
    "exchange": "sim",
    "symbol": "A/USDT",
    "native": "AUSDT",
    "source": "sim",
    "collector": "c",
    "connection": "c-1",
}
KEY = "sim|A/USDT"


def beat(at: int) -> Heartbeat:
    return Heartbeat(**WHO, ts=None, capture_ts=at)


def delta(at: int, late_ms: int = 0) -> BookDelta:
    return BookDelta(**WHO, ts=at - late_ms * MS, capture_ts=at, bids=b"", asks=b"")


def trade(at: int, *, backfilled: bool = False) -> Trade:
    return Trade(**WHO, ts=at, capture_ts=at, id="1", price=1.0, size=1.0, side=1, backfilled=backfilled)


def pages(ledger: Ledger, events: Sequence[AnyEvent], until: int) -> list[Coverage]:
    for event in events:
        ledger.saw(event)
    return ledger.close(until)


def test_each_kind_is_counted_once_and_restatements_are_not() -> None:
    ledger = Ledger()
    ledger.expect(WHO, START)
    for event in (
        BookSnapshot(**WHO, ts=START, capture_ts=START, bids=b"", asks=b""),
        BookSnapshot(**WHO, ts=START, capture_ts=START, bids=b"", asks=b"", refresh=True),
        delta(START + 1),
        trade(START + 2),
        trade(START + 3, backfilled=True),
        Ticker(**WHO, ts=None, capture_ts=START + 4),
        Reset(**WHO, ts=None, capture_ts=START + 5, reason="gap"),
        Reset(**WHO, ts=None, capture_ts=START + 6, reason="reconnect", incomplete=True),
        beat(START + 7),
    ):
        ledger.saw(event)
    ledger.count(KEY, "duplicates", 3)
    ledger.count(KEY, "crossed", 2 * NS)
    (page,) = ledger.close(START + NS)
    assert (page.books, page.trades, page.backfilled, page.tickers) == (2, 2, 1, 1)
    assert (page.resets, page.gaps, page.holes, page.duplicates, page.crossed) == (2, 0, 1, 3, 2 * NS)
    assert (page.since, page.until, page.dark) == (START, START + NS, 0)


def test_a_symbol_that_never_says_anything_is_dark_all_the_time() -> None:
    ledger = Ledger()
    ledger.expect(WHO, START)
    (page,) = ledger.close(START + 100 * NS)
    assert page.dark == page.until - page.since == 100 * NS


def test_heartbeats_are_light() -> None:
    times = [START + k * 5 * NS // 4 for k in range(100)]
    (page,) = pages(Ledger(), [beat(at) for at in times], times[-1] + NS)
    assert page.dark == 0


@pytest.mark.parametrize("seed", range(20))
def test_pages_tile_the_time_and_add_up_whatever_the_hours(seed: int) -> None:
    """The naive sum over all pauses, cut at the full hours, by an account of its own."""
    rng = random.Random(seed)
    times, at = [], START + rng.randrange(HOUR)
    for _ in range(400):
        at += rng.choice([NS // 10, NS, 2 * NS, 3 * NS, 40 * NS, 700 * NS] + [5 * HOUR // 2] * (seed % 2))
        times.append(at)
    until = times[-1] + rng.randrange(100 * NS)
    ledger, found, asked = Ledger(), [], times[0]
    ledger.expect(WHO, times[0])
    for time in times:
        ledger.saw(delta(time))
        if rng.random() < 0.1:
            asked = time
            found += ledger.due(asked)
    found += ledger.close(until)
    assert [page.since for page in found] == sorted(page.since for page in found)
    assert found[0].since == times[0]
    assert found[-1].until == until
    assert all(a.until == b.since and b.since % HOUR == 0 for a, b in pairwise(found))
    assert sum(page.books for page in found) == len(times)
    wanted: Counter[int] = Counter()
    for before, after in pairwise([*times, until]):
        if after - before > DARK_AFTER:
            for hour in range(before // HOUR, after // HOUR + 1):
                wanted[hour] += max(0, min(after, (hour + 1) * HOUR) - max(before, hour * HOUR))
    got = {page.since // HOUR: page.dark for page in found}
    for hour, dark in wanted.items():
        # A pause that is not yet one when its hour ends is told in the next hour alone.
        assert 0 <= dark - got[hour] <= DARK_AFTER, hour
    assert sum(got.values()) <= sum(wanted.values())


def test_an_hour_is_written_only_when_nothing_of_it_can_still_come() -> None:
    ledger = Ledger()
    end = START - START % HOUR + HOUR
    ledger.saw(delta(end - NS))
    assert ledger.due(end + SETTLE - 1) == []
    (page,) = ledger.due(end + SETTLE)
    assert (page.until, page.books) == (end, 1)
    assert ledger.due(end + SETTLE) == []


def test_percentiles_are_of_exchange_time_less_arrival() -> None:
    events = [delta(START + k * NS, late_ms=5 if k < 98 else 900) for k in range(100)]
    (page,) = pages(Ledger(), events, START + 100 * NS)
    assert (page.skew_p50, page.stamped) == (-5 * MS, 100)
    assert page.skew_p99 == -5 * MS
    ahead = [delta(START + k * NS, late_ms=-7) for k in range(10)]
    (page,) = pages(Ledger(), ahead, START + 10 * NS)
    assert page.skew_p99 == 7 * MS


def test_the_markets_own_identity_is_left_alone() -> None:
    ledger, mine = Ledger(), WHO.copy()
    ledger.expect(mine, START)
    ledger.saw(Heartbeat(**{**WHO, "connection": "c-2"}, ts=None, capture_ts=START + NS))
    assert mine == WHO
    assert ledger.close(START + 2 * NS)[0].connection == "c-2"


def test_when_each_of_the_first_keys_was_heard_of() -> None:
    ledger = Ledger()
    for number in range(3):
        ledger.expect({**WHO, "symbol": f"S{number}/USDT"}, START)
    ledger.saw(beat(START + NS))
    assert [(who["symbol"], at - START) for who, at in ledger.heard(2)] == [("S0/USDT", 0), ("S1/USDT", 0)]
    assert [at - START for _, at in ledger.heard(10)] == [0, 0, 0, NS]
    assert list(ledger.heard(0)) == []
