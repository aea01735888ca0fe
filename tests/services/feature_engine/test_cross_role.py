"""The role cross as a process on a real broker: killed at any moment, it loses and repeats nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pyarrow as pa
import pytest

from cross_market import PARTITIONS, START, Row, row_of, streams
from feature_engine import cross
from feature_engine.cross_step import Step
from fluxforge import rows
from fluxforge.clock import NS
from fluxforge.cross.config import CrossConfig
from fluxforge.cross.history import History
from fluxforge.errors import ConfigError, OffsetOutOfRange
from fluxforge.log import Log, Output, TopicPartition, open_log
from fluxforge.service import Stop
from fluxforge.settings import Settings, load
from fluxforge.topics import Topics
from read_topic import records, wait_for

SECONDS = 120
KILLS = int(os.environ.get("CROSS_KILLS", "2"))


@contextmanager
def running(
    url: str, topics: Topics, state: Path, folder: Path, port: str = "off", **more: str
) -> Iterator[subprocess.Popen[bytes]]:
    environ = {
        **os.environ,
        "FLUXFORGE_BROKER__URL": url,
        "FLUXFORGE_BROKER__PREFIX": topics.prefix,
        "FLUXFORGE_CROSS__STATE": str(state),
        "FLUXFORGE_TOPICS__PARTITIONS": str(PARTITIONS),
        **more,
    }
    command = [sys.executable, "-m", "feature_engine", "--role", "cross", "--metrics-port", port]
    with (folder / "cross.log").open("ab") as out:
        process = subprocess.Popen(command, cwd=folder, env=environ, stdout=out, stderr=out)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def market(seed: int) -> list[list[Row]]:
    """Streams that all end in the same second, so that no partition waits for another in the end."""
    parts = streams(seed, SECONDS)
    rng = Random(seed)
    for partition, exchange in enumerate(("binance", "coinbase", "kraken")):
        last = row_of(exchange, "END/USD", partition, START + (SECONDS + 2) * NS, 1.0, rng)
        parts[partition].append({**last, "source_offset": len(parts[partition])})
    return parts


def publish(log: Log, topics: Topics, parts: Sequence[Sequence[Row]]) -> None:
    """A partition after the other: what its reader finds is far from the order of time."""
    appender = log.appender()
    for partition, part in enumerate(parts):
        for row in part:
            key = f"{row['exchange']}|{row['symbol']}".encode()
            appender.append(Output(topics.features, key, rows.encode(row), partition=partition))
    appender.close()


def expected_rows(parts: Sequence[Sequence[Row]]) -> list[Row]:
    history = History(CrossConfig(), PARTITIONS)
    return list(history.rows(pa.Table.from_pylist([row for part in parts for row in part])))


def published(log: Log, topics: Topics) -> list[Row]:
    """In the order of time and symbol; that of their topic is right too, or this fails."""
    found, latest = [], {}
    for record in records(log, topics.features_cross):
        row = rows.decode(record.value)
        assert record.key == row["symbol"].partition("/")[0].encode()
        assert row["timestamp"] > latest.get(row["symbol"], 0), "twice, or out of order"
        latest[row["symbol"]] = row["timestamp"]
        found.append(row)
    return sorted(found, key=lambda row: (row["timestamp"], row["symbol"]))


@pytest.mark.slow
@pytest.mark.parametrize("state", ["lost", pytest.param("kept", marks=pytest.mark.long)])
def test_killed_again_and_again_it_publishes_each_row_once(
    log: Log, topics: Topics, tmp_path: Path, state: str
) -> None:
    rng, parts = Random(state), market(7)
    expected = expected_rows(parts)
    log.create(topics.specs(PARTITIONS, raw_retention_ms=-1))
    done = 0
    for kill in range(KILLS):
        share = (kill + 1) / (KILLS + 1)
        publish(log, topics, [part[int(len(part) * done) : int(len(part) * share)] for part in parts])
        done, ends = share, progress(log, topics)
        folder = tmp_path / (state if state == "kept" else f"{state}-{kill}")
        with running(log.url, topics, folder, tmp_path) as process:
            deadline = time.monotonic() + 60
            while progress(log, topics) == ends and time.monotonic() < deadline:
                assert process.poll() is None, (tmp_path / "cross.log").read_text()
                time.sleep(0.02)
            time.sleep(rng.uniform(0, 0.6))
    publish(log, topics, [part[int(len(part) * done) :] for part in parts])
    with running(log.url, topics, tmp_path / state, tmp_path):
        wait_for(log, topics.features_cross, len(expected))
    if log.url.startswith("kafka:"):
        assert len(records(log, topics.features_merged)) == sum(map(len, parts))
    assert published(log, topics) == expected


def progress(log: Log, topics: Topics) -> list[int]:
    """It grows with each commit of the role."""
    made = [topics.features_merged, topics.features_cross]
    return [log.bounds(TopicPartition(name, p)).next for name in made for p in range(log.partitions(name))]


@pytest.mark.kafka
@pytest.mark.slow
def test_members_that_come_and_go_share_the_work(kafka_url: str, topics: Topics, tmp_path: Path) -> None:
    rng, parts = Random(2), market(21)
    expected = expected_rows(parts)
    log = open_log(kafka_url)
    log.create(topics.specs(PARTITIONS, raw_retention_ms=-1))
    # Until a dead member's session is over nobody reads its partitions, and the others must wait for them.
    patient = {"FLUXFORGE_CROSS__PATIENCE_S": "1000"}
    done = 0.0
    with running(kafka_url, topics, tmp_path / "a", tmp_path, FLUXFORGE_PROCESSOR__MEMBER="a", **patient):
        for turn in range(3):
            share = (turn + 1) / 4
            publish(log, topics, [part[int(len(part) * done) : int(len(part) * share)] for part in parts])
            done, state = share, tmp_path / f"b-{turn}"
            with running(kafka_url, topics, state, tmp_path, FLUXFORGE_PROCESSOR__MEMBER="b", **patient):
                time.sleep(rng.uniform(3, 6))
        publish(log, topics, [part[int(len(part) * done) :] for part in parts])
        wait_for(log, topics.features_cross, len(expected))
    assert published(log, topics) == expected
    log.close()


def test_undisturbed_it_publishes_what_the_same_rows_give_at_rest(log: Log, topics: Topics, tmp_path: Path) -> None:
    parts = market(8)
    expected = expected_rows(parts)
    log.create(topics.specs(PARTITIONS, raw_retention_ms=-1))
    publish(log, topics, parts)
    with running(log.url, topics, tmp_path / "state", tmp_path, "0") as process:
        wait_for(log, topics.features_cross, len(expected))
        url = next(
            word.removesuffix("/metrics")
            for word in (tmp_path / "cross.log").read_text().split()
            if word.startswith("http://")
        )
        deadline = time.monotonic() + 30
        while answer(f"{url}/readyz") != "ok\n" and time.monotonic() < deadline:
            time.sleep(0.1)
        assert answer(f"{url}/livez") == "ok\n"
        total = sum(map(len, parts))
        metrics = ""
        while f'lag_records{{partition="0",role="cross",topic="{topics.features}"}} 0.0' not in metrics:
            assert time.monotonic() < deadline, metrics
            metrics = answer(f"{url}/metrics")
        read = [topics.features, *([topics.features_merged] if log.url.startswith("kafka:") else [])]
        for line in (
            *(f'fluxforge_consumed_total{{role="cross",topic="{name}"}} {total}.0' for name in read),
            f'fluxforge_produced_total{{role="cross",topic="{topics.features_cross}"}} {len(expected)}.0',
            'fluxforge_late_total{role="cross"} 0.0',
            'fluxforge_dlq_total{reason="undecodable",role="cross"} 0.0',
        ):
            assert line in metrics
        process.terminate()
        assert process.wait(30) == 0
    assert published(log, topics) == expected
    (header, *_) = records(log, topics.features_cross)[0].headers
    assert header == ("config", CrossConfig().hash().encode())


def test_what_is_no_row_is_counted_and_passed_over(log: Log, topics: Topics, tmp_path: Path) -> None:
    parts = market(9)
    log.create(topics.specs(PARTITIONS, raw_retention_ms=-1))
    appender = log.appender()
    incomplete = {**parts[0][0], "best_bid": None}
    for value in (b"\xc1nonsense", b"{}", b"[1]", rows.encode(incomplete)):
        appender.append(Output(topics.features, b"binance|BTC/USDT", value, partition=0))
    appender.close()
    publish(log, topics, parts)
    expected = expected_rows(parts)
    with running(log.url, topics, tmp_path / "state", tmp_path):
        wait_for(log, topics.features_cross, len(expected))
    assert published(log, topics) == expected
    told = (tmp_path / "cross.log").read_text()
    assert told.count("bytes are no row") == 3
    assert told.count("is left out") == 1


class State:
    """A state store in memory."""

    def __init__(self) -> None:
        self._values: dict[str, bytes] = {}

    def get_bytes(self, key: str) -> bytes | None:
        return self._values.get(key)

    def set_bytes(self, key: str, value: bytes) -> None:
        self._values[key] = value


def test_what_another_configuration_has_left_is_not_used() -> None:
    touches = [row | {"reading": [[], []]} for part in market(11) for row in part if row["source_partition"] == 0]
    wide, narrow = (Step(CrossConfig(horizons=horizons), 1, "t") for horizons in ((1, 5, 30), (1, 5)))
    used, fresh = State(), State()
    assert [row for touch in touches[:50] for row in wide(touch, used)]
    assert [narrow(touch, used) for touch in touches[50:]] == [narrow(touch, fresh) for touch in touches[50:]]


def settings_of(url: str, topics: Topics, **more: str) -> Settings:
    environ = {"FLUXFORGE_BROKER__URL": url, "FLUXFORGE_BROKER__PREFIX": topics.prefix, **more}
    return load(None, environ=environ)


@pytest.mark.kafka
@pytest.mark.parametrize("begun", [0, 1])
def test_rows_that_left_the_log_unread_are_an_error(kafka_url: str, topics: Topics, tmp_path: Path, begun: int) -> None:
    """Be something read of their partition before, or only of another."""
    import confluent_kafka as ck
    from confluent_kafka.admin import AdminClient

    log = open_log(kafka_url)
    log.create(topics.specs(PARTITIONS, raw_retention_ms=-1))
    publish(log, topics, [part if partition == begun else [] for partition, part in enumerate(market(10))])
    with running(kafka_url, topics, tmp_path / "state", tmp_path):
        deadline = time.monotonic() + 60
        while set(log.group_offsets(f"{topics.prefix}.cross", topics.features)) != {begun}:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    publish(log, topics, market(10))
    end = log.bounds(TopicPartition(topics.features, 0)).next
    admin = AdminClient({"bootstrap.servers": kafka_url.removeprefix("kafka://")})
    for future in admin.delete_records([ck.TopicPartition(topics.features, 0, end)]).values():
        future.result(10)
    log.close()
    with pytest.raises(OffsetOutOfRange):
        cross.serve(settings_of(kafka_url, topics, FLUXFORGE_TOPICS__PARTITIONS=str(PARTITIONS)), Stop())


@pytest.mark.parametrize(
    ("setting", "value", "missing"),
    [
        ("FLUXFORGE_ETL__CHANNELS__ORDERBOOK__PROCESSOR_OPTIONS__FEATURES", "[mid_price, 'ofi_*']", "best_bid"),
        ("FLUXFORGE_CROSS__HORIZONS", "[2, 5]", "ofi_sum_2s"),
    ],
)
def test_feature_rows_that_lack_a_column_are_a_wrong_configuration(
    topics: Topics, setting: str, value: str, missing: str
) -> None:
    with pytest.raises(ConfigError, match=missing):
        list(cross.check(settings_of("kafka://127.0.0.1:1", topics, **{setting: value})))


def answer(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=5) as opened:
            return str(opened.read().decode())
    except urllib.error.HTTPError as error:
        return str(error.read().decode())
