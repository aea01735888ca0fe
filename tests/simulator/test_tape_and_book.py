"""The tape agrees with plain grouping and sums, the book with a plain dict."""

from __future__ import annotations

from decimal import Decimal
from itertools import groupby

from hypothesis import given
from hypothesis import strategies as st

from simulator.book import Book
from simulator.market import Depth
from simulator.tape import Print, Tape

prints = st.lists(
    st.tuples(st.sampled_from(["1.0", "1.5", "2.0"]), st.integers(1, 99), st.integers(0, 3), st.booleans()), min_size=1
).map(lambda rows: [Print(n, price, f"{size / 10}", time, maker) for n, (price, size, time, maker) in enumerate(rows)])
levels = st.lists(st.tuples(st.integers(1, 30).map(str), st.integers(0, 5).map(str)), max_size=12)


@given(prints)
def test_runs_are_the_groups_of_equal_price_time_and_side(trades: list[Print]) -> None:
    tape = Tape()
    closed = [run for trade in trades if (run := tape.add(trade))]
    last = tape.close_run()
    assert last is not None
    assert tape.close_run() is None
    groups = [list(group) for _, group in groupby(trades, key=lambda one: (one.price, one.time, one.maker))]
    assert [(run.first, run.last, run.size) for run in [*closed, last]] == [
        (group[0].id, group[-1].id, sum((Decimal(one.size) for one in group), Decimal(0))) for group in groups
    ]
    assert [run.id for run in tape.runs] == list(range(1, len(groups) + 1))


@given(prints)
def test_statistics_are_those_of_all_trades(trades: list[Print]) -> None:
    tape = Tape()
    for trade in trades:
        tape.add(trade)
    stats = tape.stats
    assert stats is not None
    prices = [Decimal(trade.price) for trade in trades]
    sizes = [Decimal(trade.size) for trade in trades]
    assert (Decimal(stats.open), Decimal(stats.last)) == (prices[0], prices[-1])
    assert (Decimal(stats.high), Decimal(stats.low)) == (max(prices), min(prices))
    assert stats.volume == sum(sizes)
    assert stats.quote_volume == sum(p * q for p, q in zip(prices, sizes, strict=True))
    assert (stats.first_id, stats.last_id, stats.trades) == (0, len(trades) - 1, len(trades))


@given(prints, st.integers(1, 20), st.integers(0, 30))
def test_history_is_asked_for_by_count_or_id(trades: list[Print], limit: int, first: int) -> None:
    tape = Tape()
    for trade in trades:
        tape.add(trade)
    assert tape.latest(limit) == trades[-limit:]
    assert tape.from_id(first, limit) == [trade for trade in trades if trade.id >= first][:limit]


@given(st.lists(st.tuples(levels, levels), max_size=8), st.integers(1, 40))
def test_the_book_is_a_dict_of_absolute_sizes(diffs: list[tuple[list, list]], limit: int) -> None:
    book, bids, asks = Book(), {"7": "1"}, {"8": "1"}
    book.load(Depth(10, list(bids.items()), list(asks.items())))
    for number, (bid_changes, ask_changes) in enumerate(diffs, start=11):
        book.apply(number, bid_changes, ask_changes)
        bids |= dict(bid_changes)
        asks |= dict(ask_changes)
    expected_bids = sorted(((p, q) for p, q in bids.items() if q != "0"), key=lambda level: -float(level[0]))
    expected_asks = sorted(((p, q) for p, q in asks.items() if q != "0"), key=lambda level: float(level[0]))
    assert book.depth(limit) == Depth(10 + len(diffs), expected_bids[:limit], expected_asks[:limit])
