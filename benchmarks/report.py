"""CPU time of interleaved runs, and how a benchmark prints what it found."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

Run = Callable[[], object]


def resident_mb(process: int | str = "self", *, most: bool = False) -> float:
    """Memory of a process, MB (Linux): now, or the most it ever was.

    Not getrusage's: its maximum begins with what the parent had when it forked.
    """
    field = "VmHWM:" if most else "VmRSS:"
    [line] = [each for each in Path(f"/proc/{process}/status").read_text("ascii").splitlines() if field in each]
    return int(line.split()[1]) / 1024


def cpu_seconds(
    sides: Mapping[str, Run], rounds: int, least: float = 0.05, before: Mapping[str, Run] | None = None
) -> dict[str, float]:
    """Median CPU s (user + system of the whole process, all threads) of one call of each side.

    Rounds go A B C A B C…, so that a noisy neighbour meets all sides alike; a side is repeated within its round until
    it has run for about `least` s. Each is called once before, to compile and to warm the caches. `before` a call, and
    outside the time, its side's preparation is run.
    """
    prepare = before or {}

    def once(name: str) -> float:
        prepare.get(name, _nothing)()
        start = time.process_time()
        sides[name]()
        return time.process_time() - start

    repeats = {}
    for name in sides:
        once(name)
        repeats[name] = max(1, round(least / max(once(name), 1e-6)))
    found: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name in sides:
            found[name].append(sum(once(name) for _ in range(repeats[name])) / repeats[name])
    return {name: statistics.median(times) for name, times in found.items()}


def _nothing() -> None:
    """No preparation."""


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table; the first column is text, the others are figures."""
    drawn = Table(title=title, title_justify="left")
    for k, name in enumerate(header):
        drawn.add_column(name, justify="right" if k else "left")
    for row in rows:
        drawn.add_row(*(_text(cell) for cell in row))
    Console(width=120).print(drawn)


def result(bench: str, values: Mapping[str, Any]) -> None:
    """The last line of a benchmark: its figures as one JSON object; null for what could not be measured."""
    rounded = {k: round(v, 3) if isinstance(v, float) else v for k, v in values.items()}
    print(json.dumps({"bench": bench, **rounded}), flush=True)


def _text(cell: object) -> str:
    if cell is None:
        return "–"
    return f"{cell:,.2f}" if isinstance(cell, float) else str(cell)
