"""The feature kernel and its book beside the C floors, Polars and plain Python, in one run.

All sides get the same history. The floor computes 107 columns, the kernel all of the catalogue; before anything is
timed, the floor's columns must equal the kernel's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from benchmarks.peers import plain_python, polars_batch
from numpy.typing import NDArray

from benchmarks import floors, history, ours, report
from fluxforge import catalogue
from fluxforge.events import Kind

_ROUNDS = 9
_PEER_ROUNDS = 1
_EMITS = (("1s", 1.0), ("every", 0.0))


def run() -> None:
    """Measure and print."""
    market, books = history.load(), history.books()
    print(f"{market.source}: {len(market.updates)} books, {len(market.trades)} trades")
    found: dict[str, Any] = {}
    for name, interval in _EMITS:
        found |= features(name, interval, books)
    found["l2_c_ratio"] = level_changes(market)
    found["ns_per_event_by_kind"] = by_kind(market, books)
    report.result("kernel", found)


def features(name: str, interval: float, books: history.Books) -> dict[str, Any]:
    """The whole feature kernel on books of 20 levels and trades."""
    config = ours.config(interval)
    batch, emit_ms = ours.snapshots_and_trades(books), round(interval * 1000)
    sides: dict[str, Any] = {"kernel": ours.feature_run(config, batch)}
    sides |= {f"kernel, {size} events a call": ours.feature_run(config, batch, size) for size in (512, 64)}
    floor = floors.library("features_floor")
    if floor is not None:
        sides["C floor"] = floors.features(floor, books, emit_ms)
        if wrong := differing(sides["C floor"](), ours.floor_columns(sides["kernel"](), config)):
            raise SystemExit(f"the floor and the kernel differ in {', '.join(wrong)}: a ratio would mean nothing")
    seconds = report.cpu_seconds(sides, _ROUNDS)
    peers: dict[str, Any] = {
        "Polars batch": polars_batch.feature_run(books, emit_ms),
        "plain Python": plain_python.feature_run(books, emit_ms),
    }
    mine = ours.floor_columns(sides["kernel"](), config)
    notes = {peer: differing(np.array(run()), mine) for peer, run in peers.items()}
    beside = report.cpu_seconds({"kernel": sides["kernel"], **peers}, _PEER_ROUNDS)
    scale = seconds["kernel"] / beside["kernel"]
    seconds |= {peer: beside[peer] * scale for peer in peers}
    base = seconds.get("C floor")
    count = len(catalogue.columns(config))
    rows = [
        (
            side,
            count if side.startswith("kernel") else floors.FEATURE_COLUMNS,
            spent / len(batch.events) * 1e9,
            spent / len(books.bid_price) * 1e6,
            spent / base if base else None,
            ", ".join(notes.get(side, [])),
        )
        for side, spent in seconds.items()
    ]
    header = ("", "columns", "ns/event", "µs/book with its trades", "× C", "off by > 1e-9")
    report.table(f"Features, emit {name}; every column of the kernel, the others' on the floor's", header, rows)
    figures: dict[str, Any] = {f"c_ratio_emit_{name}": seconds["kernel"] / base if base else None}
    if interval:
        figures["ns_per_event"] = seconds["kernel"] / len(batch.events) * 1e9
    return figures


def level_changes(market: history.History) -> float | None:
    """The L2 book alone: every level change of the history on the full book. Returns ours over `runA`."""
    changes = floors.Changes(market)
    books: dict[str, Any] = {"kernels/book.py": ours.KernelBook(market, changes)}
    floor = floors.library("l2_floor")
    if floor is not None:
        books["C sorted arrays (runA)"] = floors.SortedArrays(floor, market, changes)
        books["C leaves (runB)"] = floors.Leaves(floor, market, changes)
    for side in books.values():
        side.reset()
        side.run()
    first, *others = (side.book() for side in books.values())
    for other in others:
        for mine, theirs in zip(first, other, strict=True):
            if mine.tobytes() != theirs.tobytes():
                raise SystemExit("the books differ: a ratio would mean nothing")
    seconds = report.cpu_seconds(
        {name: side.run for name, side in books.items()},
        _ROUNDS,
        before={name: side.reset for name, side in books.items()},
    )
    base = seconds.get("C sorted arrays (runA)")
    rows = [(name, spent / changes.count * 1e9, spent / base if base else None) for name, spent in seconds.items()]
    report.table(f"L2 book, {changes.count} level changes", ("", "ns/change", "× runA"), rows)
    return seconds["kernels/book.py"] / base if base else None


def by_kind(market: history.History, books: history.Books) -> dict[str, float]:
    """CPU ns per event of the kernel, on the events of one kind alone."""
    both = ours.snapshots_and_trades(books)
    batches = {
        "snapshot": ours.of_kind(both, Kind.BOOK_SNAPSHOT),
        "delta": ours.deltas(market),
        "trade": ours.of_kind(both, Kind.TRADE),
    }
    sides = {
        f"{kind}_{name}": ours.feature_run(ours.config(interval), batch)
        for kind, batch in batches.items()
        for name, interval in _EMITS
    }
    seconds = report.cpu_seconds(sides, _ROUNDS)
    found = {
        f"{kind}_{name}": seconds[f"{kind}_{name}"] / len(batch.events) * 1e9
        for kind, batch in batches.items()
        for name, _ in _EMITS
    }
    rows = [
        (kind, len(batch.events), *(found[f"{kind}_{name}"] for name, _ in _EMITS)) for kind, batch in batches.items()
    ]
    report.table("Kernel by kind (each alone), ns/event", ("", "events", *(f"emit {name}" for name, _ in _EMITS)), rows)
    return {name: round(value, 1) for name, value in found.items()}


def differing(theirs: NDArray[np.float64], mine: NDArray[np.float64]) -> list[str]:
    """The floor's columns in which two tables differ: by more than 1e-9, or 1e-12 of the largest value that went in
    where a sum cancels; nulls belong in the same places."""
    if theirs.shape != mine.shape:
        raise SystemExit(f"one gives {theirs.shape} rows × columns, the kernel {mine.shape}")
    largest = np.nanmax(np.abs(mine), axis=0)
    largest[ours.FLOOR_COLUMNS.index("micro_minus_mid")] = largest[ours.FLOOR_COLUMNS.index("mid_price")]
    slack = 1e-9 * np.abs(mine) + 1e-12 * largest
    equal = (np.abs(theirs - mine) <= slack) | (np.isnan(theirs) & np.isnan(mine))
    return [ours.FLOOR_COLUMNS[column] for column in np.flatnonzero(~equal.all(axis=0))]
