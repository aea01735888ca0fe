"""A few minutes of every market in memory: one row a second, the newest row, and bars."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fluxforge.clock import NS
from fluxforge_cli.dashboard.bars import Bar, candles

BARS = 600
"""Bars kept of each duration of a market."""

_ORIGIN = ("exchange", "symbol", "source", "timestamp", "capture_ts", "source_partition", "source_offset")
_NO_FEATURES = frozenset((*_ORIGIN, "sampling", "bids", "asks"))


class Rows(NamedTuple):
    """Feature rows: times (n,) ns, values (n, columns) with NaN for null."""

    times: NDArray[np.int64]
    values: NDArray[np.float64]


class Market:
    """What is known of one market. Of each second of its time the last row is kept, for `seconds` seconds.

    columns     of the rows
    captured    our clock when the event came that made the newest row, ns; 0 before the first
    rows_seen   their number
    version     rises with every row and bar
    bars_seen   rises with every bar
    """

    def __init__(self, seconds: int) -> None:
        self.columns: tuple[str, ...] = ()
        self.captured = 0
        self.version = 0
        self.rows_seen = 0
        self.bars_seen = 0
        self._seconds = seconds
        self._times = np.zeros(seconds, np.int64)
        self._values = np.empty((seconds, 0))
        self._count = 0
        self._bars: dict[int, deque[Bar]] = {}

    @property
    def time(self) -> int:
        """Of the newest row, ns; 0 before the first."""
        return int(self._times[(self._count - 1) % self._seconds]) if self._count else 0

    def add_row(self, row: Mapping[str, Any]) -> None:
        """A feature row; one older than the newest is of no use to a page and is left out."""
        self.add(row["timestamp"], row["capture_ts"], [name for name in row if name not in _NO_FEATURES], row)

    def add(self, time: int, captured: int, names: Sequence[str], row: Mapping[str, Any]) -> None:
        if time < self.time:
            return
        if not set(names) <= set(self.columns):
            self._widen(names)
        if not self._count or time // NS != self.time // NS:
            self._count += 1
        at = (self._count - 1) % self._seconds
        self._times[at] = time
        self._values[at] = [row.get(name) for name in self.columns]  # None becomes NaN
        self.captured = max(self.captured, captured)
        self.rows_seen += 1
        self.version += 1

    def add_bar(self, duration: int, bar: Bar) -> None:
        """A closed bar; bars of a duration come in order, and one that comes again is the same."""
        kept = self._bars.setdefault(duration, deque(maxlen=BARS))
        if not kept or bar.time > kept[-1].time:
            kept.append(bar)
            self.bars_seen += 1
            self.version += 1

    def rows(self, after: int = 0) -> Rows:
        """Those kept with a time > `after`, ns, in order."""
        first = max(0, self._count - self._seconds)
        order = np.arange(first, self._count) % self._seconds
        order = order[self._times[order] > after]
        return Rows(self._times[order], self._values[order])

    def durations(self) -> list[int]:
        """Of the bars that are known, s."""
        return sorted(self._bars)

    def candles(self, duration: int, count: int, base: int, older: Sequence[Bar] = ()) -> list[Bar]:
        """The newest, of bars of `base` s and, where these end, of shorter ones: see `fluxforge_cli.dashboard.bars`.

        older  bars of `base` s from before those that are here
        """
        kept: Sequence[Bar] = self._bars.get(base, ())
        of: list[tuple[int, Sequence[Bar]]] = [(base, [*older, *kept])]
        of += [
            (each, list(self._bars[each])) for each in reversed(self.durations()) if each < base and base % each == 0
        ]
        return candles(of, duration, count)

    def first_bar(self, duration: int) -> int | None:
        """Start of the oldest bar of a duration, s; None where there is none."""
        return self._bars[duration][0].time if duration in self._bars else None

    def _widen(self, names: Sequence[str]) -> None:
        """Rows of another configuration have other columns."""
        fresh = [name for name in names if name not in self.columns]
        self.columns = (*self.columns, *fresh)
        self._values = np.hstack([self._values, np.full((self._seconds, len(fresh)), np.nan)])


class Board:
    """All markets by `exchange|symbol`, filled by one thread and read by another under `lock`."""

    def __init__(self, seconds: int) -> None:
        self.lock = threading.Lock()
        self.markets: dict[str, Market] = {}
        self._seconds = seconds

    def market(self, name: str) -> Market:
        """Of that name; a new one where there was none."""
        if name not in self.markets:
            self.markets[name] = Market(self._seconds)
        return self.markets[name]

    def clear(self) -> None:
        """Forget everything, as another log has it all anew."""
        self.markets.clear()

    def __iter__(self) -> Iterator[tuple[str, Market]]:
        return iter(sorted(self.markets.items()))


def bar_of(row: Mapping[str, Any]) -> tuple[int, Bar] | None:
    """Duration and bar of a row of the bars table; None for a bar that trades close, which is of no duration."""
    if not row["duration"]:
        return None
    return int(row["duration"]), Bar(
        int(row["timestamp"]) // NS,
        row["open"],
        row["high"],
        row["low"],
        row["close"],
        row["volume"] or 0.0,
        int(row["trade_count"] or 0),
        bool(row["incomplete"]),
    )
