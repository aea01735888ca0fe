"""Live rows over what happens to a log: a broker killed, a file that fails, records that retention takes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest

from feature_rows import PARTITIONS, feature_row, make_topics, output, publish, settings_of, symbols_of_both_partitions
from fluxforge.client import FeatureStream
from fluxforge.client.live import Live
from fluxforge.client.piece import Form
from fluxforge.client.records import reading
from fluxforge.client.row import FeatureRow
from fluxforge.client.tables import Wanted, schema_of
from fluxforge.errors import LogUnavailable, OffsetOutOfRange, UnknownTopic
from fluxforge.log import Batch, Log, TopicPartition, open_log
from fluxforge.log.sqlite import SqliteLog
from fluxforge.topics import Topics, TopicSpec
from hand_clock import HandClock
from kafka_broker import ApacheKafka, Broker

SYMBOLS = symbols_of_both_partitions()


@pytest.fixture
def mortal(kafka_broker: Broker) -> Iterator[ApacheKafka]:
    """A broker of the test's own, to be killed."""
    if not isinstance(kafka_broker, ApacheKafka):
        pytest.skip("A BROKER'S DEATH NOT TESTED: needs the bundled Apache Kafka")
    broker = ApacheKafka()
    yield broker
    broker.stop()


@pytest.mark.kafka
@pytest.mark.parametrize("form", ["rows", "batches"])
def test_a_broker_killed_and_started_again_costs_no_row_and_repeats_none(
    mortal: ApacheKafka, topics: Topics, form: str
) -> None:
    """Rows in transactions, some of them aborted, before, while and after it is away."""
    log = open_log(f"kafka://{mortal.bootstrap}")
    make_topics(log, topics)
    rows_each, laps = 50, 12
    published: list[int] = []

    def write() -> None:
        for lap in range(laps):
            if lap == laps // 2:
                dead.wait()
            first = lap * rows_each
            while True:
                try:
                    writer = log.transactor(f"{topics.prefix}.w")
                    for aborted in (True, False):
                        for n in range(first, first + rows_each):
                            offset = -1 if aborted else n
                            writer.append(output(topics, feature_row(n, SYMBOLS[n % 2], source_offset=offset)))
                        writer.abort() if aborted else writer.commit()
                    writer.close()
                    break
                except LogUnavailable:
                    if first + rows_each - 1 in seen_by_another():  # the commit's answer was lost
                        break
            published.extend(range(first, first + rows_each))

    def seen_by_another() -> set[int]:
        with FeatureStream(source="topic", **options) as rows:
            return {row.source_offset for row in rows}

    options: dict[str, Any] = {"url": log.url, "settings": settings_of(topics)}
    dead = threading.Event()
    thread = threading.Thread(target=write)

    async def read() -> list[int]:
        found: list[int] = []
        async with FeatureStream(start="earliest", **options) as stream:
            thread.start()
            killed = False
            while len(found) < laps * rows_each:
                if form == "rows":
                    found.append((await anext(stream)).source_offset)
                else:
                    found += (await anext(stream.batches("arrow")))["source_offset"].to_pylist()
                if not killed and len(found) > 4 * rows_each:
                    killed = True
                    await asyncio.to_thread(mortal.kill)
                    dead.set()
                    await asyncio.to_thread(mortal.start)
            await asyncio.to_thread(thread.join)
            lag = await asyncio.to_thread(stream.lag)
            assert lag.rows <= 2 * PARTITIONS, "at most the marks of transactions"
        return found

    found = asyncio.run(read())
    assert sorted(found) == list(range(laps * rows_each)) == sorted(published)
    for k in range(2):
        own = [n for n in found if n % 2 == k]
        assert own == sorted(own)
    log.close()


class Failing:
    """A log whose readers, and whose opening, fail now and then."""

    def __init__(self, log: Log, rng: Random) -> None:
        self._log, self._rng = log, rng
        self.failures = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def _fail(self, odds: float) -> None:
        if self._rng.random() < odds:
            self.failures += 1
            raise LogUnavailable("it is away")

    def opened(self) -> Any:
        if self.failures:
            self._fail(0.5)
        return self

    def reader(self, tp: TopicPartition, offset: int, *, follow: bool = True) -> Any:
        outer, real = self, self._log.reader(tp, offset, follow=follow)

        class Reader:
            close = real.close
            seek = real.seek

            def read(self, max_records: int = 1000, timeout: float = 0.0) -> Batch:
                outer._fail(0.2)
                return real.read(7, timeout)

        return Reader()

    def close(self) -> None:
        """The log below is the test's."""


def live(opened: Any, topics: Topics, clock: HandClock) -> Live:
    settings = settings_of(topics)
    form = Form(schema_of(settings, "features"), FeatureRow, None)
    wanted = Wanted.of(None, None)
    return Live(opened, topics.features, reading("features", form), wanted, "earliest", clock)


@pytest.mark.parametrize("seed", range(5))
def test_a_log_that_fails_again_and_again(tmp_path: Path, topics: Topics, seed: int, caplog: Any) -> None:
    log, clock = open_log(f"sqlite:///{tmp_path / 'log.db'}"), HandClock()
    make_topics(log, topics)
    publish(log, topics, [feature_row(n, SYMBOLS[n % 2]) for n in range(300)])
    failing = Failing(log, Random(seed))
    source, found = live(failing.opened, topics, clock), []
    while len(found) < 300:
        found += [row.source_offset for row in source.next().rows()]
        clock.seconds += 0.3
    assert failing.failures > 5
    for k in range(2):
        assert [n for n in found if n % 2 == k] == list(range(k, 300, 2))
    assert caplog.text.count("trying again") < failing.failures, "told once for each time that it was away"
    source.close()
    log.close()


def test_waits_grow_while_it_is_away_and_lag_is_not_known(tmp_path: Path, topics: Topics) -> None:
    log, clock = open_log(f"sqlite:///{tmp_path / 'log.db'}"), HandClock()
    make_topics(log, topics)
    calls: list[float] = []

    def opened() -> Any:
        calls.append(clock.seconds)
        if len(calls) > 1:
            raise LogUnavailable("it is away")
        return Failing(log, Always())

    source = live(opened, topics, clock)
    for _ in range(60_000):
        assert len(source.next()) == 0
        clock.seconds += 0.01
    with pytest.raises(LogUnavailable, match="away"):
        source.lag(0)
    waits = [later - at for at, later in pairwise(calls[1:])]
    assert 600 / 5 < len(calls) < 600 / 2.5 + 10
    assert waits[0] < 1 and all(2.4 <= wait <= 5.1 for wait in waits[6:])
    log.close()


class Always(Random):
    """Every draw fails."""

    def random(self) -> float:
        return 0.0


def test_a_topic_made_anew_is_not_read_on(tmp_path: Path, topics: Topics) -> None:
    log, clock = open_log(f"sqlite:///{tmp_path / 'log.db'}"), HandClock()
    make_topics(log, topics)
    publish(log, topics, [feature_row(n, SYMBOLS[0]) for n in range(3)])
    failing = Failing(log, Random(1))
    source = live(failing.opened, topics, clock)
    while not failing.failures:
        source.next()
    log.delete([topics.features])
    make_topics(log, topics)
    with pytest.raises(UnknownTopic, match="made anew"):
        for _ in range(100):
            clock.seconds += 1
            source.next()
    log.close()


def test_who_is_overtaken_by_retention_is_told_of_the_hole_and_reads_on_behind_it(
    tmp_path: Path, topics: Topics
) -> None:
    clock = HandClock()
    log = SqliteLog(tmp_path / "log.db", clock=clock)
    log.create([TopicSpec(topics.features, PARTITIONS, retention_ms=3_600_000)])
    with FeatureStream(start="earliest", url=log.url, settings=settings_of(topics)) as rows:
        publish_now(log, topics, [feature_row(n, SYMBOLS[n % 2]) for n in range(4)])
        assert {next(rows).source_offset for _ in range(4)} == {0, 1, 2, 3}
        for n in range(4, 400):  # a minute each
            publish_now(log, topics, [feature_row(n, SYMBOLS[0])])
            clock.seconds += 60
        publish_now(log, topics, [feature_row(400, SYMBOLS[1])])
        found: list[int] = []
        with pytest.raises(OffsetOutOfRange) as caught:
            while True:
                found.append(next(rows).source_offset)
        assert caught.value.first > 100
        while 399 not in found or 400 not in found:
            found.append(next(rows).source_offset)
        first = 400 - (caught.value.next - caught.value.first)
        assert sorted(found) == list(range(first, 401))
    log.close()


def publish_now(log: Log, topics: Topics, found: list[dict[str, Any]]) -> None:
    appender = log.appender()
    for row in found:
        appender.append(output(topics, row)._replace(timestamp=None))
    appender.close()
