"""Applications from our settings, on a real broker."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fluxforge import codec, quix, rows
from fluxforge.clock import MS, NS
from fluxforge.errors import ConfigError, UnknownTopic
from fluxforge.events import Heartbeat, Trade
from fluxforge.log import Output, open_log
from fluxforge.settings import Settings, load
from fluxforge.topics import Topics
from read_topic import records

FIRST = 1_700_000_000 * NS


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """An application takes SIGINT and SIGTERM; they are given back."""
    before = [(number, signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)]
    yield
    for number, handler in before:
        signal.signal(number, handler)


def settings_of(url: str, topics: Topics, **more: str) -> Settings:
    return load(None, environ={"FLUXFORGE_BROKER__URL": url, "FLUXFORGE_BROKER__PREFIX": topics.prefix, **more})


@pytest.mark.kafka
class TestTopics:
    def test_rows_of_features_and_bars_in_event_time(self, kafka_url: str, topics: Topics, tmp_path: Path) -> None:
        settings, log = settings_of(kafka_url, topics), open_log(kafka_url)
        log.create(settings.topic_specs())
        appender = log.appender()
        for i in range(10):
            row = {"exchange": "x", "symbol": "A/B", "timestamp": FIRST + i * NS, "mid_price": i, "other": 1}
            appender.append(Output(topics.features, b"x|A/B", rows.encode(row)))
            appender.append(Output(topics.bars, b"x|A/B", rows.encode(row)))
        appender.close()
        app = quix.application(settings, "test", state=tmp_path)
        seen: list[tuple[Any, ...]] = []
        for topic in (quix.features(app, settings, ["mid_price"]), quix.bars(app, settings)):
            name = topic.name
            app.dataframe(topic).apply(
                lambda row, key, at, _headers, name=name: seen.append((name, row, key, at)), metadata=True
            )
        app.run(timeout=20, count=20, collect=False)
        for name, columns in ((topics.features, {"mid_price"}), (topics.bars, {"mid_price", "other"})):
            found = [each[1:] for each in seen if each[0] == name]
            assert [row["mid_price"] for row, _, _ in found] == list(range(10))
            assert {frozenset(row) for row, _, _ in found} == {frozenset({"exchange", "symbol", "timestamp"} | columns)}
            assert [at for _, _, at in found] == [(FIRST + i * NS) // MS for i in range(10)]
            assert {key for _, key, _ in found} == {"x|A/B"}
        log.close()

    def test_events_as_structs_and_rows_of_ones_own(self, kafka_url: str, topics: Topics, tmp_path: Path) -> None:
        settings, log = settings_of(kafka_url, topics), open_log(kafka_url)
        log.create(settings.topic_specs())
        names = {"exchange": "x", "symbol": "A/B", "native": "AB", "source": "s", "collector": "c", "connection": "n"}
        events = [
            Heartbeat(**names, ts=FIRST, capture_ts=FIRST + 1),
            *(
                Trade(**names, ts=None, capture_ts=FIRST + i * NS, id=str(i), price=2.0, size=i, side=1)
                for i in range(5)
            ),
        ]
        appender = log.appender()
        for event in events:
            appender.append(Output(topics.raw, b"x|A/B", codec.encode(event), codec.headers(event)))
        appender.close()
        app = quix.application(settings, "test", state=tmp_path)
        frame = app.dataframe(quix.raw(app, settings))
        frame = frame[frame.apply(lambda event: isinstance(event, Trade))]
        frame = frame.apply(lambda trade, state: total(trade, state), stateful=True)
        frame.to_topic(quix.output(app, settings, f"{topics.prefix}.mine"))
        app.run(timeout=20, count=5, collect=False)
        found = records(log, f"{topics.prefix}.mine")
        assert [rows.decode(record.value)["total"] for record in found] == [0, 1, 3, 6, 10]
        assert {record.key for record in found} == {b"x|A/B"}
        assert [record.timestamp for record in found] == [(FIRST + i * NS) // MS for i in range(5)]
        assert log.partitions(f"{topics.prefix}.mine") == settings.topics.partitions
        log.close()

    def test_a_topic_that_is_not_there_is_not_made(self, kafka_url: str, topics: Topics, tmp_path: Path) -> None:
        settings = settings_of(kafka_url, topics)
        app = quix.application(settings, "test", state=tmp_path)
        for topic in (quix.features, quix.bars, quix.cross, quix.raw):
            with pytest.raises(UnknownTopic):
                topic(app, settings)


def total(trade: Trade, state: Any) -> dict[str, float]:
    """Traded size so far."""
    state.set("total", state.get("total", 0) + trade.size)
    return {"total": state.get("total")}


class TestSettings:
    def test_they_reach_every_client(self, topics: Topics, tmp_path: Path) -> None:
        properties = (
            "{security.protocol: SASL_SSL, sasl.username: me, sasl.password: hidden, socket.keepalive.enable: true}"
        )
        more = {"FLUXFORGE_BROKER__PROPERTIES": properties, "FLUXFORGE_PROCESSOR__MEMBER": "w1"}
        settings = settings_of("kafka://a:1,b:2", topics, **more)
        config = quix.application(settings, "mine", state=tmp_path).config
        broker = config.broker_address.as_librdkafka_dict()
        assert broker["bootstrap.servers"] == "a:1,b:2"
        assert (broker["sasl.username"], broker["sasl.password"]) == ("me", "hidden")
        assert "hidden" not in repr(config)
        for extra in (config.consumer_extra_config, config.producer_extra_config):
            assert extra["socket.keepalive.enable"] == "true"
        assert config.consumer_group == f"{topics.prefix}.mine"
        assert config.producer_extra_config["transactional.id"] == f"{topics.prefix}.mine.w1"
        assert config.producer_extra_config["partitioner"] == "murmur2_random"
        assert config.consumer_extra_config["isolation.level"] == "read_committed"
        assert config.exactly_once

    def test_the_embedded_log_is_refused(self, topics: Topics, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="needs a Kafka broker"):
            quix.application(settings_of("sqlite:///x.db", topics), "mine", state=tmp_path)
