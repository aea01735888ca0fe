"""What is the file's alone: its size, its damage, its locks, its full disk."""

from __future__ import annotations

import os
import queue
import shutil
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.log_drive import join, read_all, until
from fluxforge import service
from fluxforge.errors import ConfigError, DiskFull, LogUnavailable
from fluxforge.log import Output, TopicPartition, open_log
from fluxforge.log.sqlite import SqliteLog
from fluxforge.log.sqlite import store as sqlite_store
from fluxforge.log.sqlite.appender import SqliteAppender
from fluxforge.settings import load
from fluxforge.topics import Topics, TopicSpec
from hand_clock import HandClock

TP = TopicPartition("market.raw", 0)


def fill(log: SqliteLog, records: int, size: int = 100) -> None:
    appender = log.appender()
    for _ in range(records):
        appender.append(Output(TP.topic, b"k", bytes(size)))
    appender.close()


def test_the_url_names_a_relative_or_an_absolute_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    relative, absolute = open_log("sqlite:///some/rel.db"), open_log(f"sqlite:///{tmp_path / 'abs.db'}")
    assert (tmp_path / "some" / "rel.db").exists()
    assert (tmp_path / "abs.db").exists()
    assert relative.url == "sqlite:///some/rel.db"
    relative.close()
    absolute.close()
    for wrong in ("sqlite:rel.db", "http://localhost", "kafka://"):
        with pytest.raises(ConfigError):
            open_log(wrong)


def test_retention_by_age_drops_what_is_older(tmp_path: Path) -> None:
    clock = HandClock()
    log = SqliteLog(tmp_path / "log.db", clock=clock)
    log.create([TopicSpec(TP.topic, 1, retention_ms=3_600_000)])
    for _ in range(120):  # a minute each
        fill(log, 10)
        clock.seconds += 60
    first, end = log.bounds(TP)
    assert end == 1200
    kept = (end - first) // 10
    assert 60 <= kept <= 60 + 10, "an hour, and at most a span of an eighth of that more"
    assert [record.offset for record in read_all(log, TP)] == list(range(first, end))
    clock.seconds += 2 * 3600
    fill(log, 1)
    assert log.bounds(TP).first >= 1200
    log.close()


def test_retention_by_bytes_keeps_the_cap_and_the_file_stops_growing(tmp_path: Path) -> None:
    clock = HandClock()
    log = SqliteLog(tmp_path / "log.db", clock=clock)
    log.create([TopicSpec(TP.topic, 1, retention_bytes=4_000_000)])
    sizes = []
    for _ in range(12):
        fill(log, 2000, 1000)
        clock.seconds += 10
        sizes.append((tmp_path / "log.db").stat().st_size)
    first, end = log.bounds(TP)
    held = sum(len(record.value) for record in read_all(log, TP))
    assert 3_500_000 <= held <= 7_000_000
    assert end == 24_000
    assert first > 0
    assert sizes[-1] <= 1.25 * sizes[len(sizes) // 2]
    log.close()


def test_a_file_that_is_no_log_is_named(tmp_path: Path) -> None:
    garbage = tmp_path / "garbage.db"
    garbage.write_bytes(b"not a database, but longer than a header has to be" * 100)
    with pytest.raises(LogUnavailable, match=r"garbage\.db is damaged or no SQLite file"):
        SqliteLog(garbage)
    foreign = tmp_path / "foreign.db"
    with sqlite3.connect(foreign) as db:
        db.execute("CREATE TABLE theirs (x)")
    db.close()
    with pytest.raises(LogUnavailable, match=r"foreign\.db is an SQLite file, but not a FluxForge log"):
        SqliteLog(foreign)
    with pytest.raises(LogUnavailable, match="nowhere"):
        SqliteLog("/proc/nowhere/log.db")


def test_damage_inside_the_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    log = SqliteLog(path)
    log.create([TopicSpec(TP.topic, 1)])
    fill(log, 5000, 500)
    log.close()
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        for at in range(sqlite_store.PAGE_BYTES * 8, size, sqlite_store.PAGE_BYTES):
            file.seek(at)
            file.write(bytes(range(256)) * 4)
    log = SqliteLog(path)
    with pytest.raises(LogUnavailable, match=r"log\.db is damaged"):
        read_all(log, TP)
    log.close()


def test_a_locked_file_says_so_and_recovers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_store, "BUSY_SECONDS", 0.2)
    log = SqliteLog(tmp_path / "log.db")
    log.create([TopicSpec(TP.topic, 1)])
    appender = log.appender()
    intruder = sqlite3.connect(tmp_path / "log.db", isolation_level=None)
    intruder.execute("BEGIN IMMEDIATE")
    appender.append(Output(TP.topic, b"k", b"waits"))
    with pytest.raises(LogUnavailable, match="stayed locked"):
        appender.flush()
    with pytest.raises(LogUnavailable, match="stayed locked"):
        appender.append(Output(TP.topic, b"k", b"refused"))
    assert appender.pending() == 1
    intruder.execute("ROLLBACK")
    intruder.close()
    until(lambda: appender.pending() == 0)
    appender.append(Output(TP.topic, b"k", b"goes on"))
    appender.close()
    assert [record.value for record in read_all(log, TP)] == [b"waits", b"goes on"]
    log.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 8 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount, umount = shutil.which("mount"), shutil.which("umount")
    command = [mount or "mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    if mount is None or os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("FULL DISK NOT TESTED: mounting a small filesystem takes root")
    yield folder
    subprocess.run([umount or "umount", "-l", str(folder)], check=True)


def test_a_full_disk_loses_nothing_and_goes_on_when_there_is_room(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(6_500_000))
    log = SqliteLog(small_disk / "log.db")
    log.create([TopicSpec(TP.topic, 1)])
    appender = log.appender()
    taken = 0
    with pytest.raises(DiskFull, match=r"log\.db: no room left"):
        for _ in range(2500):
            appender.append(Output(TP.topic, b"k", str(taken).encode() + bytes(1000)))
            taken += 1
        appender.flush()
    with pytest.raises(DiskFull):
        appender.flush()
    assert appender.pending() > 0
    ballast.unlink()
    until(lambda: appender.pending() == 0)
    appender.append(Output(TP.topic, b"k", b"last"))
    appender.close()
    read = [record.value.rstrip(b"\0") for record in read_all(log, TP)]
    assert read == [*(str(number).encode() for number in range(taken)), b"last"]
    log.close()


def test_a_transaction_on_a_full_disk_changes_nothing(small_disk: Path) -> None:
    log = SqliteLog(small_disk / "log.db")
    log.create([TopicSpec(TP.topic, 1), TopicSpec("market.features", 1)])
    consumer, _ = join(log, "g", TP.topic, "m")
    until(lambda: bool(consumer.poll(1, 0.1)) or bool(consumer.assignment()))
    transactor = log.transactor("t")
    for _ in range(20_000):
        transactor.append(Output("market.features", b"k", bytes(1000)))
    with pytest.raises(DiskFull):
        transactor.commit({TP: 3}, consumer)
    assert log.group_offsets("g", TP.topic) == {}
    assert log.bounds(TopicPartition("market.features", 0)).next == 0
    transactor.append(Output("market.features", b"k", b"small"))
    transactor.commit({TP: 4}, consumer)
    assert log.group_offsets("g", TP.topic) == {0: 4}
    transactor.close()
    consumer.close()
    log.close()


def test_append_waits_while_the_queue_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fluxforge.log.sqlite.appender.QUEUE_RECORDS", 100)
    log = SqliteLog(tmp_path / "log.db")
    log.create([TopicSpec(TP.topic, 1)])
    appender = log.appender()
    most = 0
    for number in range(3000):
        appender.append(Output(TP.topic, b"k", str(number).encode()))
        most = max(most, appender.pending())
    appender.close()
    assert most <= 100 + 100, "the queue, and the batch that is being stored"
    assert [int(record.value) for record in read_all(log, TP)] == list(range(3000))
    log.close()


class Patience(threading.Event):
    """Notes how long it was to be waited for, and does not wait."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: queue.Queue[float | None] = queue.Queue()

    def wait(self, timeout: float | None = None) -> bool:
        self.asked.put(timeout)
        return super().wait(0)


def test_records_are_gathered_for_as_long_as_the_setting_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLUXFORGE_BROKER__LINGER_MS", "2500")
    monkeypatch.setenv("FLUXFORGE_BROKER__URL", f"sqlite:///{tmp_path / 'log.db'}")
    monkeypatch.chdir(tmp_path)
    log = service.open_log(load())
    log.create([TopicSpec(TP.topic, 1)])
    appender = log.appender()
    assert isinstance(appender, SqliteAppender)
    appender._enough = patience = Patience()
    appender.append(Output(TP.topic, b"k", b"v"))
    assert patience.asked.get(timeout=30) == 2.5
    appender.close()
    assert len(read_all(log, TP)) == 1
    log.close()


def test_many_threads_append_through_one_appender(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.db")
    log.create([TopicSpec(TP.topic, 3)])
    appender = log.appender()

    def run(name: int) -> None:
        for number in range(500):
            appender.append(Output(TP.topic, f"k{name}".encode(), str(number).encode()))

    threads = [threading.Thread(target=run, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    appender.close()
    read = [record for number in range(3) for record in read_all(log, TopicPartition(TP.topic, number))]
    for name in range(4):
        mine = [int(record.value) for record in read if record.key == f"k{name}".encode()]
        assert mine == list(range(500))
    log.close()


def test_a_silent_member_is_replaced_after_its_session_and_fenced(tmp_path: Path) -> None:
    clock, other = HandClock(), HandClock()
    log = SqliteLog(tmp_path / "log.db", clock=clock)
    peer = SqliteLog(tmp_path / "log.db", clock=other, session=5.0)
    log.create(Topics().specs(2))
    silent, heard = join(log, "g", TP.topic, "silent")
    until(lambda: (silent.poll(1, 0.0), len(silent.assignment()) == 2)[1])
    silent._stop.set()  # type: ignore[attr-defined]
    heir, _ = join(peer, "g", TP.topic, "heir")

    def heir_holds(partitions: int) -> bool:
        heir.poll(1, 0.0)
        other.seconds += 0.3
        return len(heir.assignment()) == partitions

    for _ in range(10):
        assert heir_holds(0), "a session is five seconds: nothing is taken before"
    until(lambda: heir_holds(2))
    clock.seconds += 1
    silent.poll(1, 0.0)
    assert [what for what, _ in heard.heard] == ["assigned", "lost"]
    heir.close()
    silent.close()
    for one in (log, peer):
        one.close()


def test_compaction_drops_the_older_records_of_a_key_at_once(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.db")
    log.create([TopicSpec(TP.topic, 1, compact=True)])
    appender = log.appender()
    for number in range(50):
        appender.append(Output(TP.topic, f"k{number % 7}".encode(), str(number).encode()))
        if number % 20 == 0:
            appender.flush()
    appender.close()
    assert [(record.offset, record.value) for record in read_all(log, TP)] == [
        (number, str(number).encode()) for number in range(43, 50)
    ]
    assert log.bounds(TP) == (0, 50)
    log.close()
