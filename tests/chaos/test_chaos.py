"""Workers are killed, frozen, joined and sent away while a market runs; the rows are those of a quiet run, bit for bit.

CHAOS="faults=200 seed=7 log=sqlite" sets how many faults, which, and on which log (`make chaos`).
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from bar_builder.processor import BarProcessor
from chaos.crew import FAULTS, WEIGHTS, Crew, Fault, Feed, Lookout
from feature_engine.processor import FeatureProcessor
from fluxforge import codec, rows
from fluxforge.events import AnyEvent
from fluxforge.kernels.config import BarConfig, FeatureConfig
from fluxforge.log import Headers, Log, Output, TopicPartition, open_log
from fluxforge.processor import Processor, Runtime
from fluxforge.topics import Topics
from seeded_market import MS, market

Entry = tuple[bytes | None, bytes, Headers]
"""Key, value and headers of a record."""
PARTITIONS = 4
SYMBOLS = 8
RATE = 1200.0
TAKEOVER, CLEAN, FROZEN = 10.0, 5.0, 20.0
"""s until a killed, a cleanly changed, and a frozen and woken worker's partitions go on."""
LIMITS = dict(zip(FAULTS, (TAKEOVER, TAKEOVER, CLEAN, FROZEN, CLEAN, CLEAN), strict=True))

ASKED = dict(item.split("=") for item in os.environ.get("CHAOS", "").split())
COUNT, SEED = int(ASKED.get("faults", 30)), int(ASKED.get("seed", 1))


@pytest.fixture
def chaos_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if ASKED.get("log") == "sqlite":
        return f"sqlite:///{tmp_path / 'chaos.db'}"
    url: str = request.getfixturevalue("kafka_url")
    return url


def events() -> Iterator[tuple[int, int, AnyEvent]]:
    """(partition, capture time, event) of all symbols in turn."""

    def one(k: int) -> Iterator[tuple[int, int, AnyEvent]]:
        return ((k % PARTITIONS, at, event) for at, event in market(f"C{k}/USDT", SEED * 100 + k, 86_400))

    for row in zip(*map(one, range(SYMBOLS)), strict=False):
        yield from row


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.timeout(60 + 20 * COUNT)
@pytest.mark.parametrize(("role", "faults"), [("features", COUNT - COUNT // 3), ("bars", COUNT // 3)])
def test_rows_survive_chaos_bit_for_bit(
    role: str, faults: int, chaos_url: str, topics: Topics, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = open_log(chaos_url)
    log.create(topics.specs(PARTITIONS, raw_retention_ms=-1))
    quiet = Topics(f"{topics.prefix}quiet")
    log.create(quiet.specs(PARTITIONS))
    found, ended = run_chaos(log, chaos_url, role, faults, topics, tmp_path)
    quiet_run(log, processor(role, quiet), topics.raw)
    compared = compare(log, topics, quiet)
    log.close()
    with capsys.disabled():
        print(table(role, found, compared, ended))
    late = [fault for fault in found if fault.seconds > LIMITS[fault.kind]]
    assert not late, f"took too long: {late}"


def run_chaos(log: Log, url: str, role: str, faults: int, topics: Topics, folder: Path) -> tuple[list[Fault], int]:
    """Feed the market and inflict the faults; returns what they took, and how often a worker ended by itself."""
    rng = random.Random(SEED)
    stream, appender = events(), log.appender()

    def append(count: int) -> bool:
        for partition, at, event in itertools.islice(stream, count):
            key = event.key.encode()
            appender.append(Output(topics.raw, key, codec.encode(event), codec.headers(event), at // MS, partition))
        if rng_bad.random() < 0.02:
            appender.append(Output(topics.raw, b"sim|C0/USDT", b"\xc1 no event", partition=0))
        appender.flush()
        return True

    rng_bad = random.Random(SEED)
    module = {"features": "feature_engine", "bars": "bar_builder"}[role]
    crew = Crew(module, environment(url, topics), folder)
    lookout = Lookout(log, f"{topics.prefix}.{role}", topics.raw)
    found: list[Fault] = []
    ended = 0
    crew.start()
    crew.start()
    feed = Feed(append, RATE)

    def revive() -> None:
        nonlocal ended
        ended += crew.revive()

    try:
        lookout.await_past(dict.fromkeys(range(PARTITIONS), 1), 60.0, revive)
        for kind in rng.choices(FAULTS, WEIGHTS, k=faults):
            happened = crew.inflict(kind, rng)
            found.append(Fault(happened, lookout.await_past(lookout.ends(), 60.0, revive)))
        feed.stop()
        lookout.await_past(lookout.ends(), 60.0, revive)
    finally:
        feed.stop()
        codes = crew.end()
        appender.close()
    # A worker sent away before it had begun to serve has no handler yet: SIGTERM ends it.
    assert set(codes) <= {0, -signal.SIGTERM}, f"exit codes {codes}: see {folder}"
    return found, ended


def environment(url: str, topics: Topics) -> dict[str, str]:
    return {
        "FLUXFORGE_BROKER__URL": url,
        "FLUXFORGE_BROKER__PREFIX": topics.prefix,
        "FLUXFORGE_TOPICS__PARTITIONS": str(PARTITIONS),
        "FLUXFORGE_PROCESSOR__COMMIT_INTERVAL": "0.1",
        "FLUXFORGE_PROCESSOR__SNAPSHOT_INTERVAL": "3",
    }


def processor(role: str, topics: Topics) -> Processor:
    """With the defaults that the workers have."""
    return FeatureProcessor(FeatureConfig(), topics) if role == "features" else BarProcessor(BarConfig(), topics)


def quiet_run(log: Log, undisturbed: Processor, raw_topic: str) -> None:
    """The same raw topic, by one worker that nothing happens to."""
    group = f"quiet.{undisturbed.state_topic}"
    runtime = Runtime(log, undisturbed, raw_topic, group, "quiet")
    lookout = Lookout(log, group, raw_topic)
    while any(log.group_offsets(group, raw_topic).get(p, 0) < end for p, end in lookout.ends().items()):
        runtime.turn(0.05)
        runtime.commit()
    runtime.close()


def compare(log: Log, ours: Topics, quiet: Topics) -> dict[str, int]:
    """Rows by topic; every partition must hold the same rows in the same order."""
    counts = {}
    for name in ("features", "trades", "ticker", "bars", "late", "dlq"):
        mine, theirs = (read(log, getattr(topics, name)) for topics in (ours, quiet))
        for partition, (got, wanted) in enumerate(zip(mine, theirs, strict=True)):
            missing, extra = set(wanted) - set(got), set(got) - set(wanted)
            what = f"{name}[{partition}]: {len(missing)} missing, {len(extra)} not in the quiet run"
            assert not missing and not extra, f"{what}; {differences(got, wanted)}"
            assert len(got) == len(set(got)), f"{name}[{partition}]: {len(got) - len(set(got))} twice"
            assert got == wanted, f"{name}[{partition}]: the order differs"
        counts[name] = sum(map(len, mine))
    assert sum(counts.values()), "no rows at all: nothing was shown"
    return counts


def differences(got: Sequence[Entry], wanted: Sequence[Entry]) -> str:
    """The first place where two topics part, and how often each field differs at equal places."""
    fields: Counter[str] = Counter()
    first = None
    for mine, theirs in zip(got, wanted, strict=False):
        if mine != theirs and mine[1][:1] == theirs[1][:1] == b"{":
            a, b = rows.decode(mine[1]), rows.decode(theirs[1])
            first = first or {k: a.get(k) for k in ("symbol", "source_offset", "timestamp")}
            fields.update(k for k in a | b if a.get(k) != b.get(k))
    return f"{len(got)} and {len(wanted)} records, first at {first}, fields {fields.most_common(12)}"


def read(log: Log, topic: str) -> list[list[Entry]]:
    """Key, value and headers of every record by partition, without a letter's source topic: it bears the run's name."""
    found = []
    for partition in range(log.partitions(topic)):
        first, end = log.bounds(TopicPartition(topic, partition))
        reader = log.reader(TopicPartition(topic, partition), first)
        records: list[Entry] = []
        while first < end:
            batch = reader.read(5000, 1.0)
            for record in batch.records:
                headers = tuple(header for header in record.headers if header[0] != "source-topic")
                records.append((record.key, record.value, headers))
            first = batch.next_offset
        reader.close()
        found.append(records)
    return found


def table(role: str, faults: list[Fault], counts: dict[str, int], ended: int) -> str:
    lines = [
        f"\nchaos on {role}, seed {SEED}: {len(faults)} faults; {ended} workers ended by themselves; rows {counts}"
    ]
    lines.append(f"{'fault':26}{'count':>6}{'median s':>10}{'max s':>8}{'limit':>8}")
    for kind in FAULTS:
        seconds = [fault.seconds for fault in faults if fault.kind == kind]
        if seconds:
            middle = statistics.median(seconds)
            lines.append(f"{kind:26}{len(seconds):>6}{middle:>10.2f}{max(seconds):>8.2f}{LIMITS[kind]:>8.0f}")
    lines.append("0 missing, 0 twice, 0 different")
    return "\n".join(lines)
