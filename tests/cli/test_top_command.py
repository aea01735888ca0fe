"""`fluxforge top`: what waits where, told from the log and the files alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fluxforge import codec
from fluxforge.errors import ConfigError
from fluxforge.events import AnyEvent
from fluxforge.log import Log, Output, open_log
from fluxforge.settings import Settings, load
from fluxforge_cli.main import app
from fluxforge_cli.pipeline.outside import PATIENCE_S, Outside
from hand_clock import HandClock
from live_and_bronze import compute, configure, process, record
from seeded_market import market


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return configure(tmp_path, f"sqlite:///{tmp_path}/log.db", "market", lake={"segment_max_age_s": 5.0})


@pytest.fixture
def settings(config: Path) -> Settings:
    return load(config, environ={})


@pytest.fixture
def log(settings: Settings) -> Iterator[Log]:
    with closing(open_log(settings.broker.url)) as log:
        yield log


def publish(log: Log, events: list[AnyEvent]) -> None:
    appender = log.appender()
    for event in events:
        appender.append(Output("market.raw", event.key.encode(), codec.encode(event), codec.headers(event)))
    appender.close()


def test_each_stage_tells_what_it_has_not_done(settings: Settings, log: Log, tmp_path: Path) -> None:
    """All of it done; then more events, which one stage after the other takes."""
    events = [event for _, event in market("BTC/USDT", 1, 60)]
    early, late = events[:150], events[150:]
    clock, root = HandClock(100.0), tmp_path / "data"
    record(log, settings, root, early)
    process(log, settings, root)
    with Outside(settings, clock) as outside:

        def look(seconds: float) -> dict[str, tuple[str, int | None, float | None]]:
            clock.seconds += seconds
            outside.observe()
            return {line.name: (line.state, line.lag, line.rate) for line in outside.picture().services}

        found = look(2.0)
        assert found.pop("collectors") == ("running", None, 0.0)
        assert set(found.values()) == {("running", 0, 0.0)}
        publish(log, late)
        found = look(2.0)
        assert found["collectors"] == ("running", None, len(late) / 2)
        assert all(found[name] == ("running", len(late), 0.0) for name in ("feature-engine", "bar-builder"))
        assert found["bronze-sink"] == ("running", len(late), 0.0)
        compute(
            log, settings, lambda group: sum(log.group_offsets(f"market.{group}", "market.raw").values()) == len(events)
        )
        found = look(2.0)
        assert found["feature-engine"] == ("running", 0, len(late) / 2)
        picture = outside.picture()
        assert found["lake"][1] == picture.feature_rows + picture.bars + traded(late)
        assert (picture.events, picture.bronze_rows) == (len(late), 0)
        assert [(one.key, one.events, rate) for one, rate in picture.markets] == [("sim|BTC/USDT", len(late), 0.0)]
        assert look(PATIENCE_S)["lake"][0] == "running", "it may wait for the age at which it commits"
        found = look(6.0)
        assert (found["lake"][0], found["bronze-sink"][0]) == ("stalled", "running")
        assert (found["collectors"][0], found["feature-engine"][0]) == ("silent", "running")


def traded(events: list[AnyEvent]) -> int:
    """Rows of trades and tickers."""
    return sum(type(event).__name__ in ("Trade", "Ticker") for event in events)


def test_what_never_ran_is_absent(settings: Settings, log: Log) -> None:
    log.create(settings.topic_specs())
    with Outside(settings, HandClock(100.0)) as outside:
        states = {line.name: line.state for line in outside.picture().services}
    assert states.pop("collectors") == "running"
    assert set(states.values()) == {"absent"}


def test_no_pipeline_is_an_error_with_a_way_out(settings: Settings) -> None:
    with pytest.raises(ConfigError, match="no pipeline at sqlite:") as caught:
        Outside(settings)
    assert "fluxforge up" in caught.value.hint


def test_the_command(config: Path, settings: Settings, log: Log, tmp_path: Path) -> None:
    record(log, settings, tmp_path / "data", [event for _, event in market("BTC/USDT", 1, 5)])
    done = CliRunner().invoke(app, ["top", "--config", str(config), "--json", "--seconds", "1", "--every", "0.4"])
    assert done.exit_code == 0, done.output
    looks = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(looks) >= 2
    assert [one["name"] for one in looks[-1]["services"]] == [
        "collectors", "bronze-sink", "feature-engine", "bar-builder", "lake",
    ]  # fmt: skip
    assert {one["name"]: one["behind"] for one in looks[-1]["services"]}["bronze-sink"] == 0
    plain = CliRunner().invoke(app, ["top", "--config", str(config), "--no-ui", "--seconds", "1"])
    assert plain.exit_code == 0, plain.output
    assert "watching: events=0" in plain.stdout
