"""The benchmarks' own road, on a few events: what they measure is run, and nothing of it is lost or made up."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from benchmarks.pipeline import Usage, usage

from benchmarks import __main__ as command
from benchmarks import dashboard, history, memory, pi, topic, worker
from fluxforge import codec
from fluxforge.log import TopicPartition, open_log
from fluxforge.topics import Topics

KEYS, LAP, PARTITIONS = 3, 40, 2


pytestmark = pytest.mark.usefixtures("synthetic")


def test_each_has_a_name() -> None:
    assert command.NAMES == [
        "client",
        "collector",
        "collector_scale",
        "compact",
        "dashboard",
        "engine",
        "etl",
        "etl_watch",
        "failover",
        "kernel",
        "latency",
        "pi",
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


def test_figures_of_processes_are_per_second_and_add_up() -> None:
    before = {"a": Usage(1.0, 10.0, 5, 50.0, 20.0), "b": Usage(2.0, 0.0, 0, 60.0, 30.0)}
    after = {"a": Usage(2.0, 30.0, 25, 55.0, 25.0), "b": Usage(2.5, 0.0, 10, 60.0, 30.0)}
    rates = pi.rate(before, after, 10.0)
    assert rates["a"] == {"cpu": 10.0, "rss": 55.0, "pss": 25.0, "kb": 2.0, "sleeps": 2.0}
    assert rates["together"] == {"cpu": 15.0, "rss": 115.0, "pss": 55.0, "kb": 2.0, "sleeps": 3.0}
    with pytest.raises(RuntimeError, match="came or went"):
        pi.rate(before, {"a": after["a"]}, 10.0)


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="reads Linux's /proc")
def test_usage_of_a_process_is_what_it_did() -> None:
    before = usage(os.getpid())
    end = time.process_time() + 0.1
    while time.process_time() < end:
        pass
    after = usage(os.getpid())
    assert after.cpu - before.cpu > 0.085  # counted in ticks of 10 ms
    assert 0 < after.shared <= after.resident


@pytest.mark.kafka
@pytest.mark.long
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


def test_rows_reach_their_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashboard, "WARM_S", 0.5)
    monkeypatch.setattr(dashboard, "SIDES", {"alone": 0, "beside stuck": 2})
    found = dashboard.measure(f"sqlite:///{tmp_path}/log.db", tmp_path, 2, 10, seconds=4.0)
    for side in ("alone", "beside stuck"):
        assert found[side].keys() == set(dashboard.KEYS)
        assert found[side]["drawn"] > 0 and found[side]["rows_per_s"] >= 0
        assert 0 < found[side]["book_p50"] <= found[side]["book_p99"] <= found[side]["book_max"]
