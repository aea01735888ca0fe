"""The feature engine from topic to topic on a real Kafka, beside a bare consumer and a quixstreams application.

CPU is user + system of each side's whole process, librdkafka's threads included, from its first record on.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks.broker import broker
from benchmarks.history import REPOSITORY

from benchmarks import report, topic
from fluxforge.log import Log, open_log
from fluxforge.topics import Topics

PARTITIONS, SYMBOLS, LEVELS = 4, 4, 1000
EVENTS, ROUNDS = 60_000, 3
QUIX_EVENTS = 2_000
SIDES = ("consume", "decode", "produce", "features", "engine")
_NAMES = {
    "consume": "consume(1000), dropped",
    "decode": "consume(1000), decoded, dropped",
    "produce": "the same, a ready row produced for each trade",
    "features": "feature engine, feature rows only",
    "engine": "feature engine, with enriched trades",
}


def run() -> None:
    """Measure and print."""
    with broker() as bootstrap:
        log = open_log(f"kafka://{bootstrap}")
        topics = Topics("bench")
        count = topic.fill(log, topics, SYMBOLS, EVENTS, PARTITIONS, LEVELS)
        found: dict[str, list[float]] = {side: [] for side in SIDES}
        peer: list[float | None] = []
        for number in range(ROUNDS):
            for side in SIDES:
                answer = child(side, bootstrap, topics.prefix, count)
                found[side].append(answer["cpu"] / answer.get("events", count) * 1e6)
            peer.append(quixstreams(log, bootstrap, f"quix{number}"))
        log.close()
    micros = {side: statistics.median(values) for side, values in found.items()}
    measured = [spent for spent in peer if spent is not None]
    quix = statistics.median(measured) if measured else None
    floor = micros["decode"]
    rows: list[Sequence[object]] = [
        (_NAMES[side], micros[side], micros[side] / floor, quix / micros[side] if quix else None) for side in SIDES
    ]
    rows.append(("quixstreams, feature rows only", quix, quix / floor if quix else None, 1.0 if quix else None))
    title = f"CPU of a whole process, {count} events of {SYMBOLS} keys, {PARTITIONS} partitions"
    report.table(title, ("", "µs/event", "× consume+decode", "quixstreams ÷ it"), rows)
    report.result(
        "engine",
        {
            "consume_decode_ratio": micros["engine"] / floor,
            "produce_floor_ratio": micros["produce"] / floor,
            "engine_to_produce_floor": micros["engine"] / micros["produce"],
            "features_only_ratio": micros["features"] / floor,
            "quix_ratio": quix / micros["features"] if quix else None,
            "quix_ratio_with_trades": quix / micros["engine"] if quix else None,
            "us_per_event": micros["engine"],
            "features_only_us_per_event": micros["features"],
            "quix_us_per_event": quix,
        },
    )


def child(
    side: str, bootstrap: str, prefix: str, count: int, *more: str, module: str = "benchmarks.children"
) -> dict[str, Any]:
    """One side in a process of its own."""
    words = (side, bootstrap, prefix, str(PARTITIONS), str(count), *more)
    command = [sys.executable, "-m", module, *words]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=300)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def quixstreams(log: Log, bootstrap: str, prefix: str) -> float | None:
    """µs per event of the peer, on fewer events: it is that much slower. None, said aloud, where it cannot run."""
    tools = REPOSITORY / ".tools" / "bin" / "uv"
    uv = shutil.which("uv") or (str(tools) if tools.exists() else None)
    if uv is None:
        print("QUIXSTREAMS NOT MEASURED: there is no uv to run it in an environment of its own", file=sys.stderr)
        return None
    topics = Topics(prefix)
    count = topic.fill(log, topics, SYMBOLS, QUIX_EVENTS, PARTITIONS, LEVELS)
    script = REPOSITORY / "benchmarks" / "peers" / "quix_features.py"
    command = [uv, "run", "--no-project", "--script", str(script), bootstrap, topics.raw, f"{prefix}.rows"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode:
        print(f"QUIXSTREAMS NOT MEASURED: it failed:\n{done.stderr[-2000:]}", file=sys.stderr)
        return None
    answer = json.loads(done.stdout.splitlines()[-1])
    if answer["events"] != count:
        print(f"QUIXSTREAMS NOT MEASURED: it saw {answer['events']} of {count} events", file=sys.stderr)
        return None
    return float(answer["cpu"]) / count * 1e6
