"""What sinks and processors tell while they work: lag, watermark, waits, and whether they are ready."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from bar_builder.processor import BarProcessor
from bronze_sink.partition import Rolling
from bronze_sink.sink import BronzeSink
from faulty_disk import FaultyDisk
from fluxforge import codec, condition
from fluxforge.condition import Condition
from fluxforge.errors import LogUnavailable
from fluxforge.events import Trade
from fluxforge.files import STEPS, Tree
from fluxforge.kernels.config import BarConfig
from fluxforge.lag import INTERVAL_S, Lag
from fluxforge.log import Batch, Log, Output, Record, TopicPartition, open_log
from fluxforge.processor import Runtime
from fluxforge.sink import timed
from fluxforge.topics import Topics
from observability.served import series, value

S, MS = 1_000_000_000, 1_000_000
START = 1_700_000_000 * S


class Hands:
    """A clock that is set by hand; `seconds` since START."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def now(self) -> int:
        return START + int(self.seconds * S)

    def monotonic(self) -> float:
        return self.seconds


class Ends:
    """A log that ends where it is told, or is away."""

    def __init__(self, ends: dict[TopicPartition, int]) -> None:
        self.there: dict[TopicPartition, int] | None = ends

    def ends(self, tps: Mapping[TopicPartition, int], *, within: float) -> dict[TopicPartition, int]:
        if self.there is None:
            raise LogUnavailable("away")
        return {tp: self.there[tp] for tp in tps}


@pytest.fixture
def clock() -> Hands:
    return Hands()


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> Condition:
    made = Condition()
    monkeypatch.setattr(condition, "PROCESS", made)
    return made


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    log = open_log(f"sqlite:///{tmp_path / 'log.db'}")
    log.create(Topics().specs(2, raw_retention_ms=-1))
    yield log
    log.close()


def trade(seconds: float, symbol: str = "A/USDT") -> Trade:
    at = START + int(seconds * S)
    who = {"exchange": "sim", "symbol": symbol, "native": "A", "source": "sim", "collector": "c", "connection": "x"}
    return Trade(**who, ts=at - 50 * MS, capture_ts=at, id="1", price=1.0, size=1.0, side=1)  # type: ignore[arg-type]


def put(log: Log, *events: Trade) -> None:
    appender = log.appender()
    for event in events:
        key, body = event.key.encode(), codec.encode(event)
        appender.append(Output("market.raw", key, body, codec.headers(event), event.capture_ts // MS, partition=0))
    appender.close()


class TestLag:
    TPS = (TopicPartition("lag.raw", 0), TopicPartition("lag.raw", 1))

    def read(self, lag: Lag, tp: TopicPartition, next_offset: int, at_ms: int) -> None:
        lag.read(Batch(tp, [Record(tp.partition, next_offset - 1, at_ms, b"k", b"", ())], next_offset))

    def lag_of(self, role: str, partition: str) -> tuple[float | None, float | None]:
        labels = {"role": role, "topic": "lag.raw", "partition": partition}
        return value("fluxforge_lag_records", **labels), value("fluxforge_lag_seconds", **labels)

    def test_is_in_records_and_in_seconds_and_nothing_at_the_end(self, clock: Hands) -> None:
        lag = Lag("l1", Ends(dict(zip(self.TPS, (10, 7), strict=True))), clock)  # type: ignore[arg-type]
        self.read(lag, self.TPS[0], 6, START // MS + 70_000)
        lag.at(self.TPS[1], 7)
        assert lag.look({self.TPS[0]: 6, self.TPS[1]: 7}) == 4
        assert (self.lag_of("l1", "0"), self.lag_of("l1", "1")) == ((4.0, 30.0), (0.0, 0.0))
        assert value("fluxforge_position", role="l1", topic="lag.raw", partition="0") == 6
        assert value("fluxforge_assigned_partitions", role="l1") == 2

    def test_is_asked_for_now_and_then(self, clock: Hands) -> None:
        lag = Lag("l2", Ends({self.TPS[0]: 10}), clock)  # type: ignore[arg-type]
        assert lag.look({self.TPS[0]: 1}) == 9
        assert lag.look({self.TPS[0]: 2}) is None
        clock.seconds += INTERVAL_S
        assert lag.look({self.TPS[0]: 3}) == 7

    def test_of_a_partition_that_went_elsewhere_is_told_no_more(self, clock: Hands) -> None:
        lag = Lag("l3", Ends(dict.fromkeys(self.TPS, 5)), clock)  # type: ignore[arg-type]
        for tp in self.TPS:
            lag.at(tp, 1)
        lag.look(dict.fromkeys(self.TPS, 1))
        clock.seconds += INTERVAL_S
        lag.look({self.TPS[1]: 1})
        for name in ("fluxforge_position", "fluxforge_lag_records", "fluxforge_lag_seconds"):
            assert [each["partition"] for each in series(name) if each["role"] == "l3"] in (["1"], [])
        assert self.lag_of("l3", "0") == (None, None)
        assert value("fluxforge_assigned_partitions", role="l3") == 1

    def test_a_log_that_is_away_is_no_error_here(self, clock: Hands) -> None:
        ends = Ends({self.TPS[0]: 5})
        lag = Lag("l4", ends, clock)  # type: ignore[arg-type]
        assert lag.look({self.TPS[0]: 1}) == 4
        clock.seconds += INTERVAL_S
        ends.there = None
        assert lag.look({self.TPS[0]: 1}) is None
        assert self.lag_of("l4", "0")[0] == 4


class TestSink:
    def sink(self, log: Log, tree: Tree, clock: Hands) -> BronzeSink:
        rolling = Rolling(max_age=10)
        return BronzeSink(log, ["market.raw"], tree, group="g", member="m", rolling=rolling, clock=clock)

    def test_tells_ages_waits_and_when_it_is_ready(
        self, log: Log, tmp_path: Path, clock: Hands, process: Condition
    ) -> None:
        put(log, trade(97), trade(98), trade(99))
        sink = self.sink(log, Tree.local(tmp_path / "raw"), clock)
        before = {
            name: value(f"fluxforge_{name}_seconds_count", role="bronze") or 0 for name in ("fsync", "end_to_end")
        }
        late = value("fluxforge_end_to_end_seconds_sum", role="bronze") or 0
        assert process.unready == condition.STARTING
        while not sink.positions.get(TopicPartition("market.raw", 0)):
            sink.step(0.01)
        assert process.unready == ""
        clock.seconds += 5
        sink.step(0.01)
        assert value("fluxforge_open_segment_age_seconds", role="bronze") == 5
        assert value("fluxforge_lag_records", role="bronze", topic="market.raw", partition="0") == 0
        clock.seconds += 5
        sink.step(0.01)
        assert value("fluxforge_open_segment_age_seconds", role="bronze") == 0
        assert value("fluxforge_last_commit_timestamp_seconds", role="bronze") == (START / S) + 110
        assert value("fluxforge_end_to_end_seconds_sum", role="bronze") == late + 13, "of the oldest record"
        assert value("fluxforge_end_to_end_seconds_count", role="bronze") == before["end_to_end"] + 1
        assert value("fluxforge_fsync_seconds_count", role="bronze") == before["fsync"] + 3, "files, record, folders"
        sink.close()

    def test_a_partition_that_waits_for_its_store_is_not_ready(
        self, log: Log, tmp_path: Path, clock: Hands, process: Condition
    ) -> None:
        put(log, trade(99))
        disk = FaultyDisk(tmp_path / "raw")
        sink = self.sink(log, Tree(disk), clock)
        while not sink.positions.get(TopicPartition("market.raw", 0)):
            sink.step(0.01)
        disk.fault = errno.ENOSPC
        clock.seconds += 11
        sink.step(0.01)
        assert process.unready.startswith("1 partitions wait: no room to write")
        assert value("fluxforge_waiting_partitions", role="bronze") == 1
        disk.fault = None
        clock.seconds += 60
        sink.step(0.01)
        assert (process.unready, value("fluxforge_waiting_partitions", role="bronze")) == ("", 0)
        sink.close()

    def test_waits_are_from_one_step_of_a_commit_to_the_next(self, clock: Hands) -> None:
        told: list[str] = []
        step = timed("t1", clock, told.append)
        for _ in range(2):
            for name in STEPS:
                clock.seconds += 2.0 if name in ("files.synced", "record.synced", "folders.synced") else 0.5
                step(name)
            clock.seconds += 1000
            step("files.synced")  # a batch without files: nobody waited
        assert value("fluxforge_fsync_seconds_sum", role="t1") == 2 * 3 * 2.0
        assert value("fluxforge_fsync_seconds_count", role="t1") == 6
        assert told == [*STEPS, "files.synced"] * 2


class TestProcessor:
    def runtime(self, log: Log, clock: Hands) -> Runtime:
        processor = BarProcessor(BarConfig(durations=(1, 5)), Topics())
        return Runtime(
            log, processor, "market.raw", "g", "1", commit_interval=1.0, monotonic=clock.monotonic, clock=clock
        )

    def test_tells_lag_watermark_and_latency_and_when_it_is_ready(
        self, log: Log, clock: Hands, process: Condition
    ) -> None:
        late = value("fluxforge_end_to_end_seconds_sum", role="bars") or 0
        put(log, trade(97), trade(99), trade(98))
        runtime = self.runtime(log, clock)
        assert process.unready == condition.STARTING
        while not runtime.turn(0.01):
            pass
        assert process.unready == ""
        clock.seconds += INTERVAL_S
        runtime.turn(0.01)
        assert value("fluxforge_watermark_timestamp_seconds", role="bars") == START / S + 98.95
        assert value("fluxforge_lag_records", role="bars", topic="market.raw", partition="0") == 0
        assert value("fluxforge_last_commit_timestamp_seconds", role="bars") == START / S + 102
        assert value("fluxforge_end_to_end_seconds_sum", role="bars") == pytest.approx(late + 5)
        runtime.close()
        assert value("fluxforge_end_to_end_seconds_sum", role="bars") == pytest.approx(late + 5)

    def test_is_not_ready_before_its_state_is_rebuilt(
        self, log: Log, clock: Hands, process: Condition, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What it reads again is no news, and does not count as late."""
        put(log, *(trade(n / 10) for n in range(50)))
        first = self.runtime(log, clock)
        while not first.turn(0.01):
            pass
        first.commit()
        log.delete(["market.bars.state"])  # so that all is read again
        log.create(Topics().specs(2, raw_retention_ms=-1))
        counted = value("fluxforge_end_to_end_seconds_count", role="bars")
        del first
        monkeypatch.setattr("fluxforge.processor.runtime.BATCH_RECORDS", 20)
        second = self.runtime(log, clock)
        said = []
        while not said or process.unready:
            second.turn(0.01)
            said.append(process.unready)
        assert said[-3:] == [
            "30 records are to be read again to rebuild its state",
            "10 records are to be read again to rebuild its state",
            "",
        ]
        second.commit()
        assert value("fluxforge_end_to_end_seconds_count", role="bars") == counted
        second.close()
