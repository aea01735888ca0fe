"""Every row on a topic says which configuration made it."""

from __future__ import annotations

from pathlib import Path

from feature_engine.processor import FeatureProcessor
from fluxforge import codec
from fluxforge.kernels.config import FeatureConfig
from fluxforge.log import Output, TopicPartition, open_log
from fluxforge.processor import Runtime
from fluxforge.topics import Topics
from seeded_market import MS, market

TOPICS = Topics("test")


def config_headers(path: Path, config: FeatureConfig) -> set[bytes]:
    """The `config` headers of all feature rows of a short market, b"" where one has none."""
    log = open_log(f"sqlite:///{path}")
    log.create(TOPICS.specs(1, raw_retention_ms=-1))
    appender = log.appender()
    for at, event in market("A/USDT", 1, 20):
        appender.append(
            Output(TOPICS.raw, event.key.encode(), codec.encode(event), codec.headers(event), at // MS, partition=0)
        )
    appender.close()
    runtime = Runtime(log, FeatureProcessor(config, TOPICS), TOPICS.raw, "features", "1")
    raw, features = TopicPartition(TOPICS.raw, 0), TopicPartition(TOPICS.features, 0)
    while log.group_offsets("features", TOPICS.raw).get(0) != log.bounds(raw).next:
        runtime.turn(0.01)
        runtime.commit()
    runtime.close()
    reader = log.reader(features, 0, follow=False)
    records = reader.read(10_000).records
    reader.close()
    log.close()
    assert len(records) > 10
    return {dict(record.headers).get("config", b"") for record in records}


def test_the_hash_of_the_configuration_stands_in_every_row_s_header(tmp_path: Path) -> None:
    one = config_headers(tmp_path / "one.db", FeatureConfig(horizons=(1, 3)))
    other = config_headers(tmp_path / "other.db", FeatureConfig(horizons=(1, 3), max_levels=3))
    assert len(one) == len(other) == 1
    assert one != other
    assert b"" not in one | other
