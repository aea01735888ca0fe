"""What the pipeline takes and what it sheds, by how many events wait for the log: every bound, from both sides."""

from __future__ import annotations

import asyncio
import struct

import pytest

from collector import pipeline as module
from collector.pipeline import Origin, Pipeline
from collector.stats import Stats
from fluxforge import metrics
from fluxforge.clock import NS
from fluxforge.errors import LogUnavailable
from fluxforge.events import AnyEvent, BookDelta, BookSnapshot, Coverage, Heartbeat, Reset, ResetReason, Ticker, Trade
from fluxforge.log import Output
from on_loop import on_loop

WHO = {
    "exchange": "x", "symbol": "A/B", "native": "AB", "source": "x", "collector": "c", "connection": "1",
}  # fmt: skip
KEY = "x|A/B"
LEVEL = struct.pack("<2d", 1.0, 1.0)
CAPACITY = 10


class Waiting:
    """An appender in which as many records are pending as a test says."""

    def __init__(self) -> None:
        self.waits = 0
        self.taken: list[Output] = []
        self.down = False

    def append(self, output: Output) -> None:
        if self.down:
            raise LogUnavailable("down")
        self.taken.append(output)

    def pending(self) -> int:
        return self.waits

    def flush(self, timeout: float = 30.0) -> None:
        pass

    def close(self) -> None:
        pass


def delta(seq: int = 1) -> BookDelta:
    return BookDelta(**WHO, ts=seq, capture_ts=seq, seq=seq, first_seq=seq, bids=LEVEL, asks=b"")


def book(*, refresh: bool = False) -> BookSnapshot:
    return BookSnapshot(**WHO, ts=1, capture_ts=1, seq=1, bids=LEVEL, asks=b"", refresh=refresh)


TRADE = Trade(**WHO, ts=1, capture_ts=1, id="1", price=1.0, size=1.0, side=1)
TICKER = Ticker(**WHO, ts=1, capture_ts=1)
BEAT = Heartbeat(**WHO, ts=1, capture_ts=1)
RESET = Reset(**WHO, ts=None, capture_ts=1, seq=None, reason=str(ResetReason.GAP), detail="")


@pytest.fixture
def log() -> Waiting:
    return Waiting()


@pytest.fixture
def stats() -> Stats:
    return Stats()


@pytest.fixture
def pipeline(log: Waiting, stats: Stats) -> Pipeline:
    return Pipeline(log, "market.raw", stats=stats, capacity=CAPACITY, wire_topic="market.wire")


@pytest.mark.parametrize(
    ("event", "bound"),
    [
        (delta(), CAPACITY),
        (book(), CAPACITY),
        (book(refresh=True), CAPACITY),
        (TICKER, CAPACITY),
        (BEAT, 2 * CAPACITY),
        (TRADE, None),
        (RESET, None),
    ],
    ids=["delta", "book", "refresh", "ticker", "heartbeat", "trade", "reset"],
)
def test_each_kind_is_shed_from_its_bound_on(log: Waiting, pipeline: Pipeline, event: AnyEvent, bound: int | None):
    for waits in (0, CAPACITY - 1, CAPACITY, 2 * CAPACITY - 1, 2 * CAPACITY, 9 * CAPACITY):
        log.waits = waits
        pipeline.shedding.clear()
        assert pipeline.offer(event) == (bound is None or waits < bound), waits


def test_captured_frames_are_shed_as_tickers_are(log: Waiting, pipeline: Pipeline, stats: Stats):
    origin = Origin("x", "ccxt", "c")
    for waits, shed in ((CAPACITY - 1, 0), (CAPACITY, 1)):
        log.waits = waits
        pipeline.capture(origin, "1", 5, b"frame", "/path?query")
        assert stats.of(metrics.SHED) == shed


def test_a_shed_book_comes_back_whole_once_there_is_room(log: Waiting, pipeline: Pipeline, stats: Stats):
    log.waits = CAPACITY
    assert [pipeline.offer(delta(seq)) for seq in (1, 2, 3)] == [False] * 3
    assert stats.by(metrics.RESETS, 2) == {"overflow": 1}, "said once"
    assert pipeline.shedding == {KEY}
    log.waits = CAPACITY // 2
    assert not pipeline.has_room
    assert not pipeline.offer(book()), "below capacity alone is not room"
    assert not pipeline.offer(delta(4))
    log.waits = CAPACITY // 2 - 1
    assert pipeline.has_room
    assert not pipeline.offer(delta(5)), "of no use without its book"
    assert not pipeline.offer(book(refresh=True)), "nor is a book that only verifies"
    assert pipeline.offer(book())
    assert pipeline.shedding == set()
    assert pipeline.offer(delta(6))
    assert stats.of(metrics.SHED) == 7
    [page] = [each for each in pipeline.ledger.close(NS) if isinstance(each, Coverage)]
    assert (page.shed, page.books, page.resets) == (7, 2, 1)


def test_sockets_wait_from_twice_the_capacity_on(log: Waiting, pipeline: Pipeline):
    for waits, full in ((2 * CAPACITY - 1, False), (2 * CAPACITY, True)):
        log.waits = waits
        assert pipeline.full == full


@on_loop
async def test_nobody_waits_for_room_in_a_pipeline_that_closes(log: Waiting, pipeline: Pipeline):
    log.waits = 9 * CAPACITY
    waiting = asyncio.create_task(pipeline.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    pipeline.close()
    await asyncio.wait_for(waiting, 120)


@on_loop
async def test_frames_have_a_topic_of_their_own(log: Waiting, pipeline: Pipeline):
    pipeline.offer(TRADE)
    pipeline.capture(Origin("x", "ccxt", "c"), "1", 5, b"frame", "/path?query")
    pipeline.close()
    await pipeline.run()
    assert [output.topic for output in log.taken] == ["market.raw", "market.wire"]
    silent = Pipeline(log, "market.raw", stats=Stats())
    silent.capture(Origin("x", "ccxt", "c"), "1", 5, b"frame")
    assert (len(silent), len(log.taken)) == (0, 2)


@on_loop
async def test_what_is_being_written_still_counts_as_waiting(log: Waiting):
    pipeline = Pipeline(log, "market.raw", stats=Stats(), capacity=CAPACITY, chunk=5, at_once=0)
    log.down = True
    for _ in range(8):
        pipeline.offer(TRADE)
    writing = asyncio.create_task(pipeline.run())
    await asyncio.sleep(0.05)
    assert len(pipeline) == 8
    log.down = False
    pipeline.close()
    await writing
    assert len(log.taken) == 8
    assert len(pipeline) == 0


@on_loop
async def test_a_closing_pipeline_gives_a_dead_log_up(log: Waiting, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "CLOSE_S", 0.0)
    pipeline = Pipeline(log, "market.raw", stats=Stats(), at_once=0)
    log.down = True
    pipeline.offer(TRADE)
    pipeline.close()
    with pytest.raises(LogUnavailable):
        await asyncio.wait_for(pipeline.run(), 120)
