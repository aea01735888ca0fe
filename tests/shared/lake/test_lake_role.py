"""The lake role on a real log: every row of the topics in the lake once, whatever was killed."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from fluxforge import rows
from fluxforge.errors import GapError, StorageError
from fluxforge.files import ChainId, Tree
from fluxforge.lake import LakeWriter, lake_tree, scan
from fluxforge.lake.role import LakeSink, Source, role, sources
from fluxforge.log import Log, Output, TopicPartition, open_log
from fluxforge.log.sqlite import SqliteLog
from fluxforge.settings import Settings
from fluxforge.sink.loop import FIRST_BACKOFF_S
from fluxforge.topics import TopicSpec
from hand_clock import HandClock

NS = 1_000_000_000
T0 = 1_700_000_000 * NS
TICKER, BARS = "market.ticker", "market.bars"


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Log]:
    log = open_log(f"sqlite:///{tmp_path / 'log.db'}")
    log.create([TopicSpec(TICKER, 2), TopicSpec(BARS, 2)])
    yield log
    log.close()


def ticker(i: int, **more: Any) -> dict[str, Any]:
    symbol = f"S{i % 5}/USDT"
    own = {
        "exchange": "x",
        "symbol": symbol,
        "source": "ccxt",
        "timestamp": T0 + i * NS,
        "source_offset": i,
        "bid": i / 7,
    }
    return dict.fromkeys(rows.TICKER.schema.names) | own | more


def bar(i: int) -> dict[str, Any]:
    own = {
        "exchange": "x",
        "symbol": "S/USDT",
        "source": "ccxt",
        "timestamp": T0 + i * NS,
        "bar_type": "time",
        "duration": 1,
        "close": i / 3,
    }
    return dict.fromkeys(rows.BARS.schema.names) | own


def send(log: Log, topic: str, *values: bytes | dict[str, Any]) -> None:
    appender = log.appender()
    for i, value in enumerate(values):
        data = value if isinstance(value, bytes) else rows.encode(value)
        appender.append(Output(topic, b"k", data, partition=i % 2))
    appender.close()


def new_sink(log: Log, tree: Tree, clock: HandClock, member: str = "m", max_bytes: int = 1 << 30) -> LakeSink:
    found = [Source(TICKER, rows.TICKER), Source(BARS, rows.BARS, "c0ffee")]
    return LakeSink(log, tree, found, group="lake", member=member, max_bytes=max_bytes, max_age_s=60.0, clock=clock)


class Driven:
    """A sink moved by hand."""

    def __init__(self, log: Log, root: Path | Tree, **options: Any) -> None:
        self.clock = HandClock(0.0)
        tree = root if isinstance(root, Tree) else lake_tree(root)
        self.sink = new_sink(log, tree, self.clock, **options)

    def read(self) -> None:
        for _ in range(6):
            self.sink.step(0.0)


def bids(root: Path) -> list[float]:
    return sorted(scan(root, "ticker").to_table()["bid"].to_pylist())


def test_all_folders_of_a_partition_roll_together_by_age(sqlite: Log, tmp_path: Path) -> None:
    send(sqlite, TICKER, *(ticker(i) for i in range(20)))
    send(sqlite, BARS, *(bar(i) for i in range(4)))
    driven = Driven(sqlite, tmp_path)
    driven.read()
    with pytest.raises(StorageError):
        scan(tmp_path, "ticker")
    driven.clock.seconds = 59.9
    driven.read()
    with pytest.raises(StorageError):
        scan(tmp_path, "ticker")
    driven.clock.seconds = 60.0
    driven.read()
    assert bids(tmp_path) == [i / 7 for i in range(20)]
    assert scan(tmp_path, "bars").count_rows() == 4
    assert sqlite.group_offsets("lake", TICKER) == {p: sqlite.bounds(TopicPartition(TICKER, p)).next for p in (0, 1)}
    driven.sink.close()


def test_by_size(sqlite: Log, tmp_path: Path) -> None:
    driven = Driven(sqlite, tmp_path, max_bytes=1)
    send(sqlite, TICKER, ticker(0))
    driven.read()
    assert bids(tmp_path) == [0.0]
    driven.sink.close()


def test_leaving_stores_what_was_read_and_the_next_goes_on(sqlite: Log, tmp_path: Path) -> None:
    expected = []
    for start in range(0, 60, 20):
        send(sqlite, TICKER, *(ticker(i) for i in range(start, start + 20)))
        driven = Driven(sqlite, tmp_path)
        driven.read()
        driven.sink.close()
        expected += [i / 7 for i in range(start, start + 20)]
        assert bids(tmp_path) == expected


def test_the_disk_and_not_the_group_says_where_to_go_on(sqlite: Log, tmp_path: Path) -> None:
    """Read and not stored: the next member reads it again."""
    send(sqlite, TICKER, *(ticker(i) for i in range(10)))
    driven = Driven(sqlite, tmp_path)
    driven.read()
    driven.sink.lost([TopicPartition(TICKER, p) for p in (0, 1)] + [TopicPartition(BARS, p) for p in (0, 1)])
    driven.sink.close()
    again = Driven(sqlite, tmp_path)
    again.read()
    again.sink.close()
    assert bids(tmp_path) == [i / 7 for i in range(10)]


def test_a_record_that_is_no_row_is_set_aside_and_listed(sqlite: Log, tmp_path: Path) -> None:
    values: list[bytes | dict[str, Any]] = []
    for i, bad in enumerate(
        [b"noise", b"[1]", json.dumps({"exchange": "x"}).encode(), rows.encode(ticker(0, bid="dear"))]
    ):
        values += [ticker(2 * i), ticker(100 + i), bad, ticker(2 * i + 1)]  # bad ones all in partition 0
    send(sqlite, TICKER, *values)
    driven = Driven(sqlite, tmp_path)
    driven.read()
    driven.sink.close()
    assert len(bids(tmp_path)) == 12
    records = [json.loads(path.read_bytes()) for path in (tmp_path / "processed" / "_commits").rglob("*.json")]
    aside = [record["meta"].get("undecodable") for record in records if record["topic"] == TICKER]
    assert sorted(aside, key=str) == [None, [1, 3, 5, 7]]


def test_a_partition_held_by_another_writer_is_taken_when_it_is_free(sqlite: Log, tmp_path: Path) -> None:
    send(sqlite, TICKER, *(ticker(i) for i in range(10)))
    chain = ChainId(sqlite.topic_id(TICKER), TICKER, 0)
    with LakeWriter.open(lake_tree(tmp_path), rows.TICKER, chain, first=0):
        driven = Driven(sqlite, tmp_path)
        driven.read()
    driven.clock.seconds = FIRST_BACKOFF_S
    driven.read()
    driven.sink.close()
    assert bids(tmp_path) == [i / 7 for i in range(10)]


def test_a_log_that_no_longer_reaches_back_is_a_gap(tmp_path: Path) -> None:
    clock = HandClock(0.0)
    log = SqliteLog(tmp_path / "log.db", clock=clock)
    log.create([TopicSpec(TICKER, 2, retention_ms=3_600_000), TopicSpec(BARS, 2)])
    send(log, TICKER, *(ticker(i) for i in range(8)))
    chain = ChainId(log.topic_id(TICKER), TICKER, 0)
    with LakeWriter.open(lake_tree(tmp_path), rows.TICKER, chain, first=0) as writer:
        writer.commit(1)
    for _ in range(3):
        clock.seconds += 7200
        send(log, TICKER, *(ticker(i) for i in range(8)))
    assert log.bounds(TopicPartition(TICKER, 0)).first > 1
    sink = new_sink(log, lake_tree(tmp_path), HandClock(0.0))
    with pytest.raises(GapError, match=r"market\.ticker"):
        sink.step(0.0)
    log.close()


def test_killed_again_and_again_every_row_is_there_once(sqlite: Log, tmp_path: Path) -> None:
    rng = Random(5)
    child = Path(__file__).parent / "lake_child.py"
    sent = 0
    for _ in range(3):
        process = subprocess.Popen([sys.executable, str(child), sqlite.url, str(tmp_path), TICKER])
        deadline = time.monotonic() + 120
        committed = len(list((tmp_path / "processed").rglob("*.json")))
        while len(list((tmp_path / "processed").rglob("*.json"))) <= committed + rng.randint(0, 3):
            assert time.monotonic() < deadline
            send(sqlite, TICKER, *(ticker(i) for i in range(sent, sent + 20)))
            sent += 20
            time.sleep(rng.uniform(0, 0.02))
        process.kill()
        process.wait()
    driven = Driven(sqlite, tmp_path)
    driven.read()
    driven.clock.seconds = 3600.0
    driven.read()
    driven.sink.close()
    assert bids(tmp_path) == sorted(i / 7 for i in range(sent))


def test_the_services_roles_come_from_settings(tmp_path: Path) -> None:
    settings = Settings.model_validate(
        {
            "broker": {"url": f"sqlite:///{tmp_path / 'log.db'}", "prefix": "p"},
            "storage": {"output": {"path": str(tmp_path)}},
            "etl": {"channels": {"ticker": {"enabled": False}}},
        }
    )
    assert [source.topic for source in sources(settings, ("hf", "trades", "ticker", "bars"))] == [
        "p.features",
        "p.trades",
        "p.bars",
    ]
    log = open_log(settings.broker.url)
    log.create(settings.topic_specs())
    log.close()
    lines = list(role(("hf", "bars")).check(settings))
    assert len(lines) == 3
    assert str(tmp_path) in lines[-1]
