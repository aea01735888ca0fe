"""The best prices of a book are those of the whole book, whatever was changed between two looks."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector import front
from collector.book import Book
from collector.levels import pack

_side = st.lists(st.tuples(st.integers(1, 30).map(float), st.integers(0, 2).map(float)), max_size=12).map(pack)
_steps = st.lists(
    st.one_of(
        st.tuples(st.just("apply"), _side, _side),
        st.tuples(st.just("replace"), _side, _side),
        st.tuples(st.just("truncate"), st.integers(1, 25), st.none()),
        st.tuples(st.just("look"), st.integers(1, 12), st.none()),
        st.tuples(st.just("best"), st.none(), st.none()),
    ),
    max_size=60,
)


@pytest.mark.parametrize("kept", [1, 3, 48])
@settings(max_examples=200, deadline=None)
@given(steps=_steps)
def test_the_front_is_the_sorted_books(kept: int, steps: list[tuple[str, Any, Any]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(front, "KEPT", kept)
        book = Book()
        for what, *arguments in steps:
            if what == "look":
                [count, _] = arguments
                assert book.best_bids.best(count) == sorted(book.bids, reverse=True)[:count]
                assert book.best_asks.best(count) == sorted(book.asks)[:count]
            elif what == "truncate":
                bids, asks = sorted(book.bids, reverse=True), sorted(book.asks)
                [depth, _] = arguments
                removed = book.truncate(depth)
                assert [price for side in removed for price, _ in struct.iter_unpack("<2d", side)] == [
                    *bids[depth:],
                    *asks[depth:],
                ]
            elif what == "best":
                bid, ask = max(book.bids, default=None), min(book.asks, default=None)
                assert book.best() == (bid, ask)
                assert book.crossed() == (bid is not None and ask is not None and bid >= ask)
            else:
                getattr(book, what)(*arguments)


def test_a_look_at_a_large_book_does_not_search_it_again() -> None:
    """5,000 levels a side, best prices that go and come: the whole book is searched at most once in 16 looks."""
    book = Book()
    book.replace(
        pack([(float(price), 1.0) for price in range(5000, 0, -1)]),
        pack([(float(price), 1.0) for price in range(5001, 10001)]),
    )
    searches = 0
    search = front.Front._search

    def counted(self: front.Front, count: int) -> None:
        nonlocal searches
        searches += 1
        search(self, count)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(front.Front, "_search", counted)
        for best in range(5000, 4200, -2):
            book.apply(pack([(float(best), 0.0), (best - 1.0, 2.0)]), pack([(10.0 + best, 0.0)]))
            book.apply(pack([(best - 1.0, 0.0)]), b"")
            assert book.best() == (best - 2.0, 5001.0)
    assert searches <= 2 * (400 // 16 + 1)
