"""Candles: of any duration, the same whichever bars they are made of."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluxforge.errors import ConfigError
from fluxforge_cli.dashboard.bars import Bar, aggregate, base_of, candles, duration_of

prices = st.one_of(st.none(), st.integers(1, 1000).map(float))
START = 1_700_000_000 // 3600 * 3600


@st.composite
def seconds(draw: st.DrawFn, most: int = 240) -> list[Bar]:
    """Bars of 1 s in order, some of them missing; sizes whose sums are exact."""
    found = []
    for at in sorted(draw(st.sets(st.integers(0, most), max_size=60))):
        close = draw(prices)
        volume, trades, incomplete = draw(st.tuples(st.integers(0, 9).map(float), st.integers(0, 9), st.booleans()))
        spread = draw(st.integers(0, 5))
        prices_of = (None,) * 4 if close is None else (close - 1, close + spread, close - 2 - spread, close)
        found.append(Bar(START + at, *prices_of, volume, trades, incomplete))
    return found


@pytest.mark.parametrize(
    ("text", "expected"), [("1", 1), ("90s", 90), ("2m", 120), ("4h", 14_400), ("7d", 604_800), (" 5M ", 300)]
)
def test_a_duration_is_read_as_settings_write_it(text: str, expected: int) -> None:
    assert duration_of(text) == expected


@pytest.mark.parametrize("text", ["", "0", "-5", "1.5m", "8d", "m", "9999999", "5 m", "١", "1w", "<b>"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="duration"):
        duration_of(text)


def test_the_longest_bars_that_fit_make_a_candle() -> None:
    published = (1, 5, 30, 60, 300)
    assert [base_of(each, published) for each in (1, 7, 10, 90, 120, 900)] == [1, 1, 5, 30, 60, 300]
    with pytest.raises(ConfigError, match="no bars make candles of 7 s"):
        base_of(7, (5, 60))
    with pytest.raises(ConfigError, match="none"):
        base_of(7, ())


@given(seconds(), st.sampled_from([(5, 60), (2, 6), (1, 7), (30, 90)]))
def test_candles_of_candles_are_those_of_the_bars(bars: list[Bar], durations: tuple[int, int]) -> None:
    inner, outer = durations
    assert aggregate(aggregate(bars, inner), outer) == aggregate(bars, outer)


@given(seconds(), st.integers(1, 90))
def test_a_candle_has_all_that_its_bars_have(bars: list[Bar], duration: int) -> None:
    made = aggregate(bars, duration)
    assert sum(bar.volume for bar in made) == sum(bar.volume for bar in bars)
    assert sum(bar.trades for bar in made) == sum(bar.trades for bar in bars)
    assert [bar.time for bar in made] == sorted({bar.time // duration * duration for bar in bars})
    for candle in made:
        parts = [bar for bar in bars if bar.time // duration * duration == candle.time]
        known = [bar for bar in parts if bar.open is not None]
        assert candle.incomplete == any(bar.incomplete for bar in parts)
        assert (candle.open, candle.close) == ((known[0].open, known[-1].close) if known else (None, None))
        assert candle.high == max((bar.high for bar in known), default=None)
        assert candle.low == min((bar.low for bar in known), default=None)


@given(seconds(), st.integers(0, 240))
def test_shorter_bars_go_on_where_longer_ones_end(bars: list[Bar], cut: int) -> None:
    """Bars of 5 s close later than those of 1 s: both together are what those of 1 s alone give."""
    bars = [Bar(START, 1.0, 1.0, 1.0, 1.0, 1.0, 1, False), *(bar for bar in bars if bar.time > START)]
    fives = [bar for bar in aggregate(bars, 5) if bar.time + 5 <= START + cut]
    assert candles([(5, fives), (1, bars)], 60, 100) == aggregate(bars, 60)


def test_a_candle_that_began_before_what_is_known_is_left_out() -> None:
    bars = [Bar(START + at, 1.0, 1.0, 1.0, 1.0, 1.0, 1, False) for at in range(55, 65)]
    assert [(bar.time, bar.volume) for bar in candles([(1, bars)], 60, 10)] == [(START + 60, 5.0)]


def test_only_the_newest_are_given() -> None:
    bars = [Bar(START + at, 1.0, 1.0, 1.0, 1.0, 1.0, 1, False) for at in range(100)]
    assert [bar.time for bar in candles([(1, bars)], 10, 3)] == [START + 70, START + 80, START + 90]
