"""The benchmarks' own road, on a few events: what they measure is run, and nothing of it is lost or made up."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks import __main__ as command
from benchmarks import history, memory, topic, worker
from fluxforge import codec
from fluxforge.log import TopicPartition, open_log
from fluxforge.topics import Topics

KEYS, LAP, PARTITIONS = 3, 40, 2


@pytest.fixture(autouse=True)
def synthetic(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A small market, the same everywhere."""
    monkeypatch.setattr(history, "load", lambda: history.synthetic(updates=60, levels=30))
    topic.template.cache_clear()
    yield
    topic.template.cache_clear()


def test_each_has_a_name() -> None:
    assert command.NAMES == [
        "collector",
        "collector_scale",
        "compact",
        "engine",
        "etl",
        "kernel",
        "latency",
        "replay",
        "scale",
        "sink",
    ]


def test_laps_are_the_same_events_later(tmp_path) -> None:
    log = open_log(f"sqlite:///{tmp_path / 'log.db'}")
    topics = Topics("laps")
    log.create(topics.specs(PARTITIONS, raw_retention_ms=-1))
    assert topic.fill_laps(log, topics, KEYS, range(2), LAP, PARTITIONS, 10) == KEYS * 2 * LAP
    of_key: dict[str, list] = {}
    for partition in range(PARTITIONS):
        for record in log.reader(TopicPartition(topics.raw, partition), 0).read(10_000).records:
            event = codec.decode(record.value)
            of_key.setdefault(event.key, []).append((type(event), event.ts))
    log.close()
    assert len(of_key) == KEYS
    for events in of_key.values():
        first, second = events[:LAP], events[LAP:]
        assert [kind for kind, _ in first] == [kind for kind, _ in second]
        assert len({later - ts for (_, ts), (_, later) in zip(first, second, strict=True)}) == 1
        assert [ts for _, ts in events] == sorted(ts for _, ts in events)


def test_memory_of_a_key_counts_its_levels_and_events() -> None:
    market = history.synthetic(updates=60, levels=30)
    weight = memory.per_key(market)
    assert weight.events == len(market.events) + 1  # all lie within the window, the first book too
    assert weight.levels == len(_book(market, "bids")) + len(_book(market, "asks"))
    assert weight.record > weight.levels * memory.LEVEL_BYTES


def _book(market: history.History, side: str) -> dict[float, float]:
    levels = dict(getattr(market, side))
    for update in market.updates:
        levels.update(getattr(update, side))
    return {price: size for price, size in levels.items() if size}


@pytest.mark.kafka
def test_a_crew_drains_what_is_there(kafka_url: str) -> None:
    bootstrap = kafka_url.removeprefix("kafka://")
    log = open_log(kafka_url)
    topics = Topics("crew")
    log.create(topics.specs(PARTITIONS, raw_retention_ms=-1))
    with worker.crew(bootstrap, topics.prefix, PARTITIONS, 2) as workers:
        worker.order(workers, "hold")
        for lap in range(2):
            count = topic.fill_laps(log, topics, KEYS, range(lap, lap + 1), LAP, PARTITIONS, 10)
            answers = worker.order(workers, "drain")
            assert sum(answer["events"] for answer in answers) == count
            assert all(answer["cpu"] > 0 and answer["ended"] > answer["started"] for answer in answers)
        assert all(member.leave()["commits"] for member in workers)
    ends = log.group_offsets(topics.prefix, topics.raw)
    assert sum(ends.values()) == 2 * KEYS * LAP
    log.close()
