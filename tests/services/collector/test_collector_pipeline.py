"""The queue between sockets and log: what it keeps when the log is slow, and that stopping loses nothing."""

from __future__ import annotations

import asyncio
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.pipeline import Pipeline
from collector.stats import Stats
from fluxforge import metrics
from fluxforge.errors import LogError, LogUnavailable, RecordsLost
from fluxforge.events import AnyEvent, BookDelta, BookSnapshot, Heartbeat, Reset, Ticker, Trade
from fluxforge.log import Appender, Log, Output, open_log
from fluxforge.topics import Topics
from on_loop import on_loop
from raw_log import KeyReader, read_all

WHO = {
    "exchange": "x", "symbol": "A/B", "native": "AB", "source": "x", "collector": "c", "connection": "1",
}  # fmt: skip
LEVEL = struct.pack("<2d", 1.0, 1.0)


def trade(number: int) -> Trade:
    return Trade(**WHO, ts=number, capture_ts=number, id=str(number), price=1.0, size=1.0, side=1)


def delta(seq: int, symbol: str = "A/B") -> BookDelta:
    who = WHO | {"symbol": symbol}
    return BookDelta(**who, ts=seq, capture_ts=seq, seq=seq, first_seq=seq, bids=LEVEL, asks=b"")


def book(seq: int, *, refresh: bool = False) -> BookSnapshot:
    return BookSnapshot(**WHO, ts=seq, capture_ts=seq, seq=seq, bids=LEVEL, asks=b"", refresh=refresh)


class SlowLog:
    """A real appender behind a gate: while it is shut the log takes nothing; `refuse` makes it raise once each."""

    def __init__(self, appender: Appender) -> None:
        self._appender = appender
        self.gate = threading.Event()
        self.refuse: list[LogError] = []

    def append(self, output: Output) -> None:
        self.gate.wait(30)
        if self.refuse:
            raise self.refuse.pop(0)
        self._appender.append(output)

    def pending(self) -> int:
        return 0

    def flush(self, timeout: float = 30.0) -> None:
        self._appender.flush(timeout)

    def close(self) -> None:
        self._appender.close()


@pytest.fixture
def raw(tmp_path: Path) -> Iterator[Log]:
    log = open_log(f"sqlite:///{tmp_path / 'raw.db'}")
    log.create(Topics().specs(1, raw_retention_ms=-1))
    yield log
    log.close()


async def drained(pipeline: Pipeline, writing: asyncio.Task[None]) -> None:
    pipeline.close()
    await writing


@on_loop
async def test_what_was_offered_is_in_the_log_after_close(raw: Log):
    pipeline = Pipeline(raw.appender(), "market.raw", stats=Stats())
    writing = asyncio.create_task(pipeline.run())
    events: list[AnyEvent] = [trade(n) for n in range(1, 5001)]
    assert all(pipeline.offer(event) for event in events)
    await drained(pipeline, writing)
    assert read_all(raw)["x|A/B"] == events


@on_loop
async def test_under_load_books_are_shed_behind_one_reset_and_trades_never(raw: Log):
    slow, stats = SlowLog(raw.appender()), Stats()
    pipeline = Pipeline(slow, "market.raw", stats=stats, capacity=100, chunk=10, at_once=0)
    writing = asyncio.create_task(pipeline.run())
    pipeline.offer(book(0))
    taken = [pipeline.offer(delta(seq)) for seq in range(1, 150)]
    assert sum(taken) == 99
    assert pipeline.shedding == {"x|A/B"}
    assert not pipeline.has_room
    assert all(pipeline.offer(trade(number)) for number in range(1, 151))
    assert not pipeline.offer(Ticker(**WHO, ts=1, capture_ts=1))
    assert not pipeline.offer(book(149, refresh=True))
    assert not pipeline.offer(book(149)), "a whole book waits for room"
    assert pipeline.full
    assert not pipeline.offer(Heartbeat(**WHO, ts=1, capture_ts=1))
    waiting = asyncio.create_task(pipeline.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    slow.gate.set()
    await asyncio.wait_for(waiting, 120)
    async with asyncio.timeout(120):
        while not pipeline.has_room:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    assert not pipeline.offer(delta(150)), "a delta without its book is of no use"
    assert pipeline.offer(book(150))
    assert pipeline.offer(delta(151))
    assert pipeline.shedding == set()
    await drained(pipeline, writing)
    events = read_all(raw)["x|A/B"]
    reader = KeyReader().read(events)
    assert reader.resets == {"overflow": 1}
    assert (reader.diffs, reader.books, reader.trades, reader.seq) == (100, 2, 150, 151)
    assert [int(e.id) for e in events if isinstance(e, Trade)] == list(range(1, 151))
    at = next(n for n, e in enumerate(events) if isinstance(e, Reset))
    assert isinstance(events[at - 1], BookDelta)
    assert stats.of(metrics.SHED) == 50 + 5
    [page] = pipeline.ledger.close(2)
    assert (page.resets, page.shed, page.trades) == (1, 50 + 5, 150)


@on_loop
async def test_one_key_sheds_and_another_is_told_too(raw: Log):
    slow = SlowLog(raw.appender())
    pipeline = Pipeline(slow, "market.raw", stats=Stats(), capacity=10, at_once=0)
    writing = asyncio.create_task(pipeline.run())
    for seq in range(1, 12):
        pipeline.offer(delta(seq))
    pipeline.offer(delta(1, "C/D"))
    slow.gate.set()
    await drained(pipeline, writing)
    resets = {key: KeyReader().read(events).resets for key, events in read_all(raw).items()}
    assert resets == {"x|A/B": {"overflow": 1}, "x|C/D": {"overflow": 1}}


@on_loop
async def test_a_log_that_does_not_answer_is_asked_again_and_a_refused_event_is_named(raw: Log, caplog):
    slow = SlowLog(raw.appender())
    slow.refuse = [LogUnavailable("down"), LogUnavailable("still down"), LogError("too large")]
    slow.gate.set()
    pipeline = Pipeline(slow, "market.raw", stats=Stats(), at_once=0)
    writing = asyncio.create_task(pipeline.run())
    for number in (1, 2):
        pipeline.offer(trade(number))
    await drained(pipeline, writing)
    assert pipeline.rejected == 1
    assert [e.id for e in read_all(raw)["x|A/B"] if isinstance(e, Trade)] == ["2"]
    assert [r.levelname for r in caplog.records] == ["WARNING", "WARNING", "ERROR"]
    assert "x|A/B" in caplog.text


@pytest.mark.parametrize("at_once", [0, 5_000], ids=["by the thread", "at once"])
@on_loop
async def test_records_that_the_log_has_lost_end_the_collector(raw: Log, at_once: int):
    """It would go on with a hole that nobody knows of; its next life begins each market anew."""
    slow = SlowLog(raw.appender())
    slow.gate.set()
    pipeline = Pipeline(slow, "market.raw", stats=Stats(), at_once=at_once)
    writing = asyncio.create_task(pipeline.run())
    pipeline.offer(trade(1))
    slow.refuse = [RecordsLost("1 queued record was refused for good")] * 9
    pipeline.offer(trade(2))
    with pytest.raises(RecordsLost):
        await asyncio.wait_for(writing, 10)
    assert pipeline.rejected == 0


def test_stats_reach_prometheus_once():
    stats = Stats()
    labels = ("test-source", "test-exchange", "trade")
    stats.add(metrics.EVENTS, *labels, n=3)
    stats.publish()
    stats.publish()
    stats.add(metrics.EVENTS, *labels)
    stats.publish()
    assert metrics.EVENTS.labels(*labels)._value.get() == 4
    assert stats.by(metrics.EVENTS, 2) == {"trade": 4}
    assert "trade=4" in stats.line(waiting=7)
    assert "queue=7" in stats.line(waiting=7)


@on_loop
async def test_a_log_that_keeps_up_needs_no_thread_and_one_that_refuses_gets_one(raw: Log):
    slow = SlowLog(raw.appender())
    slow.gate.set()
    slow.refuse = [LogUnavailable("busy"), LogUnavailable("busy")]
    pipeline = Pipeline(slow, "market.raw", stats=Stats())
    writing = asyncio.create_task(pipeline.run())
    for number in range(1, 6):
        pipeline.offer(trade(number))
    await drained(pipeline, writing)
    [events] = read_all(raw).values()
    assert [event.id for event in events if isinstance(event, Trade)] == ["1", "2", "3", "4", "5"]
    assert pipeline.rejected == 0
