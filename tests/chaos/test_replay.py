"""A replay is killed at random moments, and taken over while it still runs: its topic is the source, record for record.

CHAOS="faults=80 seed=7" sets how many faults and which (`make chaos`): a quarter of them, 20 by default there.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from fluxforge.log import Log
from fluxforge.replay import clean
from fluxforge.replay.topics import load
from fluxforge.topics import Topics
from shared.replay import market

REPLAYER = Path(__file__).with_name("replayer.py")
ASKED = dict(item.split("=") for item in os.environ.get("CHAOS", "").split())
SEED = int(ASKED.get("seed", 1))
FAULTS = max(6, int(ASKED.get("faults", 24)) // 4)
RECORDS, PARTITIONS, TURN = 250 * FAULTS, 3, 0.02
WITHIN = 60.0


@pytest.mark.slow
@pytest.mark.timeout(240 + 20 * FAULTS)
def test_killed_at_random_moments(
    log: Log, log_url: str, topics: Topics, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random(SEED)
    source = market.fill(tmp_path / "data", RECORDS, PARTITIONS)
    words = (log_url, str(tmp_path / "data"), topics.prefix, str(TURN))
    reached: list[int] = []
    faults: Counter[str] = Counter()
    done = False
    while not done:
        runner = subprocess.Popen(
            [sys.executable, str(REPLAYER), *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert runner.stdout is not None
        if faults.total() == FAULTS:
            assert runner.wait(WITHIN) == 0
            done = True
            continue
        before = reached[-1] if reached else 0
        kind = rng.choice(["kill", "kill", "kill", "start", "takeover"])
        faults[kind] += 1
        if kind == "start":
            time.sleep(rng.uniform(0.0, 1.2))  # while it opens the log, takes over, reads how far it is
        else:
            assert runner.stdout.readline() == "running\n"
            until(lambda before=before, runner=runner: written(log, topics) > before or runner.poll() is not None)  # type: ignore[misc]
            time.sleep(rng.uniform(0.0, 0.15))
        if kind == "takeover":
            other = subprocess.Popen([sys.executable, str(REPLAYER), *words], stdout=subprocess.PIPE, text=True)
            assert other.stdout is not None
            other.stdout.readline()
            runner.wait(WITHIN)
            assert runner.returncode != -signal.SIGKILL
            other.kill()
            other.wait()
            other.stdout.close()
        runner.kill()
        runner.wait()
        runner.stdout.close()
        reached.append(written(log, topics))
    runner.stdout.close()
    target = f"replay.{topics.prefix}.market.raw"
    got = market.read(log, target)
    for partition, records in source.items():
        assert market.bare(got[partition]) == market.bare(records)
        assert [market.header(one, "source-offset") for one in got[partition]] == [str(one.offset) for one in records]
    assert reached == sorted(reached) and reached[-1] < RECORDS, "the faults met it at work"
    assert len(set(reached)) > FAULTS // 3
    if ASKED:
        with capsys.disabled():
            print(f"\n{log_url.partition(':')[0]}: {dict(faults)}; records at each: {reached} of {RECORDS}")
    clean(log, topics.prefix)


def written(log: Log, topics: Topics) -> int:
    state = load(log, topics.prefix)
    return 0 if state is None else state.written


def until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN
    while not reached():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.005)
