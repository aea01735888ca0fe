"""What a chart shows, as arrays: candles with volume, features, coverage, over one range of time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fluxforge import bronze, lake
from fluxforge.clock import DAY, HOUR, NS
from fluxforge.coverage import by_hour, pages
from fluxforge.errors import ConfigError, StorageError
from fluxforge.lake.layout import hive_symbol
from fluxforge.storage import Root

CANDLES, POINTS = 500, 4_000
"""About as many candles as one can tell apart, and points of a line: beyond, each pixel gets its lowest and highest."""
_OHLC = ("open", "high", "low", "close", "volume")

Times = NDArray[np.datetime64]
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Candles:
    """Closed bars, by the time they begin; `duration` in s."""

    duration: int
    begin: Times
    open: Values
    high: Values
    low: Values
    close: Values
    volume: Values


@dataclass(frozen=True)
class Line:
    """A feature; NaN where a row has none. A break in the rows is a NaN too."""

    name: str
    time: Times
    value: Values


@dataclass(frozen=True)
class Seen:
    """By hour and collector: the share of it that the market was watched, since the first hour and until the last."""

    collector: str
    hour: Times
    share: Values
    gaps: NDArray[np.int64]


@dataclass(frozen=True)
class Chart:
    exchange: str
    symbol: str
    start: np.datetime64
    end: np.datetime64
    candles: Candles | None
    lines: Sequence[Line]
    seen: Sequence[Seen]

    @property
    def panels(self) -> list[tuple[str, Any]]:
        """From top to bottom: candles, volume, line or seen, and what is drawn there."""
        price = [] if self.candles is None else [("candles", self.candles), ("volume", self.candles)]
        return [*price, *(("line", line) for line in self.lines), *([("seen", self.seen)] if self.seen else [])]

    @property
    def title(self) -> str:
        first, last = (str(time.astype("datetime64[s]")).replace("T", " ") for time in (self.start, self.end))
        return f"{self.symbol} · {self.exchange} · {first} – {last} UTC"


def gather(
    raw: Root,
    root: Root,
    symbol: str,
    exchange: str | None,
    start: int | None,
    end: int | None,
    duration: int | None,
    features: Sequence[str],
) -> Chart:
    """What is stored of one market.

    Times in ns; without any the last day there is, or what there is of it; with one of them a day from it.

    duration  of the candles, s; None: the shortest stored one of which at most `CANDLES` fit
    features  columns of the feature rows

    Raises StorageError where the lake has nothing of it; ConfigError for several exchanges, or a column there is not.
    """
    found = _Market(root, symbol, exchange)
    exchange = exchange or found.exchange()
    open_ = start is None
    start, end = found.bounds(start, end)
    candles = found.candles(exchange, start, end, duration)
    lines = found.lines(exchange, start, end, features)
    if candles is None and not any(len(line.time) for line in lines):
        raise StorageError(
            f"the lake has no rows of {symbol} on {exchange} in that time",
            hint="`fluxforge ls` tells from when to when",
        )
    seen = _seen(raw, exchange, symbol, start, end)
    times = [line.time for line in lines] + ([] if candles is None else [candles.begin])
    first = min(time[0] for time in times if len(time)) if open_ else np.datetime64(start, "ns")
    return Chart(exchange, symbol, first, np.datetime64(end, "ns"), candles, lines, seen)


class _Market:
    """The rows of a symbol in a lake."""

    def __init__(self, root: Root, symbol: str, exchange: str | None) -> None:
        self._root, self._symbol, self._exchange = root, symbol, exchange

    def _rows(self, table: str, columns: Sequence[str], **chosen: Any) -> pa.Table | None:
        """None where there are none."""
        where = {"exchange": self._exchange, "symbol": self._symbol, **chosen}
        try:
            found = lake.scan(self._root, table, **where)
        except StorageError:
            return None
        if lacking := [name for name in columns if name not in found.schema.names]:
            there = [name for name in found.schema.names if pa.types.is_floating(found.schema.field(name).type)]
            raise ConfigError(f"there is no feature {', '.join(lacking)}", hint=f"there are {', '.join(there)}")
        return found.to_table(columns=list(columns))

    def exchange(self) -> str:
        """The one that has the symbol."""
        for table in ("bars", "hf"):
            rows = self._rows(table, ["exchange"])
            if rows is not None and rows.num_rows:
                names = sorted(pc.unique(rows["exchange"].cast(pa.string())).to_pylist())
                if len(names) > 1:
                    raise ConfigError(f"{self._symbol} is there of {', '.join(names)}", hint="choose one by --exchange")
                return str(names[0])
        raise StorageError(
            f"the lake has no rows of {self._symbol}",
            hint="`fluxforge ls` tells what there is; symbols are as BTC/USDT",
        )

    def bounds(self, start: int | None, end: int | None) -> tuple[int, int]:
        if start is not None:
            return start, start + DAY if end is None else end
        if end is None:
            newest = [
                pc.max(rows["timestamp"]).as_py()
                for table in ("bars", "hf")
                if (rows := self._rows(table, ["timestamp"])) is not None and rows.num_rows
            ]
            end = max(newest, default=0) + NS
        return end - DAY, end

    def candles(self, exchange: str, start: int, end: int, duration: int | None) -> Candles | None:
        columns = ["timestamp", "duration", "incomplete", *_OHLC]
        rows = self._rows("bars", columns, exchange=exchange, start=start, end=end, duration=duration)
        if rows is None or not rows.num_rows:
            return None
        there = sorted(set(pc.unique(rows["duration"]).to_pylist()) - {0})
        if not there:
            return None
        span = (pc.max(rows["timestamp"]).as_py() - pc.min(rows["timestamp"]).as_py()) / NS
        chosen = next((one for one in there if span / one <= CANDLES), there[-1])
        keep = pc.and_(pc.equal(rows["duration"], chosen), pc.is_valid(rows["close"]))
        rows = rows.filter(keep).sort_by("timestamp")
        begin = rows["timestamp"].to_numpy() - chosen * NS
        return Candles(chosen, begin.astype("datetime64[ns]"), *(_floats(rows[name]) for name in _OHLC))

    def lines(self, exchange: str, start: int, end: int, features: Sequence[str]) -> list[Line]:
        columns = ["timestamp", *features]
        rows = self._rows("hf", columns, exchange=exchange, start=start, end=end) if features else None
        if rows is None:
            return []
        rows = rows.sort_by("timestamp")
        time = rows["timestamp"].to_numpy()
        return [Line(name, *thinned(time, _floats(rows[name]), start, end)) for name in features]


def thinned(time: NDArray[np.int64], value: Values, start: int, end: int) -> tuple[Times, Values]:
    """At most about `POINTS` points: of each stretch the lowest and the highest value, in their order; gaps as NaN."""
    known = ~np.isnan(value)
    if len(value) > POINTS:
        stretch = (time - start) // max(1, -(-(end - start) // (POINTS // 2)))
        order = np.lexsort((value, stretch))[: len(value)]
        order = order[known[order]]
        edges = np.flatnonzero(np.diff(stretch[order])) + 1
        first, last = np.r_[0, edges], np.r_[edges, len(order)] - 1
        keep = np.unique(order[np.r_[first, last]]) if len(order) else order
        time, value = time[keep], value[keep]
    if len(time) > 1:
        steps = np.diff(time)
        breaks = np.flatnonzero(steps > max(60 * NS, 20 * int(np.median(steps)))) + 1
        time, value = np.insert(time, breaks, time[breaks - 1] + 1), np.insert(value, breaks, np.nan)
    return time.astype("datetime64[ns]"), value


def _floats(column: pa.ChunkedArray) -> Values:
    values: Values = column.cast(pa.float64()).to_numpy()
    return values


def _seen(raw: Root, exchange: str, symbol: str, start: int, end: int) -> list[Seen]:
    """Nothing where no Bronze is."""
    first = start // HOUR * HOUR
    named = {hive_symbol(page.symbol): page.symbol for page in pages(bronze.tree(raw), exchange=exchange, start=first)}
    rows = by_hour(
        pages(bronze.tree(raw), exchange=exchange, symbol=named.get(hive_symbol(symbol), symbol), start=first, end=end)
    )
    hours = rows["hour"].cast(pa.int64()).to_numpy()
    there = _floats(rows["seconds"])
    shares = np.clip((there - _floats(rows["dark_s"])) / np.maximum(there + _floats(rows["absent_s"]), 1.0), 0.0, 1.0)
    gaps = rows["gaps"].to_numpy()
    collectors = np.array(rows["collector"].to_pylist(), object)
    return [
        Seen(name, hours[mine].astype("datetime64[ns]"), shares[mine], gaps[mine])
        for name in sorted(set(collectors.tolist()))
        if (mine := np.flatnonzero(collectors == name)).size
    ]
