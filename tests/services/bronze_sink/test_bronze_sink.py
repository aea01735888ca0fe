"""The sink stores every record of the raw topic exactly once, whatever happens to it."""

from __future__ import annotations

import errno
import importlib.util
import re
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from urllib.request import urlopen

import pytest

from bronze_sink.partition import Rolling
from bronze_sink.sink import BronzeSink
from faulty_disk import FaultyDisk
from fluxforge import bronze, codec
from fluxforge.errors import GapError
from fluxforge.events import AnyEvent, BookDelta, BookSnapshot, Heartbeat, Reset, Ticker, Trade
from fluxforge.files import STEPS, ChainId, Gap, Tree, commits
from fluxforge.log import Log, Output, Record, TopicPartition, open_log
from fluxforge.log.sqlite import SqliteLog
from fluxforge.topics import Topics, TopicSpec

CHILD = Path(__file__).with_name("sink_child.py")
PARTITIONS = 2


class ManualClock:
    """Time that tests move."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> int:
        return time.time_ns() + int(self.seconds * 1e9)

    def monotonic(self) -> float:
        return self.seconds


def event(number: int, source: str = "binance") -> AnyEvent:
    """One event of a made-up market; kinds take turns."""
    common = {
        "exchange": "binance",
        "symbol": f"S{number % 7}/USDT",
        "native": f"S{number % 7}USDT",
        "source": source,
        "collector": "c",
        "connection": "x",
        "ts": number * 1_000_000,
        "capture_ts": number * 1_000_000 + 5,
        "seq": number,
    }
    levels = struct.pack("<4d", 100.0 - number % 3, number, 99.5 - number % 3, 0.5)
    kinds: list[Callable[[], AnyEvent]] = [
        lambda: BookDelta(bids=levels, asks=b"", first_seq=number, **common),
        lambda: BookSnapshot(bids=levels, asks=levels, refresh=True, **common),
        lambda: Trade(id=str(number), price=number / 3, size=0.1, side=-1, raw=b"{}", **common),
        lambda: Ticker(bid=number / 7, raw=None, **common),
        lambda: Heartbeat(**common),
        lambda: Reset(reason="gap", detail="ids", **common),
    ]
    return kinds[number % len(kinds)]()


def fill(log: Log, topic: str, start: int, end: int) -> None:
    appender = log.appender()
    for number in range(start, end):
        made = event(number)
        appender.append(Output(topic, made.key.encode(), codec.encode(made), codec.headers(made)))
    appender.flush()
    appender.close()


def in_log(log: Log, topic: str) -> dict[int, list[Record]]:
    found: dict[int, list[Record]] = {}
    for number in range(log.partitions(topic)):
        tp = TopicPartition(topic, number)
        first, end = log.bounds(tp)
        reader = log.reader(tp, first)
        found[number], at = [], first
        while at < end:
            batch = reader.read(1000, 5.0)
            found[number] += batch.records
            at = batch.next_offset
        reader.close()
    return found


def in_bronze(log: Log, topic: str, data: Path) -> dict[int, list[Record]]:
    log_id, tree = log.topic_id(topic), bronze.tree(data)
    return {number: list(bronze.read(tree, ChainId(log_id, topic, number))) for number in range(log.partitions(topic))}


@pytest.fixture
def topic(log: Log, topics: Topics) -> str:
    log.create([TopicSpec(topics.raw, PARTITIONS)])
    return topics.raw


@pytest.fixture
def small(tmp_path: Path) -> Iterator[tuple[Log, str]]:
    """An embedded log with a topic, for what does not depend on the backend."""
    log = open_log(f"sqlite:///{tmp_path / 'small.db'}")
    log.create([TopicSpec("market.raw", PARTITIONS)])
    yield log, "market.raw"
    log.close()


def sink_of(log: Log, topic: str, tree: Tree, **options: object) -> BronzeSink:
    return BronzeSink(log, [topic], tree, group=f"{topic}.bronze", member="one", **options)  # type: ignore[arg-type]


def drain(sink: BronzeSink, log: Log, topic: str) -> None:
    ends = {TopicPartition(topic, n): log.bounds(TopicPartition(topic, n)).next for n in range(log.partitions(topic))}
    deadline = time.monotonic() + 120
    while sink.positions != ends:
        sink.step(0.05)
        assert time.monotonic() < deadline, f"{sink.positions} is not {ends}"


class TestStoring:
    def test_bronze_equals_the_log_byte_for_byte(self, log: Log, topic: str, tmp_path: Path) -> None:
        fill(log, topic, 0, 700)
        for end in (1500, 2200):
            sink = sink_of(log, topic, bronze.tree(tmp_path), rolling=Rolling(max_bytes=5_000))
            fill(log, topic, end - 800 if end == 1500 else end - 700, end)
            drain(sink, log, topic)
            sink.close()
        assert in_bronze(log, topic, tmp_path) == in_log(log, topic)
        for number in range(PARTITIONS):
            tp = TopicPartition(topic, number)
            stored = list(commits(bronze.tree(tmp_path), ChainId(log.topic_id(topic), *tp)))
            assert [c.start for c in stored[1:]] == [c.next_offset for c in stored[:-1]]
            assert stored[-1].next_offset == log.bounds(tp).next
        offsets = log.group_offsets(f"{topic}.bronze", topic)
        assert offsets == {n: log.bounds(TopicPartition(topic, n)).next for n in range(PARTITIONS)}

    def test_ndjson_holds_the_same(self, small: tuple[Log, str], tmp_path: Path) -> None:
        log, topic = small
        fill(log, topic, 0, 500)
        sink = sink_of(log, topic, bronze.tree(tmp_path), rolling=Rolling(raw_format="ndjson"))
        drain(sink, log, topic)
        sink.close()
        assert in_bronze(log, topic, tmp_path) == in_log(log, topic)
        assert {path.suffix for path in (tmp_path / "raw" / "ready").rglob("*.*")} == {".ndjson"}

    def test_all_channels_roll_together_by_size_and_by_age(self, small: tuple[Log, str], tmp_path: Path) -> None:
        log, topic = small
        clock, tree = ManualClock(), bronze.tree(tmp_path)
        sink = sink_of(log, topic, tree, clock=clock, rolling=Rolling(max_age=900))
        chains = [ChainId(log.topic_id(topic), topic, number) for number in range(PARTITIONS)]
        fill(log, topic, 0, 300)
        drain(sink, log, topic)
        clock.seconds = 899
        sink.step(0.0)
        assert not any(list(commits(tree, chain)) for chain in chains)
        clock.seconds = 901
        sink.step(0.0)
        for chain in chains:
            (commit,) = commits(tree, chain)
            assert {file.meta["channel"] for file in commit.files} == {"trades", "ticker", "orderbook", "control"}
            assert commit.rows == log.bounds(TopicPartition(topic, chain.partition)).next
        sink.close()

    def test_what_does_not_decode_is_kept_and_the_next_event_stored(
        self, small: tuple[Log, str], tmp_path: Path
    ) -> None:
        log, topic = small
        appender = log.appender()
        for value in (b"", b"\xc1", b"[1,", codec.encode(event(2)), b"\x00" * 2000):
            appender.append(Output(topic, b"k", value, (("odd", b"\xff"),)))
        appender.flush()
        appender.close()
        sink = sink_of(log, topic, bronze.tree(tmp_path))
        drain(sink, log, topic)
        sink.close()
        assert in_bronze(log, topic, tmp_path) == in_log(log, topic)
        assert "4 undecodable" in sink.statistics()


class TestFailures:
    @pytest.mark.parametrize("step", [*STEPS, "offsets.committed"])
    def test_every_record_once_after_kill_9(self, small: tuple[Log, str], tmp_path: Path, step: str) -> None:
        log, topic = small
        fill(log, topic, 0, 1500)
        argv = [sys.executable, str(CHILD), log.url, topic, str(tmp_path), step, "3"]
        assert subprocess.run(argv, check=False).returncode == -9
        stored = in_bronze(log, topic, tmp_path)
        logged = in_log(log, topic)
        for number, records in stored.items():
            assert records == logged[number][: len(records)]
        fill(log, topic, 1500, 1800)
        child.run(log.url, topic, tmp_path, "", 0)
        assert in_bronze(log, topic, tmp_path) == in_log(log, topic)
        assert not [path for path in (tmp_path / "raw" / "active").rglob("*") if path.is_file()]

    def test_a_full_disk_waits_for_room(self, small: tuple[Log, str], tmp_path: Path) -> None:
        log, topic = small
        clock, storage = ManualClock(), FaultyDisk(tmp_path / "raw")
        sink = sink_of(log, topic, Tree(storage), clock=clock, rolling=Rolling(max_bytes=2_000))
        fill(log, topic, 0, 400)
        drain(sink, log, topic)
        storage.fault = errno.ENOSPC
        fill(log, topic, 400, 1500)
        for _ in range(40):
            sink.step(0.01)
            clock.seconds += 1
        assert "(2 waiting)" in sink.statistics()
        partly = in_bronze(log, topic, tmp_path)
        storage.fault = None
        clock.seconds += 31
        sink.step(0.0)
        drain(sink, log, topic)
        sink.close()
        assert in_bronze(log, topic, tmp_path) == in_log(log, topic)
        assert partly != in_log(log, topic)

    def test_a_full_disk_at_the_start_and_at_the_end_loses_nothing(
        self, small: tuple[Log, str], tmp_path: Path
    ) -> None:
        log, topic = small
        fill(log, topic, 0, 300)
        clock, storage = ManualClock(), FaultyDisk(tmp_path / "raw")
        sink = sink_of(log, topic, Tree(storage), clock=clock)
        drain(sink, log, topic)
        storage.fault = errno.ENOSPC
        sink.close()
        assert in_bronze(log, topic, tmp_path) == {0: [], 1: []}
        storage.fault = None
        sink = sink_of(log, topic, Tree(storage), clock=clock)
        drain(sink, log, topic)
        sink.close()
        assert in_bronze(log, topic, tmp_path) == in_log(log, topic)

    def test_two_members_share_and_hand_over(self, log: Log, topic: str, tmp_path: Path) -> None:
        tree, rolling = bronze.tree(tmp_path), Rolling(max_bytes=5_000)
        one = BronzeSink(log, [topic], tree, group="shared", member="one", rolling=rolling)
        fill(log, topic, 0, 500)
        while len(one.positions) < PARTITIONS:
            one.step(0.05)
        other = BronzeSink(log, [topic], tree, group="shared", member="two", rolling=rolling)
        deadline = time.monotonic() + 40
        while not (len(one.positions) == len(other.positions) == 1):
            one.step(0.02)
            other.step(0.02)
            assert time.monotonic() < deadline
        fill(log, topic, 500, 1000)
        ends = {TopicPartition(topic, n): log.bounds(TopicPartition(topic, n)).next for n in range(PARTITIONS)}
        while one.positions | other.positions != ends:
            one.step(0.02)
            other.step(0.02)
            assert time.monotonic() < deadline
        other.close()
        one.close()
        assert in_bronze(log, topic, tmp_path) == in_log(log, topic)


class TestGaps:
    @pytest.fixture
    def swept(self, small: tuple[Log, str], tmp_path: Path) -> tuple[Log, str, int]:
        """Ten records stored, ten more dropped by the log before they were, then new ones: the log's first offset."""
        log, _ = small
        topic, clock = "short.raw", ManualClock()
        log.create([TopicSpec(topic, 1, retention_ms=60_000)])
        fill(log, topic, 0, 10)
        sink = sink_of(log, topic, bronze.tree(tmp_path))
        drain(sink, log, topic)
        sink.close()
        fill(log, topic, 10, 20)
        later = SqliteLog(tmp_path / "small.db", clock=clock)
        for number in range(20, 40):
            clock.seconds += 100
            fill(later, topic, number, number + 1)
        later.close()
        first = log.bounds(TopicPartition(topic, 0)).first
        assert first > 10
        return log, topic, first

    def test_a_gap_stops_the_sink_with_its_offsets(self, swept: tuple[Log, str, int], tmp_path: Path) -> None:
        log, topic, first = swept
        sink = sink_of(log, topic, bronze.tree(tmp_path))
        with pytest.raises(GapError, match=rf"\[10, {first}\) have left the log"):
            for _ in range(100):
                sink.step(0.05)
        sink.close()

    def test_a_gap_is_recorded_where_that_is_asked_for(self, swept: tuple[Log, str, int], tmp_path: Path) -> None:
        log, topic, first = swept
        sink = sink_of(log, topic, bronze.tree(tmp_path), rolling=Rolling(on_gap="record"))
        drain(sink, log, topic)
        sink.close()
        assert "1 gaps" in sink.statistics()
        stored = list(commits(bronze.tree(tmp_path), ChainId(log.topic_id(topic), topic, 0)))
        assert [commit.gap for commit in stored if commit.gap] == [Gap(10, first)]
        assert in_bronze(log, topic, tmp_path)[0][10:] == in_log(log, topic)[0]


class TestProgram:
    def test_check_names_topic_and_disk(self, small: tuple[Log, str], tmp_path: Path) -> None:
        log, _ = small
        config = tmp_path / "config.yaml"
        config.write_text(f"broker: {{url: '{log.url}'}}\nstorage: {{input: {{path: {tmp_path}}}}}\n")
        ran = check(config)
        assert ran.returncode == 0, ran.stderr
        assert f"market.raw: {PARTITIONS} partitions" in ran.stdout
        assert "raw can be written exactly once" in ran.stdout

    def test_sigterm_stores_what_was_read(self, small: tuple[Log, str], tmp_path: Path) -> None:
        log, topic = small
        config = tmp_path / "config.yaml"
        config.write_text(f"broker: {{url: '{log.url}'}}\nstorage: {{input: {{path: {tmp_path}}}}}\n")
        fill(log, topic, 0, 400)
        argv = [sys.executable, "-m", "bronze_sink", "--config", str(config), "--metrics-port", "0"]
        with subprocess.Popen(argv, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
            assert process.stderr is not None
            url = next(found[0] for line in process.stderr if (found := re.findall(r"http://\S+/metrics", line)))
            deadline = time.monotonic() + 120
            while consumed(url) < 400:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            assert in_bronze(log, topic, tmp_path) == {0: [], 1: []}
            process.terminate()
            said = process.stderr.read()
        assert process.returncode == 0, said
        assert "400 rows" in said
        assert in_bronze(log, topic, tmp_path) == in_log(log, topic)

    def test_check_names_a_topic_that_is_not_there(self, small: tuple[Log, str], tmp_path: Path) -> None:
        log, _ = small
        config = tmp_path / "config.yaml"
        config.write_text(f"broker: {{url: '{log.url}', prefix: other}}\n")
        ran = check(config)
        assert (ran.returncode, "other.raw" in ran.stderr) == (1, True)


def consumed(url: str) -> float:
    with urlopen(url) as answer:  # 127.0.0.1 only
        text = answer.read().decode()
    return sum(float(n) for n in re.findall(r"^fluxforge_consumed_total\{.*bronze.*\} (\S+)$", text, re.MULTILINE))


def check(config: Path) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "bronze_sink", "--config", str(config), "--check"]
    return subprocess.run(argv, check=False, capture_output=True, text=True)


def load_child() -> ModuleType:
    """The child's program, for runs that are not killed."""
    spec = importlib.util.spec_from_file_location("sink_child", CHILD)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


child = load_child()
