"""A replay of Bronze into a real Kafka, beside a bare produce loop of the same bytes and a scan of the Parquet.

CPU is user + system of each side's whole process, librdkafka's threads included, from its first record or commit on.
The loop has keys, values, timestamps and headers ready in memory; it produces idempotently, without transactions, with
the replay's compression.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import msgspec
from benchmarks.broker import broker
from benchmarks.engine import child

from benchmarks import history, report, topic
from fluxforge import bronze
from fluxforge.events import AnyEvent, Trade
from fluxforge.files import Chain, ChainId

PARTITIONS, LEVELS = 4, 1000
LAPS, LONG, ROUNDS = 2, 4, 5
"""How often the recording is stored in each partition: what is timed, and how many times that is for the memory."""
AT_ONCE, BATCH = 4_000, 40_000
SIDES = ("scan", "bare", "marked", "replay")
_NAMES = {
    "scan": "Parquet scan: every column of every file read by pyarrow",
    "bare": "bare produce loop, the original headers",
    "marked": "bare produce loop, with source-offset beside them",
    "replay": "replay at max speed",
}


def run() -> None:
    """Measure and print."""
    with broker() as bootstrap, tempfile.TemporaryDirectory(prefix="fluxforge-bench-") as scratch:
        short, long = Path(scratch) / "short", Path(scratch) / "long"
        count = make(short, LAPS)
        make(long, LAPS * LONG)
        found: dict[str, list[tuple[float, float]]] = {side: [] for side in SIDES}
        for number in range(ROUNDS):
            for side in SIDES:
                answer = side_of(side, bootstrap, f"r{number}", count, short)
                events = answer.get("events", count)
                found[side].append((answer["cpu"] / events * 1e6, events / answer["wall"]))
        memory = [side_of("replay", bootstrap, f"m{n}", count, root)["rss"] for n, root in enumerate((short, long))]
    micros = {side: statistics.median(cpu for cpu, _ in values) for side, values in found.items()}
    rates = {side: statistics.median(rate for _, rate in values) for side, values in found.items()}
    rows: list[Sequence[object]] = [
        (_NAMES[side], micros[side], f"{rates[side]:,.0f}", micros[side] / micros["bare"]) for side in SIDES
    ]
    title = f"{count} events of {history.load().source}, {PARTITIONS} partitions: CPU of a whole process"
    report.table(title, ("", "µs/event", "events/s", "× bare loop"), rows)
    report.table(
        "Memory of a replay, MB resident at most",
        ("", "MB"),
        [(f"{count} events", memory[0]), (f"{count * LONG} events", memory[1])],
    )
    report.result(
        "replay",
        {
            "produce_ratio": micros["replay"] / micros["bare"],
            "produce_ratio_marked": micros["replay"] / micros["marked"],
            "scan_ratio": micros["replay"] / micros["scan"],
            "us_per_event": micros["replay"],
            "events_s": rates["replay"],
            "bare_events_s": rates["bare"],
            "memory_ratio": memory[1] / memory[0],
            "mb": memory[1],
        },
    )


def side_of(side: str, bootstrap: str, name: str, count: int, root: Path) -> dict[str, float]:
    """One side in a process of its own."""
    answer: dict[str, float] = child(side, bootstrap, name, count, str(root), module="benchmarks.replay_side")
    return answer


def make(root: Path, laps: int) -> int:
    """The recording in each partition, one lap behind the other, as Bronze; how many events there are."""
    count = 0
    for partition in range(PARTITIONS):
        with Chain.open(bronze.tree(root), ChainId("bench", "market.raw", partition), first=0) as chain:
            writer, offset = bronze.BronzeWriter(chain), 0
            events = laps_of(f"S{partition}/USDT", laps)
            while part := list(islice(events, AT_ONCE)):
                writer.append([bronze.record_of(event, offset + n, partition) for n, event in enumerate(part)])
                offset += len(part)
                if writer.rows >= BATCH:
                    writer.commit(offset)
            writer.commit(offset)
            count += offset
    return count


def laps_of(symbol: str, count: int) -> Iterator[AnyEvent]:
    """As a collector writes them: a trade with the exchange's own record."""
    course = topic.template()
    length = course[-1].capture_ts - course[0].capture_ts + topic.MS
    for lap in range(count):
        for event in topic.keyed(symbol, levels=LEVELS):
            at = event.capture_ts + lap * length
            later = msgspec.structs.replace(event, ts=at, capture_ts=at)
            if isinstance(later, Trade):
                raw = b'{"T":%d,"p":"%.2f","q":"%.5f"}' % (at // topic.MS, later.price, later.size)
                later = msgspec.structs.replace(later, raw=raw)
            yield later
