"""`fluxforge.health`: what it finds on either log and either store, and what it says to do."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from fluxforge import bronze, codec, health, service
from fluxforge.clock import HOUR, MS, NS
from fluxforge.events import AnyEvent, Coverage, Heartbeat, Reset, Trade
from fluxforge.files import Chain, ChainId
from fluxforge.health import Line
from fluxforge.lake import LakeWriter, lake_tree
from fluxforge.log import Log, Output, Record, TopicPartition
from fluxforge.rows import BARS
from fluxforge.settings import Settings
from fluxforge.topics import Topics
from stored_data import row

NOW = time.time_ns()
WHO: dict[str, Any] = {"exchange": "binance", "symbol": "BTC/USDT", "native": "BTCUSDT", "source": "binance",
                       "collector": "c", "connection": "x"}  # fmt: skip


class At:
    """A clock that stands."""

    def __init__(self, now: int) -> None:
        self._now = now

    def now(self) -> int:
        return self._now

    def monotonic(self) -> float:
        raise NotImplementedError


@pytest.fixture
def settings(log_url: str, topics: Topics, tmp_path: Path) -> Settings:
    return made(log_url, topics, str(tmp_path / "data"))


def made(log_url: str, topics: Topics, root: str, **limits: float) -> Settings:
    place = Settings().storage.input.elsewhere(root)
    return Settings.model_validate(
        {
            "broker": {"url": log_url, "prefix": topics.prefix},
            "topics": {"partitions": 2},
            "binance": {"symbols": ["BTC/USDT"]},
            "storage": {"input": place, "output": place},
            "health": {"min_disk_free_percent": 0, **limits},
        }
    )


def look(settings: Settings, later: float = 0.0) -> dict[str, Line]:
    """By name; `later` s from now."""
    return {line.name: line for line in health.look(settings, At(NOW + int(later * NS)))}


def trade(at: int, **more: Any) -> Trade:
    return Trade(**{**WHO, **more}, ts=at, capture_ts=at, id="1", price=1.0, size=1.0, side=1)


def put(log: Log, topic: str, *events: AnyEvent) -> None:
    appender = log.appender()
    for event in events:
        key, value = event.key.encode(), codec.encode(event)
        appender.append(Output(topic, key, value, codec.headers(event), event.capture_ts // MS, partition=0))
    appender.close()


def store_bronze(settings: Settings, chain: ChainId, events: Sequence[AnyEvent]) -> None:
    with Chain.open(bronze.tree(settings.storage.input), chain, first=0) as opened:
        writer = bronze.BronzeWriter(opened)
        start = opened.next_offset
        for n, event in enumerate(events, start):
            found = Record(0, n, event.capture_ts // MS, event.key.encode(), codec.encode(event), codec.headers(event))
            writer.append([found])
        writer.commit(start + len(events))


class TestLog:
    def test_a_log_that_is_not_there_is_not_made(self, topics: Topics, tmp_path: Path) -> None:
        file = tmp_path / "no" / "log.db"
        found = look(made(f"sqlite:///{file}", topics, str(tmp_path)))
        assert (found["log"].ok, found["log"].told.split(" ")[0]) == (False, str(file))
        assert found["disk " + str(tmp_path)].ok
        assert not file.parent.exists()

    def test_a_broker_that_does_not_answer_is_a_line(self, topics: Topics, tmp_path: Path) -> None:
        found = look(made("kafka://127.0.0.1:9", topics, str(tmp_path)))
        assert not found["log"].ok and "127.0.0.1:9" in found["log"].told
        assert found["bronze gaps"].ok

    def test_topics_that_are_missing_are_named(self, settings: Settings, log: Log) -> None:
        log.create(settings.topic_specs()[:3])
        found = look(settings)
        assert settings.topic_names().late in found["log"].told and not found["log"].ok
        assert "topics apply" in found["log"].advice
        assert "features" not in found, "of a log without its topics nothing else can be said"

    def test_other_partitions_are_told(self, settings: Settings, log: Log, topics: Topics) -> None:
        log.create(topics.specs(3))
        assert "not 2 partitions" in look(settings)["log"].told


class TestFlow:
    @pytest.fixture
    def names(self, settings: Settings, log: Log) -> Topics:
        log.create(settings.topic_specs())
        return settings.topic_names()

    def test_an_empty_pipeline_lacks_its_exchange_and_nothing_else(self, settings: Settings, names: Topics) -> None:
        assert {name for name, line in look(settings).items() if not line.ok} == {"collector binance"}

    def test_what_is_fresh_is_well_and_what_is_old_is_not(self, settings: Settings, log: Log, names: Topics) -> None:
        put(log, names.raw, trade(NOW - NS))
        found = look(settings)
        assert found["collector binance"] == Line("collector binance", True, "newest event 1.0 s ago")
        assert found["lag of features"].ok
        assert "1 records behind, the oldest 1.0 s old; it has never committed" in found["lag of features"].told
        assert not found["features"].ok, "events come in, rows do not"
        found = look(settings, later=120)
        assert {"collector binance", "lag of features", "lag of bars"} <= {
            n for n, line in found.items() if not line.ok
        }
        assert all(line.advice for line in found.values() if not line.ok)
        assert found["features"].ok, "nothing comes in, so none are missing"

    def test_heartbeats_are_signs_of_life_and_resets_are_not(self, settings: Settings, log: Log, names: Topics) -> None:
        put(log, names.raw, Reset(**WHO, ts=None, capture_ts=NOW, reason="reconnect"))
        assert not look(settings)["collector binance"].ok
        put(log, names.raw, Heartbeat(**WHO, ts=NOW, capture_ts=NOW))
        assert look(settings)["collector binance"].ok

    def test_an_exchange_is_found_behind_the_events_of_a_busy_one(
        self, settings: Settings, log: Log, names: Topics
    ) -> None:
        put(log, names.raw, trade(NOW - 9 * NS), *(trade(NOW, exchange="other") for _ in range(700)))
        assert look(settings)["collector binance"].told == "newest event 9.0 s ago"

    def test_rows_and_letters_of_the_last_hour_are_counted(self, settings: Settings, log: Log, names: Topics) -> None:
        put(log, names.raw, trade(NOW))
        for topic in (names.features, names.bars, names.late):
            put(log, topic, trade(NOW - 2 * HOUR), trade(NOW), trade(NOW))
        put(log, names.dlq, *(trade(NOW) for _ in range(101)))
        found = look(settings)
        assert found["features"].told == "newest 0.0 s ago, 2 records in the last hour"
        assert found["bars"].ok
        assert found["late events"] == Line("late events", True, "2 in the last hour", found["late events"].advice)
        assert not found["dead letters"].ok and names.dlq in found["dead letters"].advice

    def test_rows_across_markets_are_told_of_where_there_are_any(
        self, settings: Settings, log: Log, names: Topics
    ) -> None:
        put(log, names.raw, trade(NOW))
        assert not {"cross", "lake cross"} & look(settings).keys()
        put(log, names.features_cross, trade(NOW - 2 * HOUR), trade(NOW - 85 * NS))
        found = look(settings)
        assert found["cross"] == Line(
            "cross", True, "newest 85.0 s ago, 1 records in the last hour", found["cross"].advice
        )
        assert not found["lake cross"].ok
        put(log, names.raw, trade(NOW + 10 * NS))
        found = look(settings, later=10)
        assert not found["cross"].ok and "role cross" in found["cross"].advice
        assert look(settings, later=200)["cross"].ok, "nothing comes in, so none are missing"
        off = settings.model_copy(update={"cross": settings.cross.model_copy(update={"enabled": False})})
        assert "lake cross" not in look(off)

    def test_lag_is_of_what_the_group_has_not_committed(self, settings: Settings, log: Log, names: Topics) -> None:
        put(log, names.raw, trade(NOW - 300 * NS), trade(NOW - 200 * NS), trade(NOW))
        assert not look(settings)["lag of bars"].ok
        done = TopicPartition(names.raw, 0)

        class Listener:
            def assigned(self, tps: Sequence[TopicPartition]) -> None:
                for tp in tps:
                    consumer.seek(tp, 2 if tp == done else 0)

            def revoked(self, tps: Sequence[TopicPartition]) -> None: ...

            lost = revoked

        consumer = log.consumer(f"{names.prefix}.bars", [names.raw], "1", Listener(), static=False)
        deadline = time.monotonic() + 60
        while done not in consumer.assignment():
            consumer.poll(1, 0.1)
            assert time.monotonic() < deadline
        consumer.commit({done: 2})
        consumer.close()
        assert look(settings)["lag of bars"].told == "1 records behind, the oldest 0.0 s old"


class TestStored:
    @pytest.fixture
    def settings(self, root: str, topics: Topics, tmp_path: Path) -> Settings:
        return made(f"sqlite:///{tmp_path / 'log.db'}", topics, root)

    @pytest.fixture
    def raw(self, settings: Settings) -> ChainId:
        log = service.open_log(settings)
        log.create(settings.topic_specs())
        chain = ChainId(log.topic_id(settings.topic_names().raw), settings.topic_names().raw, 0)
        log.close()
        return chain

    def put(self, settings: Settings, topic: str, *events: AnyEvent) -> None:
        log = service.open_log(settings)
        put(log, topic, *events)
        log.close()

    def limited(self, settings: Settings, **limits: float) -> Settings:
        return settings.model_copy(update={"health": settings.health.model_copy(update=limits)})

    def test_what_waits_for_bronze_too_long_is_told(self, settings: Settings, raw: ChainId) -> None:
        events = [trade(NOW - 1000 * NS), trade(NOW - 10 * NS)]
        self.put(settings, raw.topic, *events)
        assert look(settings)["bronze"].ok, "a segment may be 900 s old, and 120 s more pass"
        assert look(settings)["bronze"].told == "the oldest record that is in no file is 17 min old"
        assert not look(settings, later=30)["bronze"].ok
        store_bronze(settings, raw, events[:1])
        assert look(settings, later=30)["bronze"].told == "the oldest record that is in no file is 40.0 s old"
        store_bronze(settings, raw, events[1:])
        assert look(settings)["bronze"].told == "all is stored"

    def test_what_waits_for_the_lake_too_long_is_told(self, settings: Settings, raw: ChainId) -> None:
        topic = settings.topic_names().bars
        self.put(settings, topic, trade(NOW - 150 * NS), trade(NOW - 50 * NS))
        assert look(settings)["lake bars"].ok
        assert not look(settings, later=40)["lake bars"].ok
        log = service.open_log(settings)
        chain = ChainId(log.topic_id(topic), topic, 0)
        log.close()
        with LakeWriter.open(lake_tree(settings.storage.output), BARS, chain, first=0, config_hash="c") as writer:
            writer.add([row(BARS, NOW - NS, n, "BTC/USDT", duration=60) for n in range(3)])
            writer.commit(2)
        found = look(settings, later=40)
        assert found["lake bars"].ok and found["lake rows"].told == "of the last hour: bars 3"
        assert look(settings, later=7200)["lake rows"].told == "of the last hour: none"

    def test_a_recorded_gap_is_told_for_a_day(self, settings: Settings, raw: ChainId) -> None:
        store_bronze(settings, raw, [trade(NOW - HOUR)])
        tree = bronze.tree(settings.storage.input)
        assert look(settings)["bronze gaps"].ok
        with Chain.open(tree, raw, first=8, on_gap="record"):
            pass
        store_bronze(settings, raw, [trade(NOW)])
        found = look(settings)["bronze gaps"]
        assert (found.ok, found.told) == (False, "7 records lost to Bronze in the last 24 h")
        assert look(settings, later=3 * 86_400)["bronze gaps"].ok

    def test_the_darkest_market_of_the_day_is_told(self, settings: Settings, raw: ChainId) -> None:
        def page(symbol: str, until: int, dark: float, **more: int) -> Coverage:
            who = {**WHO, "symbol": symbol}
            since = until - HOUR
            return Coverage(**who, ts=None, capture_ts=until, since=since, until=until, dark=int(dark * NS), **more)

        end = NOW // HOUR * HOUR
        store_bronze(settings, raw, [page("OLD/USDT", end - 48 * HOUR, 3000)])
        assert "nothing is told" in look(settings)["coverage"].told
        store_bronze(settings, raw, [page("BTC/USDT", end, 36, gaps=2), page("ETH/USDT", end, 90, holes=1)])
        found = look(settings)["coverage"]
        assert found.told.startswith(
            "24 h: 2 gaps, 0 resyncs, 0 duplicates, 0 shed, 1 holes; binance ETH/USDT was dark 2.50 %"
        )
        assert found.ok
        assert not look(self.limited(settings, max_dark_percent=2))["coverage"].ok

    def test_batches_that_nobody_compacts_are_told(self, settings: Settings, raw: ChainId) -> None:
        for n in range(3):
            store_bronze(settings, raw, [trade(NOW + n)])
        assert look(settings)["bronze backlog"].told == "3 batches not compacted, at most 3 of a partition"
        found = look(self.limited(settings, max_backlog=2))
        assert not found["bronze backlog"].ok and "compact" in found["bronze backlog"].advice
        assert found["lake backlog"].ok


def test_a_full_disk_is_told(topics: Topics, tmp_path: Path) -> None:
    log = tmp_path / "log.db"
    found = look(made(f"sqlite:///{log}", topics, str(tmp_path / "no" / "such"), min_disk_free_percent=100))
    (line,) = [line for name, line in found.items() if name.startswith("disk")]
    assert not line.ok and "retain" in line.advice
