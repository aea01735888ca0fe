"""The frozen C floors, compiled for this machine into a temporary folder.

They stand outside the repository, in FLUXFORGE_PEERS (default `<repository>/../shared/peers`); where they or gcc are
absent a benchmark says so and reports null.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.history import DEPTH, REPOSITORY, Books, History, Levels
from numpy.typing import NDArray

FEATURE_COLUMNS = 107
FLAGS = ("-O3", "-march=native", "-shared", "-fPIC")


@cache
def library(name: str) -> ctypes.CDLL | None:
    """`{name}.c` of the peers, compiled and loaded; None, said loudly, where that cannot be."""
    source = Path(os.environ.get("FLUXFORGE_PEERS") or REPOSITORY.parent / "shared" / "peers") / f"{name}.c"
    gcc = shutil.which("gcc")
    if gcc is None or not source.is_file():
        print(f"NO FLOOR: {'gcc' if gcc is None else source} is absent; its ratios are null", file=sys.stderr)
        return None
    with tempfile.TemporaryDirectory(prefix="fluxforge-floor-") as folder:
        target = Path(folder) / f"{name}.so"
        subprocess.run([gcc, *FLAGS, "-o", str(target), str(source), "-lm"], check=True)
        return ctypes.CDLL(str(target))


def features(floor: ctypes.CDLL, books: Books, emit_ms: int) -> Callable[[], NDArray[np.float64]]:
    """A run of the feature floor over all books: rows × FEATURE_COLUMNS; state and output are made once."""
    floor.ssize.restype = floor.batch.restype = ctypes.c_int64
    state = ctypes.create_string_buffer(floor.ssize())
    out = np.empty((len(books.bid_price), FEATURE_COLUMNS))
    arguments: list[Any] = [
        state,
        ctypes.c_int64(len(books.kind)),
        *(_pointer(array) for array in books[:7]),
        ctypes.c_int(DEPTH),
    ]
    arguments += [_pointer(books.trade_size), _pointer(books.trade_sign), ctypes.c_int64(emit_ms), _pointer(out)]

    def run() -> NDArray[np.float64]:
        floor.sinit(state)
        return out[: floor.batch(*arguments, ctypes.c_int(FEATURE_COLUMNS))]

    return run


class Changes:
    """A history's level changes as the L2 floor takes them: price, size and side [n], updates' bounds and times."""

    def __init__(self, history: History) -> None:
        updates = history.updates
        sides = [(u.bids, u.asks) for u in updates]
        pairs = np.array([pair for bids, asks in sides for pair in (*bids, *asks)])
        self.price, self.size = (np.ascontiguousarray(column) for column in pairs.T)
        self.side = np.concatenate([np.repeat(np.array([0, 1], np.uint8), (len(b), len(a))) for b, a in sides])
        self.bounds = np.array([0, *np.cumsum([len(b) + len(a) for b, a in sides])], np.int64)
        self.stamps = np.array([(u.time_ms, k + 1) for k, u in enumerate(updates)], np.int64)
        self.count = len(self.price)
        self.capacity = len(history.bids) + len(history.asks) + self.count

    def arguments(self) -> list[Any]:
        """The floor's leading arguments."""
        arrays = (self.price, self.size, self.side, self.bounds, self.stamps)
        return [*map(_pointer, arrays), ctypes.c_int64(len(self.stamps)), ctypes.c_int64(0)]


class SortedArrays:
    """`runA`: sorted arrays and memmove, ask prices negated, the best last."""

    def __init__(self, floor: ctypes.CDLL, history: History, changes: Changes) -> None:
        self._changes = changes
        self._run = floor.runA
        self._run.restype = ctypes.c_int64
        self._start = [_side(history.bids, 1.0), _side(history.asks, -1.0)]
        self._sides = [np.empty(changes.capacity) for _ in range(4)]
        self._used = np.zeros(2, np.int64)
        self._arguments = [*changes.arguments(), *map(_pointer, self._sides), _pointer(self._used), ctypes.c_int(0)]

    def reset(self) -> None:
        """The book as it was at first."""
        for side, levels in enumerate(self._start):
            self._used[side] = len(levels)
            for column in range(2):
                self._sides[2 * side + column][: len(levels)] = levels[:, column]

    def run(self) -> None:
        self._run(*self._arguments)

    def book(self) -> list[NDArray[np.float64]]:
        """Keys and sizes of both sides."""
        return [column[: self._used[k // 2]].copy() for k, column in enumerate(self._sides)]


class Leaves:
    """`runB`: sorted leaves of up to 128 levels under a directory."""

    def __init__(self, floor: ctypes.CDLL, history: History, changes: Changes) -> None:
        self._floor, self._changes = floor, changes
        floor.tsize.restype = floor.tdump.restype = floor.runB.restype = ctypes.c_int64
        floor.tapp.argtypes = (ctypes.c_void_p, ctypes.c_double, ctypes.c_double)
        self._start = [_side(history.bids, 1.0), _side(history.asks, -1.0)]
        self._trees = [ctypes.create_string_buffer(floor.tsize()) for _ in range(2)]
        self._capacity = changes.capacity
        self._arguments = [*changes.arguments(), *self._trees]

    def reset(self) -> None:
        """The book as it was at first."""
        for tree, levels in zip(self._trees, self._start, strict=True):
            self._floor.tinit(tree)
            for key, size in levels:
                self._floor.tapp(tree, key, size)

    def run(self) -> None:
        self._floor.runB(*self._arguments)

    def book(self) -> list[NDArray[np.float64]]:
        """Keys and sizes of both sides."""
        found = []
        for tree in self._trees:
            columns = [np.empty(self._capacity) for _ in range(2)]
            used = self._floor.tdump(tree, *map(_pointer, columns))
            found += [column[:used] for column in columns]
        return found


def _side(levels: Levels, sign: float) -> NDArray[np.float64]:
    """Keys and sizes, ascending with the best last."""
    return np.array([(sign * price, size) for price, size in reversed(levels)])


def _pointer(array: NDArray[Any]) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)
