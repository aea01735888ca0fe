"""The book's state machine against a true book, whatever is lost, repeated or late on the way."""

from __future__ import annotations

import bisect
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.book_sync import BookSync, State
from collector.identity import Identity
from collector.wire import RestBook
from collector.wire.binance import BinanceParser
from fluxforge.clock import NS
from fluxforge.events import AnyEvent, BookDelta, BookSnapshot, Reset, Ticker
from fluxforge.recordings import read_lines

WHO: Identity = {
    "exchange": "binance",
    "symbol": "BTC/USDT",
    "native": "BTCUSDT",
    "source": "binance",
    "collector": "c1",
    "connection": "c1-0",
}


def side(levels: Iterable[tuple[float, float]]) -> bytes:
    flat = [number for level in levels for number in level]
    return struct.pack(f"<{len(flat)}d", *flat)


def levels(packed: bytes) -> dict[float, float]:
    return dict(struct.iter_unpack("<2d", packed))


def delta(first: int, last: int, bids: dict[float, float], asks: dict[float, float] | None = None, at: int = 0):
    return BookDelta(
        **WHO, ts=last * 1000, capture_ts=at or last, seq=last, first_seq=first,
        bids=side(bids.items()), asks=side((asks or {}).items()),
    )  # fmt: skip


def rest(seq: int, bids: dict[float, float], asks: dict[float, float] | None = None) -> RestBook:
    return RestBook(seq, side(sorted(bids.items(), reverse=True)), side(sorted((asks or {}).items())))


@dataclass
class Reader:
    """What a reader of the log makes of it, by the rules of the log alone."""

    book: dict[float, float] | None = None
    seq: int | None = None
    resets: list[Reset] = field(default_factory=list)

    def read(self, events: list[AnyEvent]) -> None:
        for event in events:
            if isinstance(event, Reset):
                self.book, self.seq = None, None
                self.resets.append(event)
            elif isinstance(event, BookSnapshot):
                if event.refresh:
                    assert levels(event.bids) == self.book
                self.book, self.seq = levels(event.bids), event.seq
            elif isinstance(event, BookDelta) and self.book is not None:
                assert event.first_seq is not None
                assert self.seq is not None
                assert event.first_seq <= self.seq + 1 <= (event.seq or 0), "a delta must follow the book before it"
                for price, size in levels(event.bids).items():
                    self.book[price] = size
                self.book = {price: size for price, size in self.book.items() if size}
                self.seq = event.seq


def test_diffs_before_the_snapshot_go_out_and_the_book_follows_at_once():
    sync = BookSync(WHO)
    first, second = delta(5, 7, {10.0: 1.0}), delta(8, 9, {11.0: 2.0})
    assert sync.wants_snapshot
    assert sync.diff(first) == [first]
    assert sync.diff(second) == [second]
    [book] = sync.snapshot(rest(7, {10.0: 1.0, 9.0: 3.0}), now=99)
    assert isinstance(book, BookSnapshot)
    assert levels(book.bids) == {11.0: 2.0, 10.0: 1.0, 9.0: 3.0}
    assert list(levels(book.bids)) == [11.0, 10.0, 9.0]
    assert (book.seq, book.ts, book.capture_ts, book.refresh) == (9, 9000, 99, False)


def test_a_snapshot_newer_than_every_diff_waits_for_the_one_that_reaches_it():
    sync = BookSync(WHO)
    sync.diff(delta(1, 2, {10.0: 1.0}))
    assert sync.snapshot(rest(6, {10.0: 5.0}), now=50) == []
    assert not sync.wants_snapshot
    older = delta(3, 5, {10.0: 4.0})
    assert sync.diff(older) == [older]
    reaching = delta(6, 8, {10.0: 7.0})
    out = sync.diff(reaching)
    assert out[0] == reaching
    assert isinstance(out[1], BookSnapshot)
    assert (out[1].seq, levels(out[1].bids)) == (8, {10.0: 7.0})


def test_a_silent_market_gets_its_book_after_a_second():
    sync = BookSync(WHO)
    assert sync.snapshot(rest(6, {10.0: 5.0}), now=NS) == []
    assert sync.settle(2 * NS - 1) == []
    [book] = sync.settle(2 * NS)
    assert isinstance(book, BookSnapshot)
    assert (book.seq, book.ts) == (6, None)
    follows = delta(7, 8, {10.0: 0.0, 9.0: 1.0})
    assert sync.diff(follows) == [follows]
    assert sync.book.bids == {9.0: 1.0}


def test_a_snapshot_older_than_the_diffs_is_asked_for_again():
    sync = BookSync(WHO)
    sync.diff(delta(10, 12, {10.0: 1.0}))
    assert sync.snapshot(rest(8, {}), now=1) == []
    assert sync.wants_snapshot
    assert sync.counts["stale_snapshots"] == 1
    assert len(sync.snapshot(rest(9, {}), now=2)) == 1


def test_a_gap_is_a_reset_before_the_diff_that_showed_it():
    sync = BookSync(WHO)
    sync.diff(delta(1, 2, {}))
    sync.snapshot(rest(2, {10.0: 1.0}), now=3)
    late = delta(5, 6, {10.0: 2.0})
    reset, same = sync.diff(late)
    assert isinstance(reset, Reset)
    assert (reset.reason, same) == ("gap", late)
    assert "5..6 after 2" in reset.detail
    assert sync.state is State.WAITING
    [book] = sync.snapshot(rest(5, {10.0: 1.5}), now=7)
    assert isinstance(book, BookSnapshot)
    assert (book.seq, levels(book.bids)) == (6, {10.0: 2.0})


def test_a_crossed_book_is_found_by_the_check_and_resynced():
    sync = BookSync(WHO)
    sync.diff(delta(1, 2, {}))
    sync.snapshot(rest(2, {10.0: 1.0}, {11.0: 1.0}), now=3)
    assert sync.check(now=4) == []
    sync.diff(delta(3, 3, {11.0: 1.0}))
    [reset] = sync.check(now=5)
    assert isinstance(reset, Reset)
    assert reset.reason == "stale"
    assert sync.wants_snapshot


def test_a_diff_without_ids_is_refused():
    with pytest.raises(ValueError, match="sequence"):
        BookSync(WHO).diff(BookDelta(**WHO, ts=1, capture_ts=1, bids=b"", asks=b""))


_prices = st.integers(1, 12).map(float)
_changes = st.dictionaries(_prices, st.integers(0, 3).map(float), min_size=0, max_size=4)
_steps = st.lists(
    st.tuples(_changes, st.integers(1, 4), st.sampled_from(["send"] * 6 + ["skip", "repeat", "late", "swap"])),
    min_size=1,
    max_size=40,
)
_fetches = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 6)), max_size=12)


@settings(max_examples=300, deadline=None)
@given(_steps, _fetches, st.integers(0, 3))
def test_a_reader_of_the_log_has_the_true_book_whenever_we_are_synced(steps, fetches, settle_every):
    """The oracle folds every change; a fetch at step k answers with the true book of `lag` steps before."""
    truth: list[tuple[int, dict[float, float]]] = [(100, {5.0: 1.0})]
    sent: list[tuple[BookDelta, str]] = []
    for changes, width, fate in steps:
        seq, book = truth[-1]
        book = {price: size for price, size in (book | changes).items() if size}
        sent.append((delta(seq + 1, seq + width, changes), fate))
        truth.append((seq + width, book))
    true_at = dict(truth)

    wire: list[BookDelta] = []
    index_at: list[int] = []
    for at, (diff, fate) in enumerate(sent):
        frames = {"send": [diff], "skip": [], "repeat": [diff, diff]}.get(fate, [diff])
        if fate == "late" and at >= 2:
            frames = [diff, sent[at - 2][0]]
        if fate == "swap" and wire:
            wire[-1:], frames = [diff], [wire[-1]]
        wire += frames
        index_at += [at + 1] * len(frames)

    sync, reader, last = BookSync(WHO), Reader(), None
    gaps = 0
    published: list[int] = []
    fetch_at = dict(fetches)
    for position, diff in enumerate(wire):
        if last is not None and diff.first_seq > last + 1:
            gaps += 1
        fresh = last is None or diff.seq > last
        out = sync.diff(diff)
        assert [event for event in out if isinstance(event, BookDelta)] == ([diff] if fresh else [])
        published += [event.seq or 0 for event in out if isinstance(event, BookDelta)]
        last = diff.seq if fresh else last
        reader.read(out)
        if position in fetch_at and sync.wants_snapshot:
            seq, book = truth[max(index_at[position] - fetch_at[position], 0)]
            reader.read(sync.snapshot(rest(seq, book), now=position))
        if settle_every and position % (settle_every * 5) == 4:
            out = sync.settle(now=10 * NS)
            reader.read(out)
            last = max(last or 0, sync.seq or 0) if out else last
        if sync.state is State.SYNCED:
            assert sync.seq is not None
            assert sync.book.bids == true_at[sync.seq]
            assert reader.book == sync.book.bids
            reader.read(sync.restate(now=position, refresh=True))
        else:
            assert reader.book is None
    assert published == sorted(set(published))
    assert len([reset for reset in reader.resets if reset.reason == "gap"]) == gaps == sync.counts["gaps"]


@pytest.mark.recordings
@pytest.mark.parametrize(
    ("symbol", "diffs", "compared", "equal"), [("btcusdt", 6495, 6492, 6490), ("ethusdt", 6470, 6468, 6468)]
)
def test_the_recorded_book_meets_the_recorded_best_prices(
    recordings: Path, symbol: str, diffs: int, compared: int, equal: int
):
    """At the end of each diff, the best prices are those of the newest bookTicker up to the same update id."""
    parser = BinanceParser("binance", collector="c", connection="x")
    sync, published, snapshots = BookSync(WHO), 0, 0
    best: dict[int, tuple[float | None, float | None]] = {}
    tickers: list[tuple[int, tuple[float | None, float | None]]] = []
    for path in sorted(recordings.glob(f"binance_spot/{symbol}_*.gz")):
        for line in read_lines(path):
            stamp, _, frame = line.partition(b" ")
            [found] = parser.parse(frame, int(stamp))
            out: list[AnyEvent] = []
            if isinstance(found, BookDelta):
                out = sync.diff(found)
            elif isinstance(found, RestBook):
                out = sync.snapshot(found, int(stamp))
            elif isinstance(found, Ticker):
                tickers.append((found.seq or 0, (found.bid, found.ask)))
            published += sum(isinstance(event, BookDelta) for event in out)
            snapshots += sum(isinstance(event, BookSnapshot) for event in out)
            if isinstance(found, BookDelta) and sync.state is State.SYNCED:
                best[found.seq or 0] = sync.book.best()
    ids = [seq for seq, _ in tickers]
    pairs = [(prices, tickers[at - 1][1]) for seq, prices in best.items() if (at := bisect.bisect_right(ids, seq))]
    assert (published, snapshots, len(pairs)) == (diffs, 1, compared)
    assert sum(ours == theirs for ours, theirs in pairs) >= equal
    assert sync.counts == {"snapshots": 1}
