"""The log as a source, on each backend: read back, followed, and found again after it was gone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fluxforge.clock import MS, NS
from fluxforge.log import Log, Output, open_log
from fluxforge.settings import Settings, load
from fluxforge.topics import Topics
from fluxforge_cli.dashboard.tail import Tail
from made_market import bar_row, feature_row, publish, publish_past

NAME = "binance|BTC/USDT"


@pytest.fixture
def settings(log_url: str, topics: Topics, tmp_path: Path) -> Settings:
    given = {"broker.url": log_url, "broker.prefix": topics.prefix, "storage.output.path": str(tmp_path)}
    return load(None, environ={}, overrides=given)


@pytest.fixture
def tail(settings: Settings) -> Iterator[Tail]:
    tail = Tail(settings, settings.dashboard.history_s)
    yield tail
    tail.stop()


def until(holds: Callable[[], object], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)


def test_the_past_is_read_and_the_log_followed(log: Log, settings: Settings, topics: Topics, tail: Tail) -> None:
    log.create(settings.topic_specs())
    now = time.time_ns()
    publish_past(log, topics, ["BTC/USDT", "ETH/USDT"], now, seconds=130)
    tail.start()
    until(lambda: tail.trouble() is None)
    with tail.board.lock:
        assert sorted(tail.board.markets) == [NAME, "binance|ETH/USDT"]
        rows = tail.board.markets[NAME].rows()
        assert len(rows.times) == 131
        expected = feature_row("BTC/USDT", int(rows.times[-1]))
        values = dict(zip(tail.board.markets[NAME].columns, rows.values[-1].tolist(), strict=True))
        assert values["ofi_sum_5s"] == expected["ofi_sum_5s"] and values["bid_size_L3"] == expected["bid_size_L3"]
    minute = tail.candles(NAME, 120, 10)
    assert [bar.time % 120 for bar in minute] == [0] * len(minute) and minute
    publish(log, topics.features, [feature_row("BTC/USDT", now + 5 * NS)])
    publish(log, topics.bars, [bar_row("BTC/USDT", now // NS + 4, 1)])
    until(lambda: tail.board.markets[NAME].time == now + 5 * NS)
    until(lambda: tail.candles(NAME, 1, 1)[-1].time == now // NS + 4)
    until(lambda: any(rate.records for rate in tail.rates()))


def test_a_record_that_is_no_row_is_passed_over(log: Log, settings: Settings, topics: Topics, tail: Tail) -> None:
    log.create(settings.topic_specs())
    now = time.time_ns()
    appender = log.appender()
    for value in (b"", b"{", b"[1]", b'{"timestamp": "soon", "capture_ts": 1}', b"\xff\xfe"):
        appender.append(Output(topics.features, b"binance|BTC/USDT", value, (), now // MS))
        appender.append(Output(topics.bars, b"binance|BTC/USDT", value, (), now // MS))
    appender.append(Output(topics.features, b"\xff\xfe|X", b"{}", (), now // MS))
    appender.flush()
    appender.close()
    publish(log, topics.features, [feature_row("BTC/USDT", now)])
    tail.start()
    until(lambda: NAME in tail.board.markets and tail.board.markets[NAME].rows_seen == 1)
    until(lambda: tail.trouble() is None)


def test_a_topic_that_is_missing_is_told_and_found_when_it_comes(
    log: Log, settings: Settings, topics: Topics, tail: Tail
) -> None:
    tail.start()
    until(lambda: (trouble := tail.trouble()) and topics.raw in trouble.told)
    trouble = tail.trouble()
    assert trouble is not None and "fluxforge up" in trouble.advice
    log.create(settings.topic_specs())
    until(lambda: tail.trouble() is None)


def test_a_log_file_that_comes_late_and_goes_away(tmp_path: Path) -> None:
    file = tmp_path / "log.db"
    settings = load(
        None, environ={}, overrides={"broker.url": f"sqlite:///{file}", "storage.output.path": str(tmp_path)}
    )
    tail = Tail(settings, 900)
    tail.start()
    try:
        until(lambda: (trouble := tail.trouble()) and "is not there" in trouble.told)
        assert not file.exists(), "a page that looks must not make a log"
        first = tail.trouble()
        log = open_log(settings.broker.url)
        log.create(settings.topic_specs())
        publish(log, settings.topic_names().features, [feature_row("BTC/USDT", time.time_ns())])
        until(lambda: NAME in tail.board.markets)
        until(lambda: tail.trouble() is None)
        assert first is not None and first.since <= time.time_ns()
        log.close()
    finally:
        tail.stop()
