"""The pure parts of the ccxt road: structures to events, and trades whose ids do not rise by one."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.ccxt_source.follower import Follower
from collector.ccxt_source.seen_line import SeenLine
from collector.ccxt_source.structures import book_of, ticker_of, trade_of
from collector.identity import Identity
from collector.skew import Skew
from collector.wire import Void
from collector.wire.head import Head
from fluxforge.clock import NS
from fluxforge.events import AnyEvent, BookSnapshot, Heartbeat, Reset, ResetReason, Trade

IDENTITY: Identity = {
    "exchange": "x",
    "symbol": "A/B",
    "native": "AB",
    "source": "ccxt",
    "collector": "c",
    "connection": "1",
}
HEAD = Head(**IDENTITY, skew=Skew())


def reset(reason: ResetReason, incomplete: bool, detail: str) -> Reset:
    return Reset(**IDENTITY, ts=None, capture_ts=0, reason=str(reason), incomplete=incomplete, detail=detail)


def trade(id_: str, ts: int, *, backfilled: bool = False) -> Trade:
    return HEAD.trade(0, ts, None, id_, 1.0, 1.0, 1, None, backfilled=backfilled)


def told(events: list[AnyEvent]) -> list[str]:
    return [event.id if isinstance(event, Trade) else type(event).__name__ for event in events]


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


def follower(*, parsed: bool, consecutive: bool = False) -> Follower:
    return Follower(IDENTITY, ("orderbook", "trades"), lambda: 0, consecutive=consecutive, parsed=parsed)


def book(bid: float, ask: float) -> BookSnapshot:
    return HEAD.snapshot(1, 1, None, struct.pack("<2d", bid, 1.0), struct.pack("<2d", ask, 1.0))


def test_each_channel_has_its_socket():
    one = follower(parsed=True)
    assert told(one.on_socket("orderbook", "1", 0)) == ["Reset"]
    assert one.on_socket("trades", "2", 0) == []
    one.take(book(10, 11), 0)
    one.take(trade("a", 1), 0)
    assert one.on_socket("orderbook", "1", 0) == []
    assert one.on_socket("trades", "3", 5) == []
    assert one.holding
    assert not one.wants_snapshot, "the book's socket stands"
    assert told(one.fill([trade("a", 1), trade("b", 2)], 6) or []) == ["Reset", "b", "BookSnapshot"]
    assert told(one.on_socket("orderbook", "4", 7)) == ["Reset"]
    assert not one.wants_snapshot, "it is about to come"
    one.tick(4 * NS)
    assert not one.wants_snapshot
    one.tick(6 * NS)
    assert one.wants_snapshot
    assert not one.holding


def test_a_crossed_book_of_ccxt_begins_anew():
    one = follower(parsed=False)
    one.on_socket("orderbook", "1", 0)
    assert told(one.take(book(10, 11), 0)) == ["BookSnapshot"]
    assert one.tick(1) == []
    one.take(book(12, 11), 0)
    assert told(one.tick(2)) == ["Reset"]
    assert one.wants_snapshot
    one.take(book(10, 11), 0)
    assert not one.wants_snapshot


def test_a_key_on_our_clock_has_heartbeats_without_a_time():
    one = follower(parsed=False)
    assert [event.ts for event in one.heartbeat(5, None) if isinstance(event, Heartbeat)] == [None]
