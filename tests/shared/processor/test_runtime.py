"""The processor runtime on the embedded log: whatever is killed or restarted, the rows are those of one quiet run."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from bar_builder.processor import BarProcessor
from feature_engine.processor import FeatureProcessor
from fluxforge import codec, rows
from fluxforge.errors import Fenced
from fluxforge.kernels.config import BarConfig, FeatureConfig
from fluxforge.log import Log, Output, TopicPartition, open_log
from fluxforge.processor import Processor, Runtime, saves
from fluxforge.topics import Topics
from seeded_market import MS, market

TOPICS = Topics("test")


def fill(log: Log, symbols: int, seconds: int) -> None:
    log.create(TOPICS.specs(2, raw_retention_ms=-1))
    streams = [market(f"S{i}/USDT", i, seconds) for i in range(symbols)]
    events = sorted((item for stream in streams for item in stream), key=lambda item: item[0])
    appender = log.appender()
    for n, (time, event) in enumerate(events):
        key = event.key.encode()
        appender.append(Output(TOPICS.raw, key, codec.encode(event), codec.headers(event), time // MS))
        if n == 50:
            appender.append(Output(TOPICS.raw, key, b"\xc1 no event", (), time // MS))
    appender.close()


def processors() -> list[Processor]:
    return [
        FeatureProcessor(FeatureConfig(horizons=(1, 3), hf_emit_interval=1.0), TOPICS),
        BarProcessor(BarConfig(durations=(1, 5, 30)), TOPICS),
    ]


def outputs(log: Log, topic: str) -> dict[bytes, list[bytes]]:
    """Values by key, in log order."""
    found: dict[bytes, list[bytes]] = {}
    for partition in range(log.partitions(topic)):
        tp = TopicPartition(topic, partition)
        first, end = log.bounds(tp)
        reader = log.reader(tp, first, follow=False)
        while first < end:
            batch = reader.read(1000)
            for record in batch.records:
                found.setdefault(record.key or b"", []).append(record.value)
            first = batch.next_offset
        reader.close()
    return found


RESULT_TOPICS = (TOPICS.features, TOPICS.bars, TOPICS.trades, TOPICS.ticker, TOPICS.late, TOPICS.dlq)


def drain(log: Log, processor: Processor, member: str = "1", **options: float) -> None:
    runtime = Runtime(log, processor, TOPICS.raw, processor.role, member, **options)  # type: ignore[arg-type]
    read_to_end(log, runtime, processor.role)
    runtime.close()


def read_to_end(log: Log, runtime: Runtime, group: str) -> None:
    ends = {p: log.bounds(TopicPartition(TOPICS.raw, p)).next for p in range(log.partitions(TOPICS.raw))}
    while log.group_offsets(group, TOPICS.raw) != {p: end for p, end in ends.items() if end}:
        runtime.turn(0.01)
        runtime.commit()


def rest_is_as_in(quiet: Log, log: Log, features: Processor) -> None:
    """Another worker does what is left to do of the first role: all it published is as without a disturbance."""
    drain(log, features)
    for topic in (TOPICS.features, TOPICS.trades, TOPICS.ticker, TOPICS.dlq):
        assert outputs(log, topic) == outputs(quiet, topic), topic


@pytest.fixture
def filled(tmp_path: Path) -> Iterator[tuple[Path, Log]]:
    path = tmp_path / "log.db"
    log = open_log(f"sqlite:///{path}")
    fill(log, symbols=3, seconds=240)
    yield path, log
    log.close()


@pytest.fixture
def quiet(tmp_path: Path) -> Iterator[Log]:
    """The same market processed without any disturbance."""
    log = open_log(f"sqlite:///{tmp_path / 'quiet.db'}")
    fill(log, symbols=3, seconds=240)
    for processor in processors():
        drain(log, processor)
    yield log
    log.close()


@pytest.mark.parametrize("near", [saves.REBUILD_RECORDS, 40])
def test_rows_survive_abandoned_workers_bit_for_bit(
    filled: tuple[Path, Log], quiet: Log, near: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the newest BookSnapshot lies so far back that snapshots hold the book."""
    monkeypatch.setattr(saves, "REBUILD_RECORDS", near)
    path, log = filled
    rng = random.Random(1)
    for processor in processors():
        for _ in range(25):
            worker = open_log(f"sqlite:///{path}")
            options = {"commit_interval": 0.0, "snapshot_interval": rng.choice([0.0, 1e9])}
            runtime = Runtime(worker, processor, TOPICS.raw, processor.role, "1", **options)
            for _ in range(rng.randint(1, 3)):
                few(runtime, rng.randint(1, 120))
            # Neither commit nor close: what was not committed is as lost as after a kill.
            del runtime
        drain(log, processor)
    for topic in RESULT_TOPICS:
        assert outputs(log, topic) == outputs(quiet, topic), topic
    assert all(outputs(quiet, topic) for topic in RESULT_TOPICS), "every kind of output must occur, or nothing is shown"


def few(runtime: Runtime, records: int) -> None:
    """One turn over a handful of records."""
    import fluxforge.processor.runtime as module

    before = module.BATCH_RECORDS
    module.BATCH_RECORDS = records
    try:
        runtime.turn(0.01)
    finally:
        module.BATCH_RECORDS = before


def test_clean_restarts_and_a_changed_configuration(filled: tuple[Path, Log], quiet: Log) -> None:
    """A clean hand-over needs no rebuilding; another configuration starts from the log, one warm-up back."""
    _path, log = filled
    processor = processors()[0]
    for _ in range(5):
        runtime = Runtime(log, processor, TOPICS.raw, processor.role, "1", commit_interval=0.0)
        few(runtime, 200)
        runtime.close()
    done = sum(map(len, outputs(log, TOPICS.features).values()))
    other = FeatureProcessor(FeatureConfig(horizons=(1, 3), max_levels=3), TOPICS)
    drain(log, other)
    mine, theirs = outputs(log, TOPICS.features), outputs(quiet, TOPICS.features)
    assert {k: len(v) for k, v in mine.items()} == {k: len(v) for k, v in theirs.items()}
    narrow = {"bid_price_L0", "mid_price", "ofi_step", "rv_3s", "ofi_decay_3s", "spread_regime_wide_frac"}
    for key, values in mine.items():
        for a, b in zip(values, theirs[key], strict=True):
            left, right = rows.decode(a), rows.decode(b)
            assert {n: left[n] for n in narrow} == {n: right[n] for n in narrow}
    assert 0 < done < sum(map(len, theirs.values()))


def test_a_second_worker_of_the_same_name_shuts_out_the_first(filled: tuple[Path, Log]) -> None:
    path, log = filled
    processor = processors()[0]
    first = Runtime(log, processor, TOPICS.raw, processor.role, "1", commit_interval=1e9)
    few(first, 50)
    other = open_log(f"sqlite:///{path}")
    second = Runtime(other, processor, TOPICS.raw, processor.role, "1", commit_interval=1e9)
    few(second, 50)
    with pytest.raises(Fenced):
        first.commit()
    second.close()
    other.close()


def test_partitions_that_stay_survive_a_refused_hand_over(filled: tuple[Path, Log], quiet: Log) -> None:
    """Another worker steals the name while one partition is handed over: nothing of the one that stays is lost."""
    path, log = filled
    processor = processors()[0]
    first = Runtime(log, processor, TOPICS.raw, processor.role, "1", commit_interval=1e9)
    few(first, 300)
    tps = sorted(first._partitions)
    assert len(tps) == 2, "two partitions, or nothing stays"
    other = open_log(f"sqlite:///{path}")
    other.transactor(f"{processor.role}.1").close()
    with pytest.raises(Fenced):
        first.revoked(tps[:1])
    other.close()
    rest_is_as_in(quiet, log, processor)


def test_a_hand_over_saves_the_new_keys_of_what_stays(filled: tuple[Path, Log], quiet: Log) -> None:
    """The commit of a hand-over is one of all partitions, keys that were never saved included."""
    path, log = filled
    processor = processors()[0]
    worker = open_log(f"sqlite:///{path}")
    first = Runtime(worker, processor, TOPICS.raw, processor.role, "1", commit_interval=1e9)
    few(first, 300)
    first.revoked(sorted(first._partitions)[:1])
    del first
    rest_is_as_in(quiet, log, processor)


def test_a_worker_that_fails_commits_nothing_on_its_way_out(filled: tuple[Path, Log], quiet: Log) -> None:
    """An error in the middle of a batch: the next worker goes on from the last commit."""
    path, log = filled
    processor = processors()[0]
    worker = open_log(f"sqlite:///{path}")
    runtime = Runtime(worker, processor, TOPICS.raw, processor.role, "1", commit_interval=1e9)
    few(runtime, 300)

    def fail(_: object) -> None:
        raise MemoryError

    runtime._compute.kernel.run = fail  # type: ignore[method-assign]
    with pytest.raises(MemoryError):
        runtime.run(lambda: False)
    worker.close()
    assert not any(log.group_offsets(processor.role, TOPICS.raw).values())
    rest_is_as_in(quiet, log, processor)
