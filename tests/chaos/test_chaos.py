"""Workers are killed, frozen, joined and sent away while a market runs; the rows are those of a quiet run, bit for bit.

CHAOS="faults=200 seed=7 log=kafka" sets how many faults, which, and on which log (`make chaos`). Only then do the
targets for the time that partitions stand still decide: a test run shares its machine, so it asks for three times them.
"""

from __future__ import annotations

import itertools
import os
import queue
import random
import signal
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from bar_builder.processor import BarProcessor
from chaos.compare import compare
from chaos.crew import AIMS, KINDS, Crew, Fault
from chaos.gauge import Feed, Gauge, Insight, Stalls
from chaos.recorder import At
from feature_engine.processor import FeatureProcessor
from fluxforge import codec
from fluxforge.events import AnyEvent
from fluxforge.kernels.config import BarConfig, FeatureConfig
from fluxforge.log import Log, Output, TopicPartition, open_log
from fluxforge.processor import Processor, Runtime
from fluxforge.processor.service import compile_kernel
from fluxforge.topics import Topics
from seeded_market import MS, market

PARTITIONS = 4
SYMBOLS = 8
RATE = 1000.0
CLEAN, TAKEOVER, READERS = 5.0, 10.0, 20.0
"""Targets (s): partitions stand still for a clean join or leave, for a killed worker; a reader for a dead one."""
SINGLE = 0.8
"""Share of the faults that are left to be overcome before the next one."""

ASKED = dict(item.split("=") for item in os.environ.get("CHAOS", "").split())
SEED = int(ASKED.get("seed", 1))
COUNTS = {"kafka": 10, "sqlite": 4}
if ASKED:
    COUNTS = {ASKED.get("log", "kafka"): int(ASKED.get("faults", 200))}
SLACK = 1.0 if ASKED else 3.0
MODULES = {"features": "feature_engine", "bars": "bar_builder"}
RESULTS = ("features", "trades", "ticker", "bars", "late", "dlq")


class Burst(NamedTuple):
    """Faults in quick succession, the s until their group was whole again, and what stood still meanwhile."""

    role: str
    faults: list[Fault]
    seconds: float
    stalls: Stalls

    def limit(self) -> float:
        """s that a partition may stand still; the targets are for one thing at a time."""
        alone = len(self.faults) == 1 and not self.faults[0].moved
        return sum(map(_limit, self.faults)) * (1.0 if alone else 2.0)


def _limit(fault: Fault) -> float:
    moved = CLEAN if fault.moved else 0.0
    if fault.kind in ("join", "leave"):
        return CLEAN
    if fault.kind.startswith("kill"):
        return TAKEOVER + moved
    return fault.frozen + CLEAN + moved


class Outcome(NamedTuple):
    """A role's run: its bursts, how often partitions moved, and the exit codes of workers that ended by themselves."""

    role: str
    bursts: list[Burst]
    counts: dict[str, int]
    ended: list[int]


@pytest.fixture
def chaos_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'chaos.db'}"
    url: str = request.getfixturevalue("kafka_url")
    return url


@pytest.mark.slow
@pytest.mark.timeout(120 + 20 * max(COUNTS.values()))
@pytest.mark.parametrize(
    ("chaos_url", "faults"),
    [pytest.param(log, n, id=log, marks=[pytest.mark.kafka] * (log == "kafka")) for log, n in COUNTS.items()],
    indirect=["chaos_url"],
)
def test_rows_survive_chaos_bit_for_bit(
    chaos_url: str, faults: int, topics: Topics, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Feature engine and bar builder over one raw topic, each with faults of its own at the same time."""

    def say(line: str) -> None:
        with capsys.disabled():
            print(line, flush=True)

    log = open_log(chaos_url)
    log.create(topics.specs(PARTITIONS, raw_retention_ms=-1))
    outcomes = run_chaos(log, chaos_url, faults, topics, tmp_path, say if ASKED else lambda line: None)
    quiet = Topics(f"{topics.prefix}quiet")
    log.create(quiet.specs(PARTITIONS))
    for role in MODULES:
        quiet_run(log, processor(role, quiet), topics.raw)
    rows = {name: compare(log, getattr(topics, name), getattr(quiet, name)) for name in RESULTS}
    log.close()
    assert all(rows.values()), f"some kind of row never came: {rows}"
    say(table(chaos_url, outcomes, rows))
    for outcome in outcomes:
        check(outcome)


def run_chaos(
    log: Log, url: str, faults: int, topics: Topics, folder: Path, say: Callable[[str], None]
) -> list[Outcome]:
    """Feed the market and inflict the faults on both roles."""
    for role in MODULES:
        compile_kernel(processor(role, topics))  # once, not by four workers at a time
    feed = Feed(Market(log, topics.raw).append, RATE)
    sieges = [Siege(url, role, topics, folder) for role in MODULES]
    try:
        with ThreadPoolExecutor(len(sieges)) as pool:
            lines: queue.SimpleQueue[str] = queue.SimpleQueue()
            stop = threading.Event()
            shares = (faults - faults // 2, faults // 2)
            running = [pool.submit(siege.lay, n, stop, lines.put) for siege, n in zip(sieges, shares, strict=True)]
            while not all(future.done() for future in running) or not lines.empty():
                with suppress(queue.Empty):
                    say(lines.get(timeout=0.2))
                if any(future.done() and future.exception() for future in running):
                    stop.set()
            outcomes = [future.result() for future in running]
        feed.stop()
        for siege in sieges:
            siege.finish()
    finally:
        feed.stop()
        for siege in sieges:
            siege.close()
    until_settled(url, [getattr(topics, name) for name in RESULTS])
    return outcomes


class Market:
    """All symbols' events in turn, with a record now and then that is none."""

    def __init__(self, log: Log, topic: str) -> None:
        self._appender, self._topic = log.appender(), topic
        self._events, self._rng = events(), random.Random(SEED)

    def append(self, count: int) -> bool:
        """The next events; false at the market's end."""
        left = count
        for partition, at, event in itertools.islice(self._events, count):
            key, headers = event.key.encode(), codec.headers(event)
            self._appender.append(Output(self._topic, key, codec.encode(event), headers, at // MS, partition))
            left -= 1
        if self._rng.random() < 0.02:
            self._appender.append(Output(self._topic, b"sim|C0/USDT", b"\xc1 no event", partition=0))
        self._appender.flush()
        return not left


def events() -> Iterator[tuple[int, int, AnyEvent]]:
    """(partition, capture time, event)."""

    def one(k: int) -> Iterator[tuple[int, int, AnyEvent]]:
        return ((k % PARTITIONS, at, event) for at, event in market(f"C{k}/USDT", SEED * 100 + k, 86_400))

    for row in zip(*map(one, range(SYMBOLS)), strict=False):
        yield from row


class Siege:
    """The workers of a role, and what is done to them."""

    def __init__(self, url: str, role: str, topics: Topics, folder: Path) -> None:
        self._role, self._rng = role, random.Random(f"{SEED} {role}")
        environ = {
            "FLUXFORGE_BROKER__URL": url,
            "FLUXFORGE_BROKER__PREFIX": topics.prefix,
            "FLUXFORGE_TOPICS__PARTITIONS": str(PARTITIONS),
            "FLUXFORGE_PROCESSOR__COMMIT_INTERVAL": "0.1",
            "FLUXFORGE_PROCESSOR__SNAPSHOT_INTERVAL": "3",
        }
        self._folder = folder
        self._crew = Crew(MODULES[role], environ, folder)
        output = topics.trades if role == "features" else topics.bars
        self._gauge = Gauge(url, f"{topics.prefix}.{role}", topics.raw, output)

    def lay(self, faults: int, stop: threading.Event, say: Callable[[str], object]) -> Outcome:
        """Inflict faults: most are left to be overcome before the next, so that partitions really move."""
        rng, crew = self._rng, self._crew
        crew.start()
        crew.start()
        self._gauge.await_past({}, lambda: crew.whole(PARTITIONS) and self._gauge.reading())
        bursts: list[Burst] = []
        done = 0
        while done < faults and not stop.is_set():
            size = min(1 if rng.random() < SINGLE else rng.randint(2, 3), faults - done)
            start = time.monotonic()
            self._gauge.begin()
            found = []
            for kind in rng.choices(list(KINDS), list(KINDS.values()), k=size):
                [aim] = rng.choices(list(AIMS), list(AIMS.values()))
                found.append(crew.inflict(kind, aim, rng))
                if len(found) < size:
                    time.sleep(rng.uniform(0.0, 3.0))
            self._until_whole()
            burst = Burst(self._role, found, time.monotonic() - start, self._gauge.stalls())
            bursts.append(burst)
            done += size
            say(f"{time.strftime('%X')} {self._role:9}{done:>4}/{faults}  {line(burst)}")
        return Outcome(self._role, bursts, crew.counts(), crew.ended)

    def finish(self) -> None:
        """Wait for the last event's rows, and end the workers."""
        self._until_whole()
        codes = self._crew.end()
        # A worker sent away before it had begun to serve has no handler yet: SIGTERM ends it.
        assert set(codes) <= {0, -signal.SIGTERM}, f"exit codes {codes}: see {self._folder}"

    def close(self) -> None:
        self._crew.end()
        self._gauge.close()

    def _until_whole(self) -> None:
        """Until all partitions are held, and what has come by then is done: by those who hold them now."""
        for ends in (dict[int, int], self._gauge.ends):
            self._gauge.await_past(ends(), lambda: self._crew.whole(PARTITIONS))


def until_settled(url: str, topics: list[str]) -> None:
    """Until no transaction of a dead worker keeps rows from readers."""
    insight, deadline = Insight(url, "nobody"), time.monotonic() + 120
    while not insight.settled(topics):
        assert time.monotonic() < deadline, "a dead worker's transaction stays open"
        time.sleep(0.1)
    insight.close()


def processor(role: str, topics: Topics) -> Processor:
    """With the defaults that the workers have."""
    return FeatureProcessor(FeatureConfig(), topics) if role == "features" else BarProcessor(BarConfig(), topics)


def quiet_run(log: Log, undisturbed: Processor, raw_topic: str) -> None:
    """The same raw topic, by one worker that nothing happens to."""
    group = f"quiet.{undisturbed.state_topic}"
    runtime = Runtime(log, undisturbed, raw_topic, group, "quiet")
    ends = {p: log.bounds(TopicPartition(raw_topic, p)).next for p in range(PARTITIONS)}
    while any(log.group_offsets(group, raw_topic).get(p, 0) < end for p, end in ends.items()):
        runtime.turn(0.05)
        runtime.commit()
    runtime.close()


def check(outcome: Outcome) -> None:
    """That the faults were real, that no worker fell, and that partitions stood still for no longer than they may."""
    assert not outcome.ended, f"{outcome.role}: workers ended by themselves with codes {outcome.ended}"
    faults = [fault for burst in outcome.bursts for fault in burst.faults]
    cleanly = sum(fault.kind in ("join", "leave") for fault in faults)
    assert outcome.counts["handed_over"] >= cleanly // 2, f"{cleanly} joins and leaves, but {outcome.counts}"
    assert outcome.counts["taken"] >= len(faults) // 2, f"{len(faults)} faults, but {outcome.counts}"
    if len(faults) >= 60:
        missed = [at.name for at in At if not any(fault.met & at for fault in faults)]
        assert not missed, f"{outcome.role}: no fault met a worker at {missed}"
    late = [line(b) for b in outcome.bursts if b.stalls.committed > SLACK * b.limit()]
    late += [line(b) for b in outcome.bursts if b.stalls.read > SLACK * max(READERS, b.limit())]
    assert not late, "stood still for too long:\n" + "\n".join(late)


def line(burst: Burst) -> str:
    """One burst."""
    names = " + ".join(f"{f.kind}{f' in {f.met.name}' if f.met else ''}" for f in burst.faults)
    committed, partition, read = burst.stalls
    stood = f"[{partition}] stalled {committed:.2f} of {burst.limit():.1f} s"
    return f"{names}: {burst.seconds:.1f} s; {stood}, readers {read:.2f} s"


def table(url: str, outcomes: list[Outcome], rows: dict[str, int]) -> str:
    """What was done, what it met, and how long partitions stood still."""
    lines = [f"\nchaos on {url.partition(':')[0]}, seed {SEED}, rows {rows}: 0 missing, 0 twice, 0 different"]
    for role, bursts, counts, _ in outcomes:
        faults = [fault for burst in bursts for fault in burst.faults]
        met = Counter(at.name for fault in faults for at in At if fault.met & at)
        lines.append(f"{role}: {len(faults)} faults; partitions {counts}; met in {dict(met)}")
    lines.append(f"{'one fault (s)':32}{'count':>6}{'median':>8}{'max':>8}{'limit':>8}{'readers':>9}")
    groups: dict[str, list[Burst]] = {}
    for burst in (burst for outcome in outcomes for burst in outcome.bursts):
        if len(burst.faults) == 1:
            [fault] = burst.faults
            groups.setdefault(fault.kind + (", others moving" if fault.moved else ""), []).append(burst)
    for name, bursts in sorted(groups.items()):
        stalled = sorted(burst.stalls.committed for burst in bursts)
        limit, read = (max(f(burst) for burst in bursts) for f in (Burst.limit, lambda b: b.stalls.read))
        lines.append(
            f"{name:32}{len(bursts):>6}{statistics.median(stalled):>8.2f}{stalled[-1]:>8.2f}{limit:>8.1f}{read:>9.2f}"
        )
    return "\n".join(lines)
