"""Information-driven bars the slow and plain way: each from the list of its events, thresholds in exact fractions.

Written from López de Prado 2018, ch. 2, and the words of docs/FEATURES.md alone. Besides the readings of `naive_log`
and of `naive_bars` for what stands in a bar:

1.  All events of a day (of the key's time t) lie in one line, books and trades, in log order; a bar is a run of them
    that ends with the trade that brought it to the threshold. What no trade closed is no bar.
2.  A bar is incomplete where a reset that says so came after the bar before it had closed, on the same day.
3.  A trade that closes a bar of one type is, for the other types, a trade like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction
from itertools import groupby
from typing import Any

from fluxforge.events import AnyEvent, Reset, Trade
from reference.naive_bars import BookOfBar, OpenBar, Row, bar_row, book_of_bar
from reference.naive_log import NS, Levels, Moment, by_key, moments

DAY = 86_400 * NS
NEARLY = 1 - Fraction(1, 10**9)

Item = tuple[Moment, BookOfBar | None]
Measure = Callable[[list[tuple[Trade, int]]], Fraction]

MEASURES: dict[str, Measure] = {
    "tick": lambda trades: Fraction(len(trades)),
    "volume": lambda trades: sum((Fraction(trade.size) for trade, _ in trades), Fraction(0)),
    "dollar": lambda trades: sum((Fraction(trade.price) * Fraction(trade.size) for trade, _ in trades), Fraction(0)),
    "tick_imbalance": lambda trades: Fraction(abs(sum(sign for _, sign in trades))),
}


def information_rows(events: Iterable[AnyEvent], kind: str, threshold: float) -> dict[str, list[Row]]:
    """The bars of one type of each key, `exchange|symbol`, in order; `source_offset` is that of the closing trade."""
    events = list(events)
    logs = by_key(events, range(len(events)))
    return {key: key_rows(list(with_books(moments(log))), kind, threshold) for key, log in logs.items()}


def with_books(log: Iterable[Moment]) -> Iterable[Item]:
    """What could enter a bar, with the book's numbers; t is known."""
    previous: tuple[Levels, Levels] | None = None
    for moment in log:
        book = None
        if moment.what == "break":
            previous = None
        if moment.what == "book" and moment.t is not None:
            book = book_of_bar(moment, previous)
            previous = moment.bids[:1], moment.asks[:1]
        if moment.t is not None and (moment.what in ("book", "trade") or is_loss(moment)):
            yield moment, book


def is_loss(moment: Moment) -> bool:
    return isinstance(moment.event, Reset) and moment.event.incomplete


def key_rows(items: list[Item], kind: str, threshold: float) -> list[Row]:
    out: list[Row] = []
    for _, day in groupby(items, key=lambda item: (item[0].t or 0) // DAY):
        line = list(day)
        signs = signs_of([moment.event for moment, _ in line if isinstance(moment.event, Trade)])
        run: list[Item] = []
        trades: list[tuple[Trade, int]] = []
        for item in line:
            run.append(item)
            event = item[0].event
            if not isinstance(event, Trade):
                continue
            trades.append((event, signs[len(trades_of(line, item))]))
            if MEASURES[kind](trades) >= Fraction(threshold) * NEARLY:
                out.append(row_of(run))
                run, trades = [], []
    return out


def trades_of(line: list[Item], until: Item) -> list[Trade]:
    """The day's trades before an item."""
    before = line[: next(i for i, item in enumerate(line) if item is until)]
    return [moment.event for moment, _ in before if isinstance(moment.event, Trade)]


def signs_of(trades: list[Any]) -> list[int]:
    """1 bought, −1 sold; the tick rule where the side is unknown."""
    signs: list[int] = []
    for i, trade in enumerate(trades):
        if trade.side:
            signs.append(trade.side)
        elif i == 0:
            signs.append(0)
        else:
            move = trade.price - trades[i - 1].price
            signs.append(1 if move > 0 else -1 if move < 0 else signs[i - 1])
    return signs


def row_of(run: list[Item]) -> Row:
    bar = OpenBar([book for _, book in run if book is not None], [])
    bar.trades = [moment.event for moment, _ in run if isinstance(moment.event, Trade)]
    held = [moment for moment, _ in run if moment.what in ("book", "trade")]
    start, end = held[0].t, held[-1].t
    assert start is not None and end is not None
    return {
        **bar_row(bar, start, 0),
        "end": end,
        "incomplete": any(is_loss(moment) for moment, _ in run),
        "source_offset": held[-1].offset,
    }
