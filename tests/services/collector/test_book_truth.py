"""Laws of the book's state machine: it is never synced with a wrong book unless a Reset has said so before.

An exchange is played with its true book at every step. Its messages are dropped, repeated, swapped; its answers are
late or old; our copy is tampered with. What a reader of the log has is compared with the truth.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.book_sync import BookSync, State
from collector.identity import Identity
from collector.text_book import Summing
from collector.wire import Checksum, RestBook, Texts
from fluxforge.clock import NS
from fluxforge.events import AnyEvent, BookDelta, BookSnapshot, Reset

WHO: Identity = {
    "exchange": "x",
    "symbol": "BTC/USD",
    "native": "BTC-USD",
    "source": "x",
    "collector": "c1",
    "connection": "c1-0",
}
Side = dict[float, float]


def packed(levels: Side, *, reverse: bool = False) -> bytes:
    flat = [number for level in sorted(levels.items(), reverse=reverse) for number in level]
    return struct.pack(f"<{len(flat)}d", *flat)


def levels(side: bytes) -> Side:
    return dict(struct.iter_unpack("<2d", side))


def texts(changes: Side) -> Texts:
    return [(f"{price:.1f}", f"{size:.1f}") for price, size in sorted(changes.items())]


def checksum(bids: Texts, asks: Texts) -> int:
    return crc32("|".join(f"{price}:{size}" for price, size in [*bids, *asks]).encode())


def true_checksum(bids: Side, depth: int) -> int:
    best = sorted(bids.items(), reverse=True)[:depth]
    return checksum([(f"{price:.1f}", f"{size:.1f}") for price, size in best], [])


def delta(bids: Side, seq: int | None, first: int | None, at: int = 0) -> BookDelta:
    return BookDelta(**WHO, ts=at, capture_ts=at, seq=seq, first_seq=first, bids=packed(bids), asks=b"")


def snapshot(bids: Side, seq: int | None, at: int = 0) -> BookSnapshot:
    return BookSnapshot(**WHO, ts=at, capture_ts=at, seq=seq, bids=packed(bids, reverse=True), asks=b"")


@dataclass
class Reader:
    """What a reader of the log makes of it, by the rules of the log alone."""

    bids: Side | None = None
    resets: list[str] = field(default_factory=list)

    def read(self, events: list[AnyEvent]) -> None:
        for event in events:
            if isinstance(event, Reset):
                self.bids = None
                self.resets.append(event.reason)
            elif isinstance(event, BookSnapshot):
                self.bids = levels(event.bids)
            elif isinstance(event, BookDelta) and self.bids is not None:
                self.bids = {price: size for price, size in (self.bids | levels(event.bids)).items() if size}


_changes = st.dictionaries(st.integers(1, 9).map(float), st.integers(0, 3).map(float), min_size=1, max_size=4)
_fates = st.sampled_from(["send"] * 6 + ["drop", "repeat", "swap"])
_steps = st.lists(st.tuples(_changes, _fates), min_size=1, max_size=40)


@dataclass(frozen=True)
class Sent:
    changes: Side
    number: int
    truth: Side


def play(steps: list[tuple[Side, str]]) -> tuple[list[Sent], list[Sent]]:
    """What happened, and what of it arrives, in which order."""
    book: Side = {5.0: 1.0}
    happened: list[Sent] = [Sent({}, 0, book)]
    arrives: list[Sent] = []
    for number, (changes, fate) in enumerate(steps, 1):
        book = {price: size for price, size in (book | changes).items() if size}
        one = Sent(changes, number, book)
        happened.append(one)
        if fate == "swap" and arrives:
            arrives[-1:] = [one, arrives[-1]]
        else:
            arrives += {"drop": [], "repeat": [one, one]}.get(fate, [one])
    return happened, arrives


@settings(max_examples=300, deadline=None)
@given(_steps, st.integers(0, 5))
def test_numbered_diffs_behind_snapshots_of_the_stream(steps: list[tuple[Side, str]], patience: int):
    """The numbers alone show whatever is missing; the exchange sends its book anew some messages after it is asked."""
    happened, arrives = play(steps)
    sync, reader = BookSync(WHO, streamed=True), Reader()
    reader.read(sync.whole(snapshot(happened[0].truth, 0)))
    asked = 0
    for one in arrives:
        reader.read(sync.diff(delta(one.changes, one.number, one.number)))
        if sync.wants_snapshot:
            asked += 1
            if asked > patience:
                reader.read(sync.whole(snapshot(one.truth, one.number)))
                asked = 0
        if sync.state is State.SYNCED:
            assert sync.seq is not None
            assert sync.book.bids == happened[sync.seq].truth
            assert reader.bids == sync.book.bids
        else:
            assert reader.bids is None
    missing = any(fate == "drop" for _, fate in steps[: arrives[-1].number if arrives else 0])
    assert ("gap" in reader.resets) or not missing


@settings(max_examples=300, deadline=None)
@given(_steps, st.integers(1, 4), st.booleans())
def test_checksums_alone_find_every_difference_within_their_depth(
    steps: list[tuple[Side, str]], depth: int, truncated: bool
):
    """An exchange without numbers: a checksum over the best levels follows each message."""
    if truncated:  # the exchange keeps `depth` levels and deletes what falls out without a word
        steps = [(dict(list(changes.items())[:depth]), fate) for changes, fate in steps]
    happened, arrives = play(steps)
    sync, reader = BookSync(WHO, streamed=True, summing=Summing(depth, checksum)), Reader()
    sync.depth = depth if truncated else None

    def kept(book: Side) -> Side:
        return dict(sorted(book.items(), reverse=True)[:depth]) if truncated else book

    def restart(one: Sent) -> None:
        whole = kept(one.truth)
        reader.read(sync.whole(snapshot(whole, None)))
        reader.read(sync.checksum(Checksum("BTC-USD", true_checksum(whole, depth), texts(whole)[::-1]), 0))
        assert sync.state is State.SYNCED, "nothing of the book before may be left"

    restart(happened[0])
    for one in arrives:
        expected = true_checksum(one.truth, depth)
        reader.read(sync.diff(delta(one.changes, None, None)))
        reader.read(sync.checksum(Checksum("BTC-USD", expected, texts(one.changes)), 0))
        if sync.state is State.SYNCED:
            assert true_checksum(sync.book.bids, depth) == expected
            assert reader.bids == sync.book.bids
            assert not truncated or len(sync.book.bids) <= depth
        else:
            assert reader.bids is None
            assert reader.resets[-1] == "checksum"
            restart(one)
    if all(fate == "send" for _, fate in steps) and not truncated:
        assert reader.resets == []


@settings(max_examples=300, deadline=None)
@given(
    _steps,
    st.integers(0, 40),
    st.integers(0, 6),
    st.one_of(st.none(), st.tuples(st.integers(1, 9).map(float), st.integers(0, 3).map(float))),
    st.booleans(),
)
def test_an_audit_finds_what_was_tampered_with_and_nothing_else(
    steps: list[tuple[Side, str]], begin: int, lag: int, tampered: tuple[float, float] | None, numbered: bool
):
    """The answer shows the book as of `lag` messages after the audit began, whatever arrived until then.

    Unnumbered, a level that is touched meanwhile is not compared: it may be mended already.
    """
    happened, arrives = play([(changes, "send") for changes, _ in steps])
    begin = min(begin, len(arrives) - 1)
    sync, reader = BookSync(WHO, streamed=not numbered), Reader()
    if numbered:
        sync.diff(delta({}, 0, 0))
        reader.read(sync.snapshot(RestBook(0, packed(happened[0].truth, reverse=True), b""), 0))
    else:
        reader.read(sync.whole(snapshot(happened[0].truth, 0)))
    assert sync.state is State.SYNCED
    touched: set[float] = set()
    answered = False
    for at, one in enumerate(arrives):
        if at == begin:
            if tampered is not None:
                price, size = tampered
                sync.book.bids[price] = size
                if not size:
                    del sync.book.bids[price]
            wrong = {k for k in range(1, 10) if sync.book.bids.get(k) != happened[one.number - 1].truth.get(k)}
            sync.audit()
        reader.read(sync.diff(delta(one.changes, one.number, one.number, at=at)))
        if at >= begin:
            touched |= set(one.changes)
        if at == min(begin + lag // 2, len(arrives) - 1) and sync.wants_answer:
            seen = happened[min(begin + lag, len(happened) - 1)]
            body = packed(seen.truth, reverse=True)
            reader.read(sync.answer(RestBook(seen.number if numbered else None, body, b""), at))
            answered = True
    reader.read(sync.settle(10 * NS))
    if not answered:
        return
    found = "mismatch" in reader.resets
    if numbered:
        still = {k for k in wrong if k not in {p for one in arrives[begin:] for p in one.changes}}
        assert not (still and not found), "a wrong level that no diff mended was not found"
        assert not found or wrong, "a true book was held to be wrong"
    else:
        assert found == bool(wrong - touched)
    if found:
        assert reader.bids is None
        assert sync.wants_snapshot


def test_a_snapshot_is_compared_no_further_than_it_reaches():
    sync = BookSync(WHO)
    sync.diff(delta({}, 1, 1))
    sync.snapshot(RestBook(1, packed({9.0: 1.0, 8.0: 1.0}, reverse=True), b"", limit=2), 0)
    sync.audit()
    deeper = {9.0: 1.0, 8.0: 1.0, 7.0: 4.0}
    assert sync.answer(RestBook(1, packed(deeper, reverse=True), b"", limit=3), 0) == [], "7 was never known to us"
    sync.audit()
    [reset] = sync.answer(RestBook(1, packed({9.0: 1.0, 8.0: 2.0}, reverse=True), b"", limit=2), 0)
    assert isinstance(reset, Reset)
    assert reset.reason == "mismatch"
    assert "1 levels" in reset.detail


def test_a_market_that_left_its_known_depth_is_taken_anew():
    sync = BookSync(WHO)
    sync.diff(delta({}, 1, 1))
    sync.snapshot(RestBook(1, packed({9.0: 1.0, 8.0: 1.0}, reverse=True), b"", limit=2), 0)
    sync.diff(delta({8.5: 1.0, 9.0: 0.0}, 2, 2))
    sync.audit()
    now = {8.5: 1.0, 8.0: 1.0, 7.0: 4.0}
    [reset] = sync.answer(RestBook(2, packed(now, reverse=True), b"", limit=3), 0)
    assert isinstance(reset, Reset)
    assert (reset.reason, sync.wants_snapshot) == ("stale", True)


def test_an_answer_older_than_the_audit_says_nothing():
    sync = BookSync(WHO)
    sync.diff(delta({}, 5, 5))
    sync.snapshot(RestBook(5, packed({9.0: 1.0}), b""), 0)
    sync.audit()
    assert sync.answer(RestBook(4, packed({9.0: 7.0}), b""), 0) == []
    assert sync.wants_answer
    assert sync.counts["stale_snapshots"] == 1


def test_a_book_sent_unasked_ends_the_one_before_unless_it_repeats_it():
    sync = BookSync(WHO, streamed=True)
    assert not sync.wants_snapshot, "the subscription brings one"
    first = snapshot({5.0: 1.0}, 3)
    assert sync.whole(first) == [first]
    assert sync.whole(first) == []
    reset, other = sync.whole(snapshot({5.0: 2.0}, 9))
    assert isinstance(reset, Reset)
    assert (reset.reason, sync.seq) == ("stale", 9)
    assert isinstance(other, BookSnapshot)


def test_numbers_that_begin_anew_are_a_gap_and_no_end_of_repeats():
    """OKX starts its numbers over at maintenance: `prevSeqId` 10, `seqId` 3."""
    sync = BookSync(WHO, streamed=True)
    sync.whole(snapshot({5.0: 1.0}, 10))
    reset, _ = sync.diff(delta({5.0: 2.0}, 3, 11))
    assert isinstance(reset, Reset)
    assert "anew" in reset.detail
    sync.whole(snapshot({5.0: 2.0}, 3))
    assert len(sync.diff(delta({5.0: 3.0}, 4, 4))) == 1
    assert sync.book.bids == {5.0: 3.0}


def test_a_keepalive_without_change_is_dropped():
    sync = BookSync(WHO, streamed=True)
    sync.whole(snapshot({5.0: 1.0}, 10))
    assert sync.diff(delta({}, 10, 11)) == []
    assert sync.state is State.SYNCED


@pytest.mark.parametrize("seq", [None, 7])
def test_after_a_stale_book_the_numbers_may_be_any(seq: int | None):
    sync = BookSync(WHO, streamed=True)
    sync.whole(snapshot({5.0: 1.0}, 10))
    assert sync.stale(1, "silent").reason == "stale"
    assert [type(event) for event in sync.whole(snapshot({5.0: 1.0}, seq))] == [BookSnapshot]
