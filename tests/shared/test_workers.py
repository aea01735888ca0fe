"""`--workers N`: processes that share the work, and the one that watches over them."""

from __future__ import annotations

import itertools
import logging
import os
import random
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bar_builder.processor import BarProcessor
from contract.log_drive import read_all, until
from fluxforge import codec, service, workers
from fluxforge.errors import FluxForgeError
from fluxforge.kernels.config import BarConfig
from fluxforge.log import Log, Output, TopicPartition, open_log
from fluxforge.processor import Runtime
from fluxforge.service import Stop
from fluxforge.topics import Topics
from seeded_market import MS, market

PROGRAM = """
import sys, time
from pathlib import Path
from fluxforge import service
from fluxforge.errors import ConfigError

def check(settings):
    yield "all well"

def serve(settings, stop):
    member = Path(settings.processor.member)
    member.with_suffix(".up").write_text("")
    stop.wait()
    time.sleep(0.3)
    member.with_suffix(".flushed").write_text("")

def choosy(settings, stop):
    if settings.processor.member == "m-2":
        raise ConfigError("no.such.key: no such key")
    serve(settings, stop)

roles = {name: service.Role(check, globals()[name], group=True) for name in ("serve", "choosy")}
if __name__ == "__main__":
    raise SystemExit(service.main("probe", roles))
"""


class Program:
    """A supervisor of workers, what it and they print, and their processes by name."""

    def __init__(self, folder: Path, module: str, *options: str, **environ: str) -> None:
        self._path = folder / "output.txt"
        with self._path.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, "--metrics-port", "off", *options],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=folder,
                env={**os.environ, "FLUXFORGE_PROCESSOR__MEMBER": "m", **environ},
            )

    @property
    def output(self) -> str:
        return self._path.read_text(encoding="utf-8")

    def pids(self) -> dict[str, list[int]]:
        """Every process so far by worker."""
        found: dict[str, list[int]] = {}
        for name, pid in re.findall(r"worker \w+ (\S+) is process (\d+)$", self.output, re.MULTILINE):
            found.setdefault(name, []).append(int(pid))
        return found

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for pids in self.pids().values():
            until(lambda pids=pids: not any(map(alive, pids)))  # type: ignore[misc]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Program]]:
    """Programs that do not outlive their test."""
    (tmp_path / "probe.py").write_text(textwrap.dedent(PROGRAM))
    started: list[Program] = []

    def one(module: str, *options: str, **environ: str) -> Program:
        started.append(Program(tmp_path, module, *options, **environ))
        return started[-1]

    yield one
    for program in started:
        program.end()


def alive(pid: int) -> bool:
    """Whether a process runs; one that is dead and not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def names(folder: Path, suffix: str) -> set[str]:
    return {path.stem for path in folder.glob(f"*.{suffix}")}


THREE = {"m-1", "m-2", "m-3"}


def test_a_signal_ends_all_in_order(start: Callable[..., Program], tmp_path: Path) -> None:
    """One signal each: a second one would cut their last commit short."""
    program = start("probe", "--workers", "3")
    until(lambda: names(tmp_path, "up") == THREE)
    program.process.terminate()
    assert program.process.wait(30) == 0, program.output
    assert names(tmp_path, "flushed") == THREE


def test_a_signal_at_once_is_no_failure(start: Callable[..., Program]) -> None:
    """Workers that have not begun to serve are ended by it, and have nothing to finish."""
    program = start("probe", "--workers", "2")
    until(lambda: len(program.pids()) == 2)
    program.process.terminate()
    assert program.process.wait(30) == 0, program.output


def test_workers_end_in_order_when_the_supervisor_is_killed(start: Callable[..., Program], tmp_path: Path) -> None:
    program = start("probe", "--workers", "3")
    until(lambda: names(tmp_path, "up") == THREE)
    program.process.kill()
    until(lambda: names(tmp_path, "flushed") == THREE)
    until(lambda: not any(alive(pid) for pids in program.pids().values() for pid in pids))


def test_a_worker_that_is_misconfigured_ends_them_all(start: Callable[..., Program], tmp_path: Path) -> None:
    program = start("probe", "--workers", "3", "--role", "choosy")
    assert program.process.wait(30) == service.MISCONFIGURED
    assert "error: no.such.key: no such key" in program.output
    assert "error: worker probe m-2 refuses its configuration" in program.output
    assert "Traceback" not in program.output
    assert names(tmp_path, "flushed") == names(tmp_path, "up") <= {"m-1", "m-3"}
    assert not any(alive(pid) for pids in program.pids().values() for pid in pids)


@pytest.mark.parametrize(("steady", "waits"), [(30.0, ["0.2", "0.4", "0.8"]), (0.0, ["0.2", "0.2", "0.2"])])
def test_a_worker_that_dies_again_and_again_waits_longer(
    steady: float, waits: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """But one that had lived long enough begins anew."""
    monkeypatch.setattr(workers, "STEADY", steady)
    worker = workers.Worker("w", ["json.tool", "--no-such-option"], {})
    monkeypatch.setattr(workers, "_MISCONFIGURED", 3)  # json.tool's code for a wrong option is 2

    def announced() -> list[str]:
        return re.findall(r"ended with code 2, starting it again in (\S+) s", caplog.text)

    with caplog.at_level(logging.WARNING):
        deadline = time.monotonic() + 120
        while len(announced()) < 3 and time.monotonic() < deadline:
            worker.watch()
            time.sleep(0.01)
    worker.terminate()
    assert announced() == waits
    assert not worker.join(10.0), "an earlier death is no failure of the shutdown"


def test_a_worker_that_hangs_is_killed_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "STOP_SECONDS", 0.2)
    (tmp_path / "deaf.py").write_text(
        "import pathlib, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "pathlib.Path(sys.argv[1]).touch()\n"
        "time.sleep(600)\n"
    )
    worker = workers.Worker("w", ["deaf", str(tmp_path / "deaf.up")], {"PYTHONPATH": str(tmp_path)})
    until((tmp_path / "deaf.up").exists)
    stopped = Stop()
    stopped.set()
    with pytest.raises(FluxForgeError, match="worker w had to be killed"):
        workers.supervise([worker], stopped)
    assert not alive(worker.pid)


PARTITIONS = 6
TOPICS, QUIET = Topics("test"), Topics("quiet")


def fill(log: Log, count: int, events: Iterator[Output]) -> None:
    appender = log.appender()
    for output in itertools.islice(events, count):
        appender.append(output)
    appender.close()


def outputs() -> Iterator[Output]:
    """Events of twelve markets, two a partition."""
    streams = [market(f"S{k}/USDT", k, 3600) for k in range(2 * PARTITIONS)]
    rng = random.Random(1)
    while True:
        k = rng.randrange(len(streams))
        time_, event = next(streams[k])
        key = event.key.encode()
        yield Output(TOPICS.raw, key, codec.encode(event), codec.headers(event), time_ // MS, k % PARTITIONS)


def test_workers_share_one_group_and_a_killed_one_comes_back_under_its_name(
    start: Callable[..., Program], tmp_path: Path
) -> None:
    """Three bar builders, one killed: every row once and in order, and everything committed at the end."""
    url, group = f"sqlite:///{tmp_path / 'log.db'}", "test.bars"
    log = open_log(url)
    log.create(TOPICS.specs(PARTITIONS, raw_retention_ms=-1))
    events = outputs()
    fill(log, 3000, events)
    program = start(
        "bar_builder",
        *("--workers", "3"),
        FLUXFORGE_BROKER__URL=url,
        FLUXFORGE_BROKER__PREFIX=TOPICS.prefix,
        FLUXFORGE_TOPICS__PARTITIONS=str(PARTITIONS),
        FLUXFORGE_PROCESSOR__COMMIT_INTERVAL="0.1",
    )

    def takers() -> list[str]:
        return re.findall(r"  (\S+) takes partitions \[", program.output)

    until(lambda: set(takers()) == THREE, 60.0)
    fill(log, 3000, events)
    until(lambda: log.group_offsets(group, TOPICS.raw) == ends(log), 60.0)
    os.kill(program.pids()["m-2"][0], signal.SIGKILL)
    fill(log, 3000, events)
    until(lambda: len(program.pids()["m-2"]) == 2)
    back = takers().count("m-2")
    until(lambda: takers().count("m-2") > back, 60.0)
    fill(log, 3000, events)
    program.process.terminate()
    assert program.process.wait(60) == 0, program.output
    assert {name: len(pids) for name, pids in program.pids().items()} == {"m-1": 1, "m-2": 2, "m-3": 1}

    assert program.output.count("bar_builder (builder) stopped") == 3, program.output

    drain(log, TOPICS, group)
    drain(log, QUIET, "quiet")
    for partition in range(PARTITIONS):
        got, wanted = (
            [(record.key, record.value) for record in read_all(log, TopicPartition(topics.bars, partition))]
            for topics in (TOPICS, QUIET)
        )
        assert got == wanted, f"partition {partition}"
        assert len({key for key, _ in got}) == 2
    log.close()


def drain(log: Log, topics: Topics, group: str) -> None:
    """What is left of the raw topic, by one worker."""
    log.create(topics.specs(PARTITIONS))
    runtime = Runtime(log, BarProcessor(BarConfig(), topics), TOPICS.raw, group, "one")
    while log.group_offsets(group, TOPICS.raw) != ends(log):
        runtime.turn(0.01)
        runtime.commit()
    runtime.close()


def ends(log: Log) -> dict[int, int]:
    return {p: log.bounds(TopicPartition(TOPICS.raw, p)).next for p in range(PARTITIONS)}


def test_an_unknown_option_of_the_log_is_the_workers_and_ends_them_all(start: Callable[..., Program]) -> None:
    """What only a worker can find out; no broker is asked for it."""
    program = start(
        "bar_builder",
        *("--workers", "2"),
        FLUXFORGE_BROKER__URL="kafka://127.0.0.1:1",
        FLUXFORGE_BROKER__PROPERTIES='{"no.such.property": "1"}',
    )
    assert program.process.wait(60) == service.MISCONFIGURED, program.output
    assert "no.such.property" in program.output
