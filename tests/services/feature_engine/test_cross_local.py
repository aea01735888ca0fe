"""The role cross on the embedded log: commits one by one, cut off anywhere."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from cross_market import PARTITIONS, Row
from feature_engine.cross_local import CrossLoop
from fluxforge.errors import Fenced, OffsetOutOfRange
from fluxforge.log import Log, open_log
from fluxforge.log.sqlite.retention import sweep
from fluxforge.service import Stop
from fluxforge.settings import Settings
from fluxforge.topics import Topics, TopicSpec
from read_topic import records
from services.feature_engine.test_cross_role import expected_rows, market, publish, published, settings_of


@pytest.fixture
def settings(tmp_path: Path, topics: Topics) -> Settings:
    url = f"sqlite:///{tmp_path / 'log.db'}"
    return settings_of(url, topics, FLUXFORGE_TOPICS__PARTITIONS=str(PARTITIONS), FLUXFORGE_CROSS__PATIENCE_S="1000")


@pytest.fixture
def log(settings: Settings, topics: Topics) -> Log:
    log = open_log(settings.broker.url)
    log.create(topics.specs(PARTITIONS, raw_retention_ms=-1))
    return log


def drained(loop: CrossLoop) -> None:
    while loop.turn():
        pass


def pieces(parts: list[list[Row]], rng: Random) -> list[list[list[Row]]]:
    """The same rows in stretches of any length, each partition by itself."""
    cuts = [sorted(rng.randrange(len(part)) for _ in range(5)) for part in parts]
    return [
        [part[a:b] for part, a, b in zip(parts, starts, ends, strict=True)]
        for starts, ends in zip(
            zip(*([0, *cut] for cut in cuts), strict=True),
            zip(*([*cut, len(part)] for cut, part in zip(cuts, parts, strict=True)), strict=True),
            strict=True,
        )
    ]


@pytest.mark.parametrize("seed", range(4))
def test_what_was_not_committed_is_made_again_and_nothing_else(
    settings: Settings, log: Log, topics: Topics, seed: int
) -> None:
    rng, parts = Random(seed), market(seed)
    loop = CrossLoop(settings, log)
    for piece in pieces(parts, rng):
        publish(log, topics, piece)
        for _ in range(rng.randrange(3)):
            loop.turn()
        if rng.random() < 0.5:
            loop.commit()
            loop.turn()
        if rng.random() < 0.7:
            loop.close()
            loop = CrossLoop(settings, log)
    drained(loop)
    loop.commit()
    loop.close()
    assert published(log, topics) == expected_rows(parts)


def test_a_commit_of_one_that_was_shut_out_changes_nothing(settings: Settings, log: Log, topics: Topics) -> None:
    parts = market(3)
    first = CrossLoop(settings, log)
    publish(log, topics, parts)
    drained(first)
    second = CrossLoop(settings, log)
    with pytest.raises(Fenced):
        first.commit()
    drained(second)
    second.commit()
    assert published(log, topics) == expected_rows(parts)


def test_a_topic_made_anew_is_read_from_its_start(settings: Settings, log: Log, topics: Topics) -> None:
    parts = market(4)
    for _ in range(2):
        publish(log, topics, parts)
        loop = CrossLoop(settings, log)
        drained(loop)
        loop.commit()
        loop.close()
        assert published(log, topics) == expected_rows(parts)
        log.delete([topics.features, topics.features_cross])
        log.create(topics.specs(PARTITIONS, raw_retention_ms=-1))


def test_rows_that_left_the_log_unread_are_an_error(settings: Settings, log: Log, topics: Topics) -> None:
    log.delete([topics.features])
    log.create([TopicSpec(topics.features, PARTITIONS, retention_bytes=1)])
    publish(log, topics, market(5))
    loop = CrossLoop(settings, log)
    drained(loop)
    loop.commit()
    for _ in range(10):
        publish(log, topics, market(6))
    while sweep(log._store, 0):  # type: ignore[attr-defined]
        pass
    with pytest.raises(OffsetOutOfRange):
        drained(loop)
    loop.close()
    with pytest.raises(OffsetOutOfRange):
        CrossLoop(settings, log)


def test_stopped_it_commits_what_it_read(settings: Settings, log: Log, topics: Topics) -> None:
    stop = Stop()
    loop = CrossLoop(settings, log)
    publish(log, topics, market(7))
    drained(loop)
    assert not records(log, topics.features_cross)
    stop.set()
    loop.run(stop)
    assert published(log, topics) == expected_rows(market(7))
