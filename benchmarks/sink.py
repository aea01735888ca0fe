"""The Bronze sink from a real Kafka to disk, beside a bare consumer and pyarrow's own writer; bytes an event; memory.

CPU is user + system of each side's whole process, librdkafka's threads included: of the sink once it has read a quarter
of the records, of the others from the first one on.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence

from benchmarks.broker import broker
from benchmarks.engine import child
from benchmarks.history import REPOSITORY

from benchmarks import report, sizes, topic
from fluxforge.events import AnyEvent, Heartbeat, Ticker
from fluxforge.log import Log, open_log
from fluxforge.topics import Topics

PARTITIONS, SYMBOLS, LEVELS = 4, 12, 1000
EVENTS, ROUNDS = 240_000, 5
KEYS, FOUR_CHANNELS = 1_000, 25_000
SIDES = ("consume", "decode", "sink", "arrow")
_NAMES = {
    "consume": "consume(1000), dropped",
    "decode": "consume(1000), decoded, dropped",
    "sink": "Bronze sink",
    "arrow": "pyarrow's own writer, arrays ready in memory, no consumer",
}


def run() -> None:
    """Measure and print."""
    with broker() as bootstrap, tempfile.TemporaryDirectory() as scratch:
        log = open_log(f"kafka://{bootstrap}")
        topics = Topics("bench")
        count = topic.fill(log, topics, SYMBOLS, EVENTS, PARTITIONS, LEVELS)
        found: dict[str, list[float]] = {side: [] for side in SIDES}
        for number in range(ROUNDS):
            for side in SIDES:
                answer = run_side(side, bootstrap, topics.prefix, count, f"{scratch}/{side}{number}")
                found[side].append(answer["cpu"] / answer.get("events", count) * 1e6)
        memory = {
            "bronze": sink_memory(log, bootstrap, f"{scratch}/memory"),
            "lake": run_side("lake_memory", bootstrap, "lake", KEYS, f"{scratch}/lake")["rss"],
        }
        log.close()
    micros = {side: statistics.median(values) for side, values in found.items()}
    floor = micros["decode"]
    rows: list[Sequence[object]] = [(_NAMES[side], micros[side], micros[side] / floor) for side in SIDES]
    title = f"CPU of a whole process, {count} events of {SYMBOLS} keys, {PARTITIONS} partitions"
    report.table(title, ("", "µs/event", "× consume+decode"), rows)
    report.table(
        "Memory, MB resident at most",
        ("", "MB", "allowed"),
        [
            (f"Bronze sink, {PARTITIONS} partitions × 4 channels open", memory["bronze"], 300.0),
            (f"lake writer, {KEYS} keys", memory["lake"], 500.0),
        ],
    )
    measured = sizes.measure()
    if measured:
        header = ("recorded BTC and ETH, B/event", *(next(iter(measured.values()))))
        report.table("Bytes", header, [(name, *found.values()) for name, found in measured.items()])
    ratios = {name: (found["ndjson"] / found["Bronze"]) for name, found in measured.items()}
    report.result(
        "sink",
        {
            "consume_decode_ratio": micros["sink"] / floor,
            **{f"{name}_ndjson_ratio": ratios.get(name) for name in ("books", "deltas", "trades", "tickers")},
            "books_to_zst9": measured["books"]["Bronze"] / measured["books"]["ndjson.zst -9"] if measured else None,
            "arrow_writer_ratio": micros["sink"] / micros["arrow"],
            "us_per_event": micros["sink"],
            "bronze_mb": memory["bronze"],
            "lake_mb": memory["lake"],
        },
    )


def run_side(side: str, bootstrap: str, prefix: str, count: int, folder: str) -> dict[str, float]:
    """One side in a process of its own."""
    answer: dict[str, float] = child(side, bootstrap, prefix, count, folder, module="benchmarks.sink_side")
    return answer


def sink_memory(log: Log, bootstrap: str, folder: str) -> float:
    """Most MB of a sink whose partitions all have four channels open."""
    topics = Topics("memory")
    log.create(topics.specs(PARTITIONS, raw_retention_ms=-1))
    topic.append(log, topics, [_four_channels(f"M{k}/USDT") for k in range(PARTITIONS)], PARTITIONS)
    command = [sys.executable, "-m", "benchmarks.sink_memory", bootstrap, topics.raw, folder]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=300)
    return float(json.loads(done.stdout.splitlines()[-1])["rss"])


def _four_channels(symbol: str) -> Iterator[AnyEvent]:
    of = topic.names(symbol)
    for event in topic.keyed(symbol, FOUR_CHANNELS, LEVELS):
        yield event
        yield Ticker(**of, ts=event.ts, capture_ts=event.capture_ts, bid=1.0, ask=2.0, raw=b'{"b":"1.0","a":"2.0"}' * 4)
        yield Heartbeat(**of, ts=event.ts, capture_ts=event.capture_ts)
