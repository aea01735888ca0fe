"""The lake role where its store refuses, is full or away: it waits, says so, and every row is there once."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from prometheus_client import REGISTRY

from faulty_disk import FaultyDisk
from fluxforge import rows
from fluxforge.errors import StorageError
from fluxforge.files import ChainId, Tree, commits
from fluxforge.files.s3 import S3Storage
from fluxforge.lake import LakeWriter, lake_tree, scan
from fluxforge.lake.role import LakeSink, Source
from fluxforge.log import Log, Output, TopicPartition, open_log
from fluxforge.topics import TopicSpec
from hand_clock import HandClock
from s3_faults import FaultyStore, impatient, seeded
from s3_server import S3Server
from stored_data import FIRST, row

TICKER = "market.ticker"
PARTITIONS = 2
ROWS = 400
RECOVERS = 200
"""Turn from which the store is sound again."""
PLANS = int(os.environ.get("S3_FAULT_PLANS", "2"))


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    log = open_log(f"sqlite:///{tmp_path / 'log.db'}")
    log.create([TopicSpec(TICKER, PARTITIONS)])
    appender = log.appender()
    for number in range(ROWS):
        made = row(rows.TICKER, FIRST + number, number, f"S{number % 5}/USDT", bid=float(number))
        appender.append(Output(TICKER, b"k", rows.encode(made), partition=number % PARTITIONS))
    appender.close()
    yield log
    log.close()


def sink_of(log: Log, tree: Tree, clock: HandClock) -> LakeSink:
    return LakeSink(
        log, tree, [Source(TICKER, rows.TICKER)], group="lake", member="m", max_bytes=1 << 30, max_age_s=2.0,
        clock=clock,
    )  # fmt: skip


def bids(tree: Tree) -> list[float]:
    assert isinstance(tree.storage, FaultyDisk)
    return sorted(scan(tree.storage.root.parent, "ticker").to_table()["bid"].to_pylist())


def errors(reason: str) -> float:
    return REGISTRY.get_sample_value("fluxforge_file_errors_total", {"role": "lake", "reason": reason}) or 0.0


def a_full_disk(disk: FaultyDisk) -> Callable[[], None]:
    return _faulty(disk, errno.ENOSPC)


def a_disk_mounted_read_only(disk: FaultyDisk) -> Callable[[], None]:
    return _faulty(disk, errno.EROFS)


def _faulty(disk: FaultyDisk, fault: int) -> Callable[[], None]:
    disk.fault = fault

    def heal() -> None:
        disk.fault = None

    return heal


def folders_that_cannot_be_made(disk: FaultyDisk) -> Callable[[], None]:
    """The system itself refuses, root too."""
    for name in ("_active", "ccxt", "_locks"):
        (disk.root / name).exists() and (disk.root / name).rename(disk.root / f"{name}.away")
        (disk.root / name).touch()

    def heal() -> None:
        for name in ("_active", "ccxt", "_locks"):
            (disk.root / name).unlink()
            if (disk.root / f"{name}.away").exists():
                (disk.root / f"{name}.away").rename(disk.root / name)

    return heal


def a_read_only_folder(disk: FaultyDisk) -> Callable[[], None]:
    if os.geteuid() == 0:
        pytest.skip("root writes everywhere")
    folders = [disk.root, *(path for path in disk.root.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)

    def heal() -> None:
        for folder in folders:
            folder.chmod(0o755)

    return heal


@pytest.mark.parametrize(
    ("refusal", "reason"),
    [
        (a_full_disk, "DiskFull"),
        (a_disk_mounted_read_only, "StorageError"),
        (folders_that_cannot_be_made, "StorageError"),
        (a_read_only_folder, "StorageError"),
    ],
)
def test_a_disk_that_refuses_is_tried_again(
    log: Log, tmp_path: Path, caplog: pytest.LogCaptureFixture,
    refusal: Callable[[FaultyDisk], Callable[[], None]], reason: str,
) -> None:  # fmt: skip
    disk, clock = FaultyDisk(tmp_path / "processed"), HandClock(0.0)
    tree = Tree(disk, active="_active", ready="")
    sink = sink_of(log, tree, clock)
    while sum(sink.positions.values()) < 100:
        sink.step(0.0, 50)
    clock.seconds = 3.0
    sink.step(0.0, 50)  # both partitions have a commit
    assert sum(c.rows for n in range(PARTITIONS) for c in commits(tree, ChainId(log.topic_id(TICKER), TICKER, n))) > 0
    heal, told = refusal(disk), errors(reason)
    for _ in range(400):
        clock.seconds += 0.5
        sink.step(0.0, 20)
    stored = bids(tree) if refusal is not folders_that_cannot_be_made else []
    waits = [float(s) for s in re.findall(r"\[0\] waits (\d+) s: .*processed", caplog.text)]
    assert waits == sorted(waits) and waits[:4] == [1, 2, 4, 8] and waits[-1] == 30.0
    assert errors(reason) - told == sum("waits" in line for line in caplog.text.splitlines())
    heal()
    for _ in range(100):
        clock.seconds += 1.0
        sink.step(0.0)
    assert len(stored) < ROWS
    assert bids(tree) == [float(n) for n in range(ROWS)]
    sink.close()


def test_what_no_waiting_mends_ends_it_at_the_start(log: Log, tmp_path: Path) -> None:
    """The lake is ahead of a log that was swapped."""
    chain = ChainId(log.topic_id(TICKER), TICKER, 0)
    with LakeWriter.open(lake_tree(tmp_path), rows.TICKER, chain, first=0) as writer:
        writer.commit(10 * ROWS)
    with pytest.raises(StorageError, match="the log ends at"):
        sink_of(log, lake_tree(tmp_path), HandClock(0.0)).step(0.0)


@pytest.mark.parametrize("seed", range(PLANS))
def test_every_row_once_in_a_bucket_under_seeded_faults(log: Log, s3_server: S3Server, seed: int) -> None:
    proxy, bucket, clock = FaultyStore(s3_server.endpoint), s3_server.bucket(), HandClock(0.0)
    shaky, true = (
        Tree(S3Storage(bucket, "processed", s3_server.options(at)), active="_active", ready="")
        for at in (proxy.endpoint, None)
    )
    tps = [TopicPartition(TICKER, number) for number in range(PARTITIONS)]
    chains = {tp: ChainId(log.topic_id(TICKER), *tp) for tp in tps}
    ends = {tp: log.bounds(tp).next for tp in tps}
    before = errors("StorageUnavailable")
    try:
        with impatient():
            sink = sink_of(log, shaky, clock)
            proxy.plan = seeded(seed)
            for turn in range(400):
                clock.seconds += 1.0
                if turn == 20:
                    proxy.plan = lambda _: "drop"  # away altogether
                if turn == 60:
                    proxy.plan = seeded(seed + 1000)
                if turn == RECOVERS:
                    proxy.plan = lambda _: None
                sink.step(0.0, 4)
                if turn % 10 == 0 or turn > RECOVERS:
                    stored = {tp: max((c.next_offset for c in commits(true, chains[tp])), default=0) for tp in tps}
                    offsets = log.group_offsets("lake", TICKER)
                    assert all(offsets.get(tp.partition, 0) <= stored[tp] for tp in tps), "acknowledged, not stored"
                    if stored == ends:
                        break
            assert stored == ends
            proxy.plan = lambda _: None
            sink.close()
        assert errors("StorageUnavailable") > before
        found = [file.path for tp in tps for c in commits(true, chains[tp]) for file in c.files]
        stored_bids = [bid for path in found for bid in pq.read_table(true.storage.open(path))["bid"].to_pylist()]
        assert sorted(stored_bids) == [float(n) for n in range(ROWS)]
    finally:
        proxy.close()
