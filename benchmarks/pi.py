"""What the whole pipeline takes of a small machine, process by process: `fluxforge up` with and without the Pi profile.

Both pipelines run at the same time on the same simulated exchange, 4 markets with 50 messages/s each, so that a noisy
neighbour meets both. After 20 s (kernels are loaded, books are known) 60 s are measured: CPU time, memory, bytes given
to the disk, times a thread went to sleep; at the end, what an event takes in Bronze and lake. The figures are this
machine's; an ARM core's are others.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.pipeline import SYMBOLS, Pipeline, Usage, exchange

from benchmarks import report

RATE = 50
WARM_S, MEASURED_S = 20.0, 60.0
SIDES = {"default": (), "pi": ("--profile", "pi")}


def run() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory(prefix="fluxforge-pi-") as folder, exchange(RATE) as url:
        pipelines = {side: Pipeline(Path(folder) / side, url, options) for side, options in SIDES.items()}
        try:
            for pipeline in pipelines.values():
                pipeline.wait_running()
            time.sleep(WARM_S)
            before = {side: pipeline.usage() for side, pipeline in pipelines.items()}
            began = time.monotonic()
            time.sleep(MEASURED_S)
            after = {side: pipeline.usage() for side, pipeline in pipelines.items()}
            seconds = time.monotonic() - began
            summaries = {side: pipeline.stop() for side, pipeline in pipelines.items()}
            stored = {layer: size(Path(folder) / "pi" / "data" / layer) for layer in ("raw", "processed")}
        finally:
            for pipeline in pipelines.values():
                pipeline.kill()
    rates = {side: rate(before[side], after[side], seconds) for side in SIDES}
    tell(rates, summaries["pi"], stored)


def size(folder: Path) -> int:
    """Bytes of all Parquet files below."""
    return sum(path.stat().st_size for path in folder.rglob("*.parquet"))


def rate(before: dict[str, Usage], after: dict[str, Usage], seconds: float) -> dict[str, dict[str, float]]:
    """Process → its figures per second, and last all together."""
    if before.keys() != after.keys():
        raise RuntimeError(f"processes came or went: {sorted(before)}, then {sorted(after)}")
    found = {
        name: {
            "cpu": 100 * (now.cpu - before[name].cpu) / seconds,
            "rss": now.resident,
            "pss": now.shared,
            "kb": (now.written - before[name].written) / seconds,
            "sleeps": (now.sleeps - before[name].sleeps) / seconds,
        }
        for name, now in after.items()
    }
    keys = ("cpu", "rss", "pss", "kb", "sleeps")
    return {**found, "together": {key: sum(one[key] for one in found.values()) for key in keys}}


def tell(rates: dict[str, dict[str, dict[str, float]]], summary: dict[str, Any], stored: dict[str, int]) -> None:
    """Print tables and the JSON line."""
    plain, small = rates["default"], rates["pi"]
    for side, of_side in rates.items():
        report.table(
            f"{side} profile, {len(SYMBOLS) * RATE} messages/s",
            ["process", "CPU, % of a core", "RSS MB", "PSS MB", "written KB/s", "sleeps/s"],
            [
                [name, one["cpu"], round(one["rss"]), round(one["pss"]), round(one["kb"]), round(one["sleeps"])]
                for name, one in of_side.items()
            ],
        )
    all_plain, all_small = plain["together"], small["together"]
    report.table(
        "the Pi profile beside the default one",
        ["", "ratio"],
        [[key, all_small[key] / all_plain[key]] for key in ("cpu", "rss", "kb", "sleeps")],
    )
    report.result(
        "pi",
        {
            "messages_s": len(SYMBOLS) * RATE,
            **{f"{key}_{side}": rates[side]["together"][key] for side in SIDES for key in ("cpu", "rss", "pss", "kb")},
            "cpu_ratio": all_small["cpu"] / all_plain["cpu"],
            **{f"cpu_{name.replace(' ', '_')}": one["cpu"] for name, one in small.items() if name != "together"},
            "bronze_bytes_event": stored["raw"] / summary["events"],
            "lake_bytes_event": stored["processed"] / summary["events"],
            "events": summary["events"],
            "gaps": summary["gaps"],
        },
    )
