"""Candles of any duration, out of bars of the durations that are published."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import NamedTuple

from fluxforge.errors import ConfigError

LONGEST_S = 7 * 86_400
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


class Bar(NamedTuple):
    """A bar. `time` is its start, s since 1970 UTC; prices are of the mid, None where no book was known.

    volume      base currency
    trades      their number
    incomplete  trades may be missing
    """

    time: int
    open: float | None
    high: float | None
    low: float | None
    close: float | None
    volume: float
    trades: int
    incomplete: bool


def duration_of(text: str) -> int:
    """Seconds of `90`, `90s`, `2m`, `4h`, `1d`. Raises ConfigError."""
    match = re.fullmatch(r"([0-9]{1,6})([smhd]?)", text.strip().lower())
    seconds = int(match[1]) * _UNITS[match[2]] if match else 0
    if not 1 <= seconds <= LONGEST_S:
        raise ConfigError(f"duration {text!r} is none", hint="1s to 7d, as 90s, 5m, 4h or 1d")
    return seconds


def base_of(duration: int, published: Iterable[int]) -> int:
    """The longest published duration whose bars make whole ones of `duration`. Raises ConfigError without one."""
    known = sorted(published)
    if fitting := [each for each in known if duration % each == 0]:
        return fitting[-1]
    raise ConfigError(
        f"no bars make candles of {duration} s", hint=f"bars are published of {', '.join(map(str, known)) or 'none'} s"
    )


def aggregate(bars: Iterable[Bar], duration: int) -> list[Bar]:
    """Bars of `duration` s, each from a multiple of it on; `bars` are in order."""
    return [_merged(time * duration, list(parts)) for time, parts in groupby(bars, lambda bar: bar.time // duration)]


def candles(of: Sequence[tuple[int, Sequence[Bar]]], duration: int, count: int) -> list[Bar]:
    """The newest `count` candles, the last of them perhaps still open.

    of  (duration, bars in order) of each published duration that divides `duration`, the longest first: shorter ones
        go on where longer ones end
    """
    joined: list[Bar] = []
    end = None
    for each, bars in of:
        start = 0 if end is None else bisect_left(bars, end, key=lambda bar: bar.time)
        if len(bars) > start:
            joined += bars[start:]
            end = bars[-1].time + each
    whole = aggregate(joined, duration)
    if joined and joined[0].time % duration:  # it began before the first bar that is known
        del whole[0]
    return whole[-count:]


def _merged(time: int, parts: Sequence[Bar]) -> Bar:
    known = [bar for bar in parts if bar.open is not None]
    highs = [bar.high for bar in known if bar.high is not None]
    lows = [bar.low for bar in known if bar.low is not None]
    return Bar(
        time,
        known[0].open if known else None,
        max(highs, default=None),
        min(lows, default=None),
        known[-1].close if known else None,
        sum(bar.volume for bar in parts),
        sum(bar.trades for bar in parts),
        any(bar.incomplete for bar in parts),
    )
