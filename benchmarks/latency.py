"""From an event's append to the moment its feature row can be read, on a real Kafka.

Producer, engine and reader are processes of their own on one machine, and so share its clock. Each event is stamped
(`capture_ts`) just before it is handed to the appender; a row carries the stamp of the event that it came of. The
engine is as it is shipped, but for its commit interval of 50 ms; a reader is read_committed. Event times of the keys
are shifted against one another, so that their rows (one a second and key) spread over the second.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from benchmarks.broker import broker
from benchmarks.history import REPOSITORY
from benchmarks.worker import crew
from confluent_kafka import Consumer, TopicPartition

from benchmarks import report, topic
from fluxforge.events import BookDelta, Trade
from fluxforge.log import open_log
from fluxforge.topics import Topics

PARTITIONS, KEYS, LEVELS = 4, 100, 1000
RATES = (1000, 5000, 20_000)
ROUNDS = 3
SECONDS, WARM_UP = 10.0, 3.0
COMMIT_INTERVAL = 0.05
ALLOWANCE_MS = 50.0
NS = 1_000_000_000


def run() -> None:
    """Measure and print."""
    found: dict[int, list[dict[str, float]]] = {rate: [] for rate in RATES}
    with broker() as bootstrap:
        for number in range(ROUNDS):
            for rate in RATES:
                found[rate].append(measure(bootstrap, f"latency{rate}x{number}", rate))
    medians = {rate: {k: statistics.median(r[k] for r in rounds) for k in rounds[0]} for rate, rounds in found.items()}
    keys = ("reached", "rows", "p50", "p99", "max", "commit_p50", "commit_p99")
    report.table(
        f"ms from append to readable row; commit interval {COMMIT_INTERVAL * 1000:g} ms, {KEYS} keys, "
        f"{PARTITIONS} partitions, medians of {ROUNDS} rounds of {SECONDS:g} s",
        ("events/s", "reached", "rows", "p50", "p99", "max", "commit p50", "commit p99", "allowed p99"),
        [(f"{rate:,}", *(of[k] for k in keys), allowed(of)) for rate, of in medians.items()],
    )
    at_5k = medians[5000]
    report.result(
        "latency",
        {
            "p99_ms_5k": at_5k["p99"],
            "commit_interval_ms": COMMIT_INTERVAL * 1000,
            "commit_p99_ms": at_5k["commit_p99"],
            "allowed_p99_ms_5k": allowed(at_5k),
            **{f"{k}_ms_{rate // 1000}k": of[k] for rate, of in medians.items() for k in ("p50", "p99", "max")},
        },
    )


def allowed(of: dict[str, float]) -> float:
    """Commit interval and the measured p99 of a commit, and 50 ms, in ms."""
    return COMMIT_INTERVAL * 1000 + of["commit_p99"] + ALLOWANCE_MS


def measure(bootstrap: str, prefix: str, rate: int) -> dict[str, float]:
    """One rate: the latencies in ms, those of the commits, and the rate that was reached."""
    log = open_log(f"kafka://{bootstrap}")
    log.create(Topics(prefix).specs(PARTITIONS, raw_retention_ms=-1))
    log.close()
    reader = child("read", bootstrap, prefix, 0)
    try:
        with crew(bootstrap, prefix, PARTITIONS, commit_interval=COMMIT_INTERVAL) as [engine]:
            producer = child("produce", bootstrap, prefix, rate)
            sent = answer(producer)
            seen = answer(reader)
            commits = [(ended, spent * 1000) for ended, spent in engine.leave()["commits"]]
    finally:
        reader.kill()
        reader.wait()
    took = np.array(seen["took"]) / 1e6
    p50, p99 = np.percentile(took, (50, 99))
    steady = [spent for ended, spent in commits if ended >= commits[0][0] + WARM_UP]
    commit_p50, commit_p99 = np.percentile(steady, (50, 99))
    return {
        **{"reached": round(sent["rate"]), "rows": len(took), "p50": p50, "p99": p99, "max": float(took.max())},
        **{"commit_p50": commit_p50, "commit_p99": commit_p99},
    }


def child(side: str, bootstrap: str, prefix: str, rate: int) -> subprocess.Popen[str]:
    """Producer or reader."""
    command = [sys.executable, "-m", "benchmarks.latency", side, bootstrap, prefix, str(rate)]
    return subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)


def answer(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Its one line. Raises RuntimeError without one."""
    assert process.stdout
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"a child ended with code {process.wait()}")
    said: dict[str, Any] = json.loads(line)
    return said


def produce(bootstrap: str, prefix: str, rate: int) -> None:
    """Every key's book, then one diff to three trades at a fixed rate; says the rate that it reached."""
    topics = Topics(prefix)
    [first, *_] = topic.keyed("S/USDT", 1, LEVELS)
    deltas = [event for event in topic.template() if isinstance(event, BookDelta)]
    trades = [event for event in topic.template() if isinstance(event, Trade)]
    appender = open_log(f"kafka://{bootstrap}").appender()
    total = int(rate * (SECONDS + WARM_UP))
    started, sent = time.monotonic(), 0
    while sent < total:
        due = min(total, int((time.monotonic() - started) * rate))
        for number in range(sent, due):
            place, key = divmod(number, KEYS)
            source = first
            if place:  # the diffs of a key in their order, those of the keys not all at once
                turn, rest = divmod(place + key % 3, 4)
                source = deltas[turn] if rest == 3 else trades[3 * turn + rest]
            now = time.time_ns()
            event = msgspec.structs.replace(
                source, symbol=f"S{key:04d}/USDT", ts=now - key * NS // KEYS, capture_ts=now
            )
            appender.append(topic.record(topics, event, key % PARTITIONS))
        sent = due
        time.sleep(0.0005)
    elapsed = time.monotonic() - started
    appender.flush()
    print(json.dumps({"rate": sent / elapsed}), flush=True)


class Stamp(msgspec.Struct):
    """What the reader wants of a row."""

    capture_ts: int


def read(bootstrap: str, prefix: str, _rate: int) -> None:
    """Rows as they become readable, until none comes for 3 s; their ages in ns, those of the warm-up left out."""
    consumer = Consumer(
        {
            **{"bootstrap.servers": bootstrap, "group.id": "reader", "enable.auto.commit": False},
            **{"isolation.level": "read_committed", "auto.offset.reset": "earliest"},
        }
    )
    consumer.assign([TopicPartition(Topics(prefix).features, partition, 0) for partition in range(PARTITIONS)])
    decode = msgspec.json.Decoder(Stamp).decode
    stamps: list[tuple[int, int]] = []
    parent, last = os.getppid(), time.monotonic()
    while (not stamps or time.monotonic() - last < 3.0) and os.getppid() == parent:
        messages = consumer.consume(1, 0.1)
        messages += consumer.consume(1000, 0) if messages else []
        now = time.time_ns()
        for message in messages:
            stamps.append((decode(message.value() or b"").capture_ts, now))
            last = time.monotonic()
    consumer.close()
    since = stamps[0][0] + WARM_UP * NS
    print(json.dumps({"took": [seen - stamp for stamp, seen in stamps if stamp >= since]}), flush=True)


def main(arguments: Sequence[str]) -> None:
    """A child's side."""
    side, bootstrap, prefix, rate = arguments
    {"produce": produce, "read": read}[side](bootstrap, prefix, int(rate))


if __name__ == "__main__":
    main(sys.argv[1:])
