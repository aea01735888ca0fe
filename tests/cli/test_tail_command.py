"""`fluxforge tail`: rows and records of a topic, chosen and shown."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fluxforge import client, codec, dead_letter
from fluxforge.errors import ConfigError, UnknownTopic
from fluxforge.log import Log, Output, Record, open_log
from fluxforge.settings import Settings, load
from fluxforge_cli.main import app
from live_and_bronze import compute, configure, record
from seeded_market import market


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return configure(tmp_path, f"sqlite:///{tmp_path}/log.db", "market")


@pytest.fixture
def settings(config: Path) -> Settings:
    return load(config, environ={})


@pytest.fixture
def log(settings: Settings, tmp_path: Path) -> Iterator[Log]:
    """Two markets, processed."""
    events = [event for seed, symbol in enumerate(("A/B", "C/D")) for _, event in market(symbol, seed, 40)]
    with closing(open_log(settings.broker.url)) as log:
        record(log, settings, tmp_path / "data", events)
        compute(
            log, settings, lambda group: sum(log.group_offsets(f"market.{group}", "market.raw").values()) == len(events)
        )
        yield log


def run(config: Path, *arguments: str) -> str:
    done = CliRunner().invoke(app, ["tail", "--config", str(config), *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def objects(config: Path, *arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run(config, *arguments, "--json").splitlines()]


@pytest.mark.usefixtures("log")
def test_json_has_every_column_of_the_rows(config: Path, settings: Settings) -> None:
    rows = client.frame("features", kind="arrow", source="topic", settings=settings).to_pylist()
    found = objects(config, "features", "--from", "earliest", "--count", str(len(rows)))
    assert sorted(found, key=str) == sorted(rows, key=str)


@pytest.mark.usefixtures("log")
def test_a_condition_and_a_symbol_choose(config: Path, settings: Settings) -> None:
    rows = client.frame("features", kind="arrow", source="topic", settings=settings).to_pylist()
    wanted = [row for row in rows if row["symbol"] == "C/D" and row["ofi_sum_5s"] is not None and row["ofi_sum_5s"] > 1]
    assert 0 < len(wanted) < len(rows) / 2
    chosen = ("--from", "earliest", "--symbol", "C/D", "--where", "ofi_sum_5s > 1", "--columns", "ofi_sum_5s,mid_*")
    found = objects(config, "features", *chosen, "--count", str(len(wanted)))
    assert [row["ofi_sum_5s"] for row in found] == [row["ofi_sum_5s"] for row in wanted]
    assert set(found[0]) == {"exchange", "symbol", "timestamp", "ofi_sum_5s", "mid_price", "mid_velocity", "mid_accel"}


@pytest.mark.usefixtures("log")
@pytest.mark.parametrize("topic", ["features", "bars", "trades", "ticker", "tape", "raw", "market.features"])
def test_every_topic_shows_as_lines_of_its_columns(config: Path, topic: str) -> None:
    head, *lines = run(config, topic, "--from", "earliest", "--count", "3").splitlines()
    assert head.split()[:3] == ["time", "exchange", "symbol"]
    assert len(head.split()) > 5
    assert len(lines) == 3
    assert all(line.split()[1:3] == ["sim", line.split()[2]] and len(line.split()) >= 6 for line in lines)


def test_records_are_told_as_json(config: Path, log: Log) -> None:
    bad = Record(0, 7, 1, b"x|A/B", b"\xff\xfe", ())
    appender = log.appender()
    appender.append(dead_letter.output("market.dlq", "market.raw", bad, "no event"))
    appender.close()
    (dead,) = objects(config, "dlq", "--from", "earliest", "--count", "1", "--where", "error = 'no event'")
    assert (dead["symbol"], dead["kind"], dead["error"], dead["value"]) == ("A/B", None, "no event", "//4=")
    (book,) = objects(config, "raw", "--from", "earliest", "--count", "1", "--where", "kind = 'BookSnapshot'")
    value = json.loads(book["value"])
    assert value["bids"][0][0] > value["bids"][1][0]
    assert {"exchange", "symbol", "capture_ts"} <= value.keys()


def test_it_follows_what_is_published(config: Path, log: Log) -> None:
    """Nothing of before; the row that comes while it waits."""
    event = next(event for _, event in market("E/F", 5, 5))

    def later() -> None:
        time.sleep(1.0)
        appender = log.appender()
        appender.append(Output("market.raw", event.key.encode(), codec.encode(event), codec.headers(event)))
        appender.close()

    thread = threading.Thread(target=later)
    thread.start()
    try:
        assert [row["symbol"] for row in objects(config, "raw", "--count", "1", "--seconds", "60")] == ["E/F"]
    finally:
        thread.join()


@pytest.mark.usefixtures("log")
def test_it_ends_in_time(config: Path) -> None:
    assert run(config, "features", "--seconds", "0.3") == ""


@pytest.mark.usefixtures("log")
@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        (("features", "--where", "nope > 1"), ConfigError, '"nope" not found'),
        (("features", "--where", "1 >"), ConfigError, "--where: Parser Error"),
        (("features", "--columns", "zz*"), ConfigError, "--columns zz\\*: no such column"),
        (("features", "--from", "noon"), ConfigError, "'noon' is no time"),
        (("nope",), UnknownTopic, "there is no topic nope"),
    ],
)
def test_what_cannot_be_is_told_at_once(
    config: Path, arguments: tuple[str, ...], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        run(config, *arguments, "--seconds", "30")
