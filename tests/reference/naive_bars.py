"""Time bars the slow and plain way: every bar is computed from the list of its events when it closes.

Written from the definitions alone. Besides the readings of `naive_log`:

1.  An event belongs to the bucket of its own ts, also when it came behind t; one without ts takes t.
2.  An event is late for a duration when its bucket's end + grace ≤ t, t being the key's time after the event. A late
    book is still the previous book of the next step; its own step is lost with it.
3.  A step ends in the bar of its later book. sum_ofi and realized_variance are 0 without a step.
4.  mean_l1_imbalance is of the best levels, and null without a book like the mid and spread fields; means are over
    books, not over time.
5.  volume and notional count trades of unknown side too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from fluxforge.events import AnyEvent, Trade
from fluxforge.kernels.config import BarConfig
from reference.naive_features import level_ofi
from reference.naive_log import NS, Levels, Moment, by_key, moments

Row = dict[str, Any]


@dataclass
class BookOfBar:
    """What a bar needs of one valid book; `log_return` and `ofi` are None where the book ends no step."""

    mid: float
    spread: float
    imbalance: float
    log_return: float | None
    ofi: float | None


@dataclass
class OpenBar:
    """The events of one bucket, in log order."""

    books: list[BookOfBar] = field(default_factory=list)
    trades: list[Trade] = field(default_factory=list)


@dataclass
class Bars:
    """`rows` in order of closing (by end, then duration); `late` holds (offset, durations missed) in log order."""

    rows: list[Row] = field(default_factory=list)
    late: list[tuple[int, list[int]]] = field(default_factory=list)


def bar_rows(
    events: Iterable[AnyEvent], config: BarConfig | None = None, offsets: Iterable[int] | None = None
) -> dict[str, Bars]:
    """Closed bars and late events of each key, `exchange|symbol`."""
    events = list(events)
    logs = by_key(events, range(len(events)) if offsets is None else offsets)
    return {key: key_bars(moments(log), config or BarConfig()) for key, log in logs.items()}


def key_bars(log: Iterable[Moment], config: BarConfig) -> Bars:
    """The bars of one key."""
    out = Bars()
    grace = round(config.grace * NS)
    open_bars: dict[tuple[int, int], OpenBar] = {}
    previous: tuple[Levels, Levels] | None = None
    for moment in log:
        t, event = moment.t, moment.event
        if moment.what == "break":
            previous = None
        if t is None:
            continue
        if moment.what in ("book", "trade"):
            assert moment.ts is not None
            missed = []
            book = book_of_bar(moment, previous) if moment.what == "book" else None
            for d in config.durations:
                start = moment.ts // (d * NS) * d * NS
                if start + d * NS + grace <= t:
                    missed.append(d)
                    continue
                bar = open_bars.setdefault((d, start), OpenBar())
                if book is not None:
                    bar.books.append(book)
                else:
                    assert isinstance(event, Trade)
                    bar.trades.append(event)
            if missed:
                out.late.append((moment.offset, missed))
            if book is not None:
                previous = moment.bids[:1], moment.asks[:1]
        for d, start in sorted(open_bars, key=lambda ds: (ds[0] * NS + ds[1], ds[0])):
            if start + d * NS + grace <= t:
                bar = open_bars.pop((d, start))
                out.rows.append({"exchange": event.exchange, "symbol": event.symbol, **bar_row(bar, start, d)})
    return out


def book_of_bar(moment: Moment, previous: tuple[Levels, Levels] | None) -> BookOfBar:
    (pb, qb), (pa, qa) = moment.bids[0], moment.asks[0]
    mid = (pb + pa) / 2
    log_return = ofi = None
    if previous is not None:
        (bid0,), (ask0,) = previous
        log_return = math.log(mid / ((bid0[0] + ask0[0]) / 2))
        ofi = level_ofi((pb, qb), (pa, qa), bid0, ask0)
    return BookOfBar(mid, pa - pb, (qb - qa) / (qb + qa), log_return, ofi)


def mean(values: list[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def bar_row(bar: OpenBar, start: int, duration: int) -> Row:
    """One closed bar."""
    mids = [b.mid for b in bar.books]
    spreads = [b.spread for b in bar.books]
    prices = [x.price for x in bar.trades]
    volume = math.fsum(x.size for x in bar.trades)
    notional = math.fsum(x.price * x.size for x in bar.trades)
    return {
        "timestamp": start,
        "end": start + duration * NS,
        "duration": duration,
        "open": mids[0] if mids else None,
        "high": max(mids, default=None),
        "low": min(mids, default=None),
        "close": mids[-1] if mids else None,
        "mean_spread": mean(spreads),
        "min_spread": min(spreads, default=None),
        "max_spread": max(spreads, default=None),
        "mean_relative_spread": mean([b.spread / b.mid for b in bar.books]),
        "mean_l1_imbalance": mean([b.imbalance for b in bar.books]),
        "sum_ofi": math.fsum(b.ofi for b in bar.books if b.ofi is not None),
        "realized_variance": math.fsum(b.log_return**2 for b in bar.books if b.log_return is not None),
        "count": len(bar.books),
        "volume": volume,
        "buy_volume": math.fsum(x.size for x in bar.trades if x.side > 0),
        "sell_volume": math.fsum(x.size for x in bar.trades if x.side < 0),
        "trade_count": len(bar.trades),
        "vwap": notional / volume if volume else None,
        "notional": notional,
        "trade_open": prices[0] if prices else None,
        "trade_high": max(prices, default=None),
        "trade_low": min(prices, default=None),
        "trade_close": prices[-1] if prices else None,
    }
