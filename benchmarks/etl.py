"""A batch run over Bronze beside its kernels alone and beside Polars, and two processes beside one.

The kernels' side has all batches in memory. CPU is user + system of the whole process from the first event read (or
kernel call) on; the job's includes reading, decoding, Arrow rows, Parquet and commits. Two processes are compared with
one by wall time, in interleaved rounds, and beside them two whole runs at once that share nothing: what the machine's
cores give. Memory is that of a short, a long and a twice as long history. Polars reads one market's books, which it
could not make of their diffs, ready from Parquet, and writes most of the features' columns, no bars and no trades.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.peers import polars_batch
from benchmarks.replay import make

from benchmarks import history, report

ROUNDS, LAPS, LONG = 3, 8, 4
SIDES = {
    "kernel": "both kernels alone, batches in memory",
    "1": "etl, one process",
    "2": "etl, two processes",
    "polars": "Polars, features alone, of ready books",
}


def run() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix="fluxforge-bench-") as scratch:
        short, long, longer, books, output = (
            Path(scratch) / name for name in ("short", "long", "longer", "books", "out")
        )
        polars_batch.frame(history.books()).write_parquet(books)
        roots = {"kernel": short, "1": long, "2": long, "polars": books}
        count, _, most = make(short, LAPS), make(long, LAPS * LONG), make(longer, LAPS * LONG * 2)
        found: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
        pairs: list[float] = []
        for _ in range(ROUNDS):
            for side, answers in found.items():
                answers.append(side_of(side, roots[side], output))
            pairs.append(_pair(long, output))
        memory = [side_of("1", root, output)["rss"] for root in (short, long, longer)]
    counts = {side: int(answers[0]["events"]) for side, answers in found.items()}
    events = counts["1"]
    micros = {side: _median(answers, "cpu") / counts[side] * 1e6 for side, answers in found.items()}
    rates = {side: counts[side] / _median(answers, "wall") for side, answers in found.items()}
    rows: list[Sequence[object]] = [
        (name, None if side == "2" else micros[side], f"{rates[side]:,.0f}", rates[side] / rates["1"])
        for side, name in SIDES.items()
    ]
    pair = 2 * _median(found["1"], "wall") / statistics.median(pairs)
    rows.append(("two runs at once that share nothing", None, f"{pair * rates['1']:,.0f}", pair))
    title = f"{events} events of {history.load().source}, 4 partitions, 4 markets"
    report.table(title, ("", "CPU µs/event", "events/s", "× one process, wall"), rows)
    report.table(
        "Memory of one process, MB resident at most",
        ("", "MB"),
        [(f"{events} events", mb) for events, mb in zip((count, events, most), memory, strict=True)],
    )
    report.result(
        "etl",
        {
            "kernel_ratio": micros["1"] / micros["kernel"],
            "two_worker_speedup": rates["2"] / rates["1"],
            "machine_speedup": pair,
            "polars_ratio": micros["1"] / micros["polars"],
            "us_per_event": micros["1"],
            "kernel_us_per_event": micros["kernel"],
            "events_s_per_core": 1e6 / micros["1"],
            "memory_ratio": memory[2] / memory[1],
            "mb": memory[2],
        },
    )


def side_of(side: str, root: Path, output: Path) -> dict[str, float]:
    """One side in a process of its own, its lake thrown away."""
    command = [sys.executable, "-m", "benchmarks.etl_side", side, str(root), str(output)]
    done = subprocess.run(command, cwd=history.REPOSITORY, capture_output=True, text=True, check=True, timeout=900)
    shutil.rmtree(output, ignore_errors=True)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def _pair(root: Path, output: Path) -> float:
    """Seconds of the slower of two runs at once, each with a lake of its own."""
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(side_of, "1", root, output.with_name(name)) for name in ("out-a", "out-b")]
        return max(run.result()["wall"] for run in runs)


def _median(answers: Sequence[dict[str, float]], name: str) -> float:
    return statistics.median(answer[name] for answer in answers)
