"""One symbol of the ccxt road: its sockets, its book where ccxt keeps it, and what is held for missed trades."""

from __future__ import annotations

import struct

from ccxt_symbol import HEAD, IDENTITY, told, trade
from collector.ccxt_source.follower import Follower
from collector.levels import pack
from collector.wire import RestBook
from fluxforge.clock import NS
from fluxforge.events import BookSnapshot, Heartbeat


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


def test_a_book_is_wanted_of_a_socket_that_brings_books_and_after_a_while():
    one = Follower(IDENTITY, ("orderbook", "trades"), lambda: 0, consecutive=False, parsed=True)
    one.on_socket("trades", "1", 100 * NS)
    one.tick(120 * NS)
    assert not one.wants_snapshot, "there is no socket to ask"
    one = Follower(IDENTITY, ("orderbook", "trades"), lambda: 0, consecutive=False, parsed=True)
    one.on_socket("orderbook", "1", 100 * NS)
    one.tick(104 * NS)
    assert not one.wants_snapshot, "it is about to come"
    one.tick(106 * NS)
    assert one.wants_snapshot


def test_events_bear_the_socket_they_came_by():
    one = follower(parsed=True)
    one.on_socket("orderbook", "1", 0)
    one.on_socket("trades", "2", 0)
    one.take(book(10, 11), 0)
    [again] = one.on_socket("orderbook", "3", 7)
    assert again.connection == "3"
    one.take(book(10, 11), 8)
    assert [event.connection for event in one.restate(9, refresh=True)] == ["3"]


def test_a_book_of_ccxt_that_meets_itself_or_falls_silent_is_stale():
    one = follower(parsed=False)
    one.on_socket("orderbook", "1", 0)
    one.take(book(11, 11), 0)
    assert told(one.tick(1)) == ["Reset"], "bid = ask is crossed"
    assert one.sync.counts["crossed"] == 1
    for at in range(30):
        one.take(book(10, 11), at * NS // 4)
    silent = 7 * NS
    assert one.tick(silent + 19 * NS) == []
    assert told(one.tick(silent + 21 * NS)) == ["Reset"]
    assert one.sync.counts["stale"] == 1
    assert one.wants_snapshot
    assert one.tick(silent + 22 * NS) == [], "said once"


def test_lost_frames_hold_only_where_ids_cannot_tell():
    for consecutive in (False, True):
        one = follower(parsed=True, consecutive=consecutive)
        one.on_socket("trades", "1", 0)
        one.take(trade("7", 1), 0)
        assert one.lost_trades(5) == []
        assert one.holding != consecutive
        assert bool(one.heartbeat(6, 5)) == consecutive, "time must not outrun what is held"


def test_a_resumed_symbol_waits_for_the_first_socket_and_again_for_that_of_its_trades():
    one = follower(parsed=True)
    one.resume(trade("b", 20))
    assert one.on_socket("orderbook", "1", 5) == []
    assert one.holding
    assert told(one.fill([trade("b", 20), trade("c", 21)], 6) or []) == ["Reset", "c"]
    assert one.on_socket("trades", "1", 7) == []
    assert one.holding, "what came between that answer and this subscription is missing"
    fresh = follower(parsed=True)
    fresh.on_socket("orderbook", "1", 5)
    fresh.on_socket("trades", "1", 7)
    assert not fresh.holding
    for consecutive in (False, True):
        late = follower(parsed=True, consecutive=consecutive)
        late.resume(trade("7", 20))
        late.on_socket("orderbook", "1", 5)
        assert told(late.fill([trade("7", 20)], 6) or []) == ["Reset"]
        late.on_socket("trades", "1", 7)
        assert late.holding != consecutive, "rising ids show by themselves what is missing"
    soon = follower(parsed=True)
    soon.resume(trade("7", 20))
    soon.on_socket("orderbook", "1", 5)
    soon.on_socket("trades", "1", 6)
    assert told(soon.fill([trade("7", 20)], 8) or []) == ["Reset"], "held once"


def rest(*levels: tuple[float, float, float, float]) -> RestBook:
    bids = [(bid, size) for bid, size, _, _ in levels]
    return RestBook(77, pack(bids), pack([(ask, size) for _, _, ask, size in levels]), 1)


def deep(first: float, size: float = 1.0) -> BookSnapshot:
    bids, asks = pack([(10.0, first), (9.0, size)]), pack([(11.0, 1.0), (12.0, 1.0)])
    return HEAD.snapshot(1, 1, None, bids, asks)


def test_a_book_that_ccxt_keeps_is_compared_where_nothing_touched_it():
    one = follower(parsed=False)
    assert not one.audit(), "there is none yet"
    one.on_socket("orderbook", "1", 0)
    one.take(deep(1.0), 0)
    assert one.audit()
    one.take(deep(5.0), 1)
    one.answer(rest((10, 1, 11, 1), (9, 1, 12, 1), (8, 7, 13, 7)), 2)
    one.answer(rest((10, 1, 11, 1), (9, 5, 12, 1)), 3)  # only the first counts
    assert one.tick(2 + NS // 2) == [], "changes may be behind the answer"
    assert one.sync.counts["audits"] == 0
    assert one.tick(2 + NS) == []
    assert (one.sync.counts["audits"], one.sync.counts["drifted"]) == (1, 0)
    for told_at in (10, 20):
        assert one.audit()
        one.answer(rest((10, 5, 11, 1), (9, 2, 12, 1)), told_at * NS)
        out = one.tick((told_at + 1) * NS)
        if told_at == 10:
            assert told(out) == ["Reset"]
            assert one.wants_snapshot
            assert not one.audit(), "a broken book is not compared"
            one.take(deep(5.0), 12 * NS)
        else:
            assert out == [], "twice in a row: the two sources differ, and not the book"
    assert (one.sync.counts["mismatches"], one.sync.counts["drifted"]) == (1, 2)
    assert one.audit()
    one.answer(rest((10, 5, 11, 1), (9, 1, 12, 1)), 30 * NS)
    one.tick(31 * NS)
    assert one.audit()
    one.answer(rest((10, 5, 11, 1), (9, 2, 12, 1)), 40 * NS)
    assert told(one.tick(41 * NS)) == ["Reset"], "after one that was equal it counts again"


def test_an_audit_ends_with_its_socket():
    one = follower(parsed=False)
    one.on_socket("orderbook", "1", 0)
    one.take(deep(1.0), 0)
    one.audit()
    one.on_socket("orderbook", "2", 1)
    one.answer(rest((10, 7, 11, 7), (9, 7, 12, 7)), 2)
    assert one.tick(9 * NS) == []
    assert one.sync.counts["audits"] == 0
    assert not one.audit()


def test_a_book_cut_off_by_its_exchange_is_compared_as_far_as_it_is_known():
    for levels, differing in ((2, 0), (None, 1)):
        one = Follower(IDENTITY, ("orderbook",), lambda: 0, consecutive=False, parsed=True, levels=levels)
        one.on_socket("orderbook", "1", 0)
        one.take(deep(1.0), 0)
        assert one.audit()
        one.answer(RestBook(None, pack([(10.0, 1.0), (9.0, 1.0), (8.0, 7.0)]), pack([(11.0, 1.0), (12.0, 1.0)])), 1)
        one.tick(2 * NS)
        assert one.sync.counts["drifted"] == differing
