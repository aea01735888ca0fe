"""Profiles: defaults of another kind of machine, below everything that is given."""

from __future__ import annotations

from pathlib import Path

import pytest

from fluxforge.errors import ConfigError
from fluxforge.settings import PROFILES, Settings, known_keys, load, load_with_origins


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", PROFILES)
def test_every_value_of_a_profile_takes_effect_and_says_where_it_is_from(name: str, tmp_path: Path) -> None:
    loaded = load_with_origins(write(tmp_path, f"profile: {name}\n"), environ={})
    for section, settings in PROFILES[name].items():
        for key, value in settings.items():
            assert f"{section}.{key}" in known_keys()
            assert getattr(getattr(loaded.settings, section), key) == value
            assert loaded.origins[section, key] == f"profile {name}"


def test_what_is_given_anywhere_outranks_it(tmp_path: Path) -> None:
    path = write(tmp_path, "profile: pi\ntopics:\n  raw_retention_mb: 64\n")
    loaded = load_with_origins(
        path, environ={"FLUXFORGE_PROCESSOR__COMMIT_INTERVAL": "2"}, overrides={"collector.read_batch_ms": 0}
    )
    assert loaded.settings.topics.raw_retention_mb == 64
    assert loaded.settings.processor.commit_interval == 2
    assert loaded.settings.collector.read_batch_ms == 0
    assert loaded.settings.topics.raw_retention_hours == 24  # beside one that is given
    assert loaded.origins["topics", "raw_retention_mb"] == f"{path}:3"
    assert loaded.origins["processor", "commit_interval"] == "FLUXFORGE_PROCESSOR__COMMIT_INTERVAL"


def test_the_variable_names_it_to_every_service(tmp_path: Path) -> None:
    path = write(tmp_path, "log_level: INFO\n")
    assert load(path, environ={"FLUXFORGE_PROFILE": "pi"}).processor.commit_interval == 5
    assert load(path, environ={}).processor.commit_interval == Settings().processor.commit_interval


@pytest.mark.parametrize("text", ["profile: pie\n", "profile: [pi]\n"])
def test_one_that_there_is_not_is_told(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, text), environ={})
    assert "config.yaml:1: profile: " in str(caught.value)


def test_on_a_small_machine_every_topic_that_grows_is_bounded_in_bytes(tmp_path: Path) -> None:
    specs = load(write(tmp_path, "profile: pi\n"), environ={}).topic_specs()
    names = Settings().topic_names()
    rare = {names.late, names.dlq}
    grows = [spec for spec in specs if not spec.compact and spec.name not in rare]
    of_rows = {names.features, names.features_cross, names.features_merged, names.bars, names.trades, names.ticker}
    assert {spec.name for spec in grows} == {names.raw, *of_rows}
    assert all(spec.retention_bytes > 0 for spec in grows)
    assert sum(spec.retention_bytes * spec.partitions for spec in grows) == (4 * (512 + 5 * 128) + 128) * 1_000_000
    assert {spec.retention_bytes for spec in Settings().topic_specs()} == {-1}
