"""The pure parts of the ccxt road: structures to events, and trades whose ids do not rise by one."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccxt_symbol import HEAD, reset, told, trade
from collector.ccxt_source.seen_line import SeenLine
from collector.ccxt_source.structures import book_of, ticker_of, trade_of
from collector.seen import Seen
from collector.trade_line import TradeLine
from collector.wire import Void
from fluxforge.events import AnyEvent, Reset, Trade


def test_a_book_is_copied_to_its_depth():
    live: dict[str, Any] = {
        "bids": [[10.0, 1.0, 3], [9.0, 2.0, 1], [8.0, 1.0, 1]],
        "asks": [[11.0, 4.0]],
        "timestamp": 5,
        "nonce": 77,
    }
    event = book_of(HEAD, live, 2, 7, updates=3)
    live["bids"][0][0] = 0.0
    assert struct.unpack("<4d", event.bids) == (10.0, 1.0, 9.0, 2.0)
    assert (event.ts, event.seq, event.updates, event.conflated, event.capture_ts) == (5_000_000, 77, 3, True, 7)
    timeless = book_of(HEAD, {"bids": [], "asks": [], "timestamp": None, "nonce": None}, 2, 7)
    assert (timeless.ts, timeless.seq, timeless.updates, timeless.bids, timeless.conflated) == (
        None,
        None,
        1,
        b"",
        False,
    )
    assert book_of(HEAD, {"bids": [], "asks": []}, 2, 7, sampled=True).conflated
    with pytest.raises(ValueError, match="finite"):
        book_of(HEAD, {"bids": [[float("nan"), 1.0]], "asks": []}, 2, 7)
    with pytest.raises(TypeError):
        book_of(HEAD, {"bids": [[None, 1.0]], "asks": []}, 2, 7)


def test_a_trade_of_unknown_side_and_a_ticker_of_nothing():
    found = trade_of(
        HEAD, {"id": None, "price": 1.5, "amount": 2, "side": None, "timestamp": 9, "info": {"p": "1.50"}}, 7
    )
    assert (found.id, found.side, found.price, found.size, found.ts) == ("", 0, 1.5, 2.0, 9_000_000)
    assert found.raw == b'{"p":"1.50"}'
    with pytest.raises(ValueError, match="nan"):
        trade_of(HEAD, {"id": "1", "price": float("nan"), "amount": 1}, 7)
    ticker = ticker_of(HEAD, {"last": 3.0, "bid": float("nan")}, 7)
    assert (ticker.last, ticker.bid, ticker.ts, ticker.raw) == (3.0, None, None, None)


def test_a_trade_goes_out_once():
    line = SeenLine(reset)
    assert told([*line.take(trade("7", 1), 0), *line.take(trade("3", 2), 0), *line.take(trade("7", 3), 0)]) == [
        "7",
        "3",
    ]
    assert line.counts["duplicates"] == 1
    assert line.take(Void("AB", 4), 0) == []


def test_after_a_reconnect_what_was_missed_goes_out_first():
    line = SeenLine(reset)
    assert told(line.reconnect(0, expect_trades=True)) == ["Reset"], "nothing is known yet"
    line.take(trade("b", 1), 0)
    assert line.reconnect(5, expect_trades=True) == []
    assert (line.held_since, line.missing_from) == (5, 0)
    assert line.take(trade("e", 4), 0) == []
    assert line.fill([trade("x", 0, backfilled=True)]) is None, "does not reach back"
    fetched = [trade(id_, at, backfilled=True) for at, id_ in enumerate("abcdef")]
    assert told(line.fill(fetched) or []) == ["Reset", "c", "d", "e"], "f is about to come live"
    assert line.counts["backfilled"] == 2
    assert told(line.take(trade("f", 6), 0)) == ["f"]


def test_what_was_fetched_must_reach_up_to_the_first_live_trade():
    """An answer from before the subscription, or from a cache, would leave a hole that nobody sees."""
    line = SeenLine(reset)
    line.take(trade("b", 1), 0)
    line.reconnect(5, expect_trades=True)
    line.take(trade("b", 1), 0)
    line.take(trade("e", 4), 0)
    assert line.fill([trade(id_, 0, backfilled=True) for id_ in "abc"]) is None
    assert told(line.fill([trade(id_, 0, backfilled=True) for id_ in "abcde"]) or []) == ["Reset", "c", "d", "e"]
    line.reconnect(9, expect_trades=True)
    line.take(trade("e", 4), 0)
    assert told(line.fill([trade(id_, 0, backfilled=True) for id_ in "cde"]) or []) == ["Reset"], "only known ones live"
    assert (line.counts["backfilled"], line.counts["duplicates"]) == (2, 2), "what lies before the newest known is none"


def test_what_cannot_be_fetched_is_said():
    line = SeenLine(reset)
    line.take(trade("b", 10), 0)
    line.reconnect(5, expect_trades=True)
    line.take(trade("z", 40), 0)
    out = line.give_up("no answer", [trade("y", 30, backfilled=True), trade("a", 5, backfilled=True)])
    assert told(out) == ["Reset", "y", "z"]
    assert isinstance(out[0], Reset)
    assert out[0].incomplete
    assert "no answer" in out[0].detail


def test_the_trades_a_subscription_begins_with_are_history_first_and_a_cure_later():
    line = SeenLine(reset)
    past = [trade(id_, at, backfilled=True) for at, id_ in enumerate("abc")]
    assert line.past(past, 0) == []
    assert told(line.take(trade("c", 3), 0)) == []
    assert told(line.past([*past[1:], trade("d", 4, backfilled=True)], 0)) == ["d"]
    line.reconnect(5, expect_trades=True)
    assert told(line.past([trade("d", 4, backfilled=True), trade("e", 5, backfilled=True)], 0)) == ["Reset", "e"]


@given(st.lists(st.sampled_from("abcdefgh"), max_size=30), st.sets(st.integers(0, 29)), st.integers(1, 8))
def test_every_trade_once_whatever_is_lost(ids: list[str], lost: set[int], reach: int):
    """REST answers with the last `reach` trades after each loss: none twice, a hole only behind an incomplete Reset."""
    line = SeenLine(reset)
    out: list[AnyEvent] = []
    happened: list[Trade] = []
    for at, _ in enumerate(ids):
        happened.append(trade(f"{at}", at + 1))
        if at in lost:
            out += line.reconnect(at, expect_trades=True)
            continue
        if line.held_since is not None:
            fetched = [trade(each.id, each.ts or 0, backfilled=True) for each in happened[-reach:]]
            filled = line.fill(fetched)
            out += line.give_up("too far", fetched) if filled is None else filled
        out += line.take(happened[-1], at)
    published = [event.id for event in out if isinstance(event, Trade)]
    assert len(published) == len(set(published))
    assert published == sorted(published, key=int)
    incomplete = sum(isinstance(event, Reset) and event.incomplete for event in out)
    if not incomplete and published:
        assert published == [str(at) for at in range(int(published[0]), int(published[-1]) + 1)]


def test_a_resumed_line_holds_until_it_meets_the_trade_it_knows():
    line = SeenLine(reset)
    line.resume(trade("b", 20))
    assert line.last_ts == 20
    assert line.reconnect(5, expect_trades=True) == []
    fetched = [trade(id_, at, backfilled=True) for at, id_ in enumerate("abcd")]
    assert told(line.fill(fetched) or []) == ["Reset", "c", "d"]


def test_what_is_known_reaches_to_its_newest():
    line = SeenLine(reset)
    for id_, at in (("a", 10), ("b", 5)):
        line.take(trade(id_, at), 0)
    assert line.last_ts == 10, "the newest time, in whatever order they came"
    assert told(line.past([trade(id_, 0, backfilled=True) for id_ in "abc"], 0)) == ["c"]
    assert line.counts["backfilled"] == 1


def test_what_a_subscription_begins_with_is_history_only_before_the_first_trade():
    line = SeenLine(reset)
    line.take(trade("", 1), 0)
    assert line.past([trade("a", 2, backfilled=True)], 0) == []
    assert told(line.take(trade("a", 3), 0)) == ["a"], "it was not taken for known"


def test_trades_without_ids_all_go_out_and_old_ids_are_forgotten():
    line = SeenLine(reset)
    assert told([*line.take(trade("", 1), 0), *line.take(trade("", 1), 0)]) == ["", ""]
    seen = Seen(2)
    assert [seen.add(id_) for id_ in "abac"] == [True, True, False, True]
    assert ("a" in seen, "b" in seen, "c" in seen) == (False, True, True)


def test_what_is_given_up_ends_where_the_live_ones_begin():
    line = SeenLine(reset)
    line.take(trade("b", 10), 0)
    line.reconnect(5, expect_trades=True)
    line.take(trade("z", 40), 0)
    fetched = [trade(id_, at, backfilled=True) for id_, at in (("a", 5), ("y", 30), ("live soon", 50))]
    assert told(line.give_up("no answer", fetched)) == ["Reset", "y", "z"]
    assert line.counts["incomplete"] == 1


def test_trades_of_an_exchange_without_numbers_are_ordered_by_time():
    """Their ids may be anything; those of one time keep the answer's order."""
    line = SeenLine(reset)
    assert [each.id for each in line.ordered([trade("z9", 30), trade("b-1", 10), trade("a", 10)])] == ["b-1", "a", "z9"]
    assert [each.id for each in TradeLine(reset).ordered([trade("10", 1), trade("9", 2)])] == ["9", "10"]
