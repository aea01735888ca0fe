"""Kernels under events that no exchange sends: `python kernel_stress.py SEED ROUNDS`.

Meant to run under NUMBA_BOUNDSCHECK=1, where an index outside its array raises. It sees for itself that a batch
changes no record but those of its keys, and that every record stays one that `Arena.restore` takes.
"""

from __future__ import annotations

import sys
from random import Random

import numpy as np

from fluxforge.batch import EVENT, NO_TS, EventBatch
from fluxforge.events import Kind
from fluxforge.kernels.bars import BarKernel
from fluxforge.kernels.config import DEFAULT, INFORMATION, BarConfig, FeatureConfig
from fluxforge.kernels.features import FeatureKernel

S = 1_000_000_000
START = 1_700_000_000 * S
DEEP = 5000
ODD = (0.0, -0.0, -1.0, 5e-324, 1e-300, 1e300, float("inf"), float("-inf"), float("nan"))
ODD_TIMES = (NO_TS, NO_TS + 1, -(2**62), -1, 0, 1, 2**62, 2**63 - 1)
JUMPS = (0, 1, 1000, S // 10, S, S, 7 * S, 61 * S, 700 * S, 86_400 * S, 40 * 86_400 * S)


class Market:
    """One key's events. A `wild` one has times from the ends of the scale too."""

    def __init__(self, rng: Random, wild: bool) -> None:
        self._rng, self._wild = rng, wild
        self._time = START

    def fill(self, event: np.void, first: int) -> list[float]:
        """Write one event whose levels begin at `first`; returns them."""
        rng = self._rng
        self._time += rng.choice(JUMPS[:6] if rng.random() < 0.98 else JUMPS)
        kinds = [Kind.BOOK_DELTA] * 8 + [Kind.TRADE] * 6 + [Kind.BOOK_SNAPSHOT] * 2 + list(Kind)
        event["kind"] = rng.choice(kinds)
        event["ts"] = self._time - rng.choice((0, 0, 0, 3 * S))
        event["capture_ts"] = self._time
        if rng.random() < 0.03:
            event["ts"] = NO_TS
        if self._wild and rng.random() < 0.05:
            event["ts"], event["capture_ts"] = rng.choice(ODD_TIMES), rng.choice(ODD_TIMES)
        event["skew"] = rng.choice((0, 0, S, -S))
        event["collector"] = 1 if rng.random() < 0.9 else 2
        event["flags"] = rng.randrange(16) if rng.random() < 0.2 else 0
        event["updates"], event["levels"] = 1, first
        event["price"] = rng.choice(ODD) if rng.random() < 0.05 else 100.0 + rng.randint(-50, 50)
        event["size"] = rng.choice(ODD) if rng.random() < 0.05 else rng.choice((0.1, 3.0, 1e9))
        event["side"] = rng.choice((-1.0, 0.0, 1.0))
        if event["kind"] not in (Kind.BOOK_DELTA, Kind.BOOK_SNAPSHOT):
            return []
        sides = [self._side(sign, event["kind"] == Kind.BOOK_SNAPSHOT) for sign in (-1, 1)]
        event["bids"], event["asks"] = (len(side) // 2 for side in sides)
        return sides[0] + sides[1]

    def _side(self, sign: int, whole: bool) -> list[float]:
        rng = self._rng
        if whole:
            count = rng.choice((1, 5, 20, 64, 70)) if rng.random() < 0.95 else rng.choice((0, DEEP))
            distances = [k + 1 for k in range(count)]
        else:
            count = rng.choice((0, 0, 1, 2, 5, 63)) if rng.random() < 0.98 else DEEP
            distances = [rng.randint(-1, 60) if count < DEEP else rng.randint(1, 3 * DEEP) for _ in range(count)]
        odd = rng.random() < 0.03
        found = []
        for distance in distances:
            size = rng.choice((0.0, 0.0, 1.5, 2.0)) if not whole else rng.uniform(0.1, 9)
            found += [20_000.0 + sign * distance, rng.choice(ODD) if odd and rng.random() < 0.2 else size]
        if odd and found:
            found[2 * rng.randrange(count)] = rng.choice(ODD)
        return found


def batch(markets: list[Market], slots: list[int], rng: Random, offset: int) -> EventBatch:
    """One to a few hundred events of some of the keys."""
    events = np.zeros(rng.choice((1, 1, 30, 300)), EVENT)
    levels: list[float] = []
    keys = rng.sample(range(len(markets)), rng.randint(1, len(markets)))
    for i, event in enumerate(events):
        key = rng.choice(keys)
        event["slot"], event["offset"] = slots[key], offset + i
        levels += markets[key].fill(event, len(levels))
    return EventBatch(events, np.array(levels, np.float64))


def shuffle_keys(kernel: FeatureKernel | BarKernel, names: list[str], rng: Random, offset: int) -> None:
    """Take some keys away and put some back, as a rebalance does; a damaged record is refused."""
    arena = kernel.arena
    for name in rng.sample(names, min(3, len(names))):
        saved = arena.save(arena.slot(name), book=rng.random() < 0.5)
        what = rng.random()
        if what < 0.3:
            arena.drop(name)
        elif what < 0.9:
            resume = offset - rng.choice((0, 50)) if rng.random() < 0.8 else offset + 50
            if rng.random() < 0.5:
                arena.drop(name)
            arena.restore(name, saved, resume)
        for damaged in (saved[:-8], saved + bytes(8), saved[: 8 * rng.randrange(30)]):
            refused(kernel, damaged)
        words = np.frombuffer(saved, np.int64).copy()
        words[rng.choice((0, 1, 16, 17, 20))] += rng.choice((-1, 1, 2**40))
        if len(words) != int(words[1]):  # without its book neither SIZE nor the sides are looked at
            refused(kernel, words.tobytes())


def refused(kernel: FeatureKernel | BarKernel, saved: bytes) -> None:
    """Raises where `Arena.restore` takes it."""
    known = kernel.arena.keys()
    try:
        kernel.arena.restore("damaged", saved, 0)
    except ValueError:
        if kernel.arena.keys() == known:
            return
    raise AssertionError("a damaged record was restored")


def run(kernel: FeatureKernel | BarKernel, keys: int, rounds: int, rng: Random) -> int:
    """Batches of random events; returns what came out."""
    names = [f"x|K{k}/USD" for k in range(keys)]
    markets = [Market(rng, wild=k % 3 == 2) for k in range(keys)]
    spare = type(kernel)(kernel.config).arena  # type: ignore[arg-type]
    offset = found = 0
    for _ in range(rounds):
        if rng.random() < 0.3:
            shuffle_keys(kernel, names, rng, offset)
        slots = [kernel.arena.slot(name) for name in names]
        one = batch(markets, slots, rng, offset)
        offset += len(one.events)
        before = {slot: kernel.arena.save(slot, book=True) for slot in slots}
        out = kernel.run(one)
        found += len(out[0])
        for part in out:
            if part.dtype.names and (len(part) and not 0 <= part["event"].min() <= part["event"].max() < len(one[0])):
                raise AssertionError("an output names an event outside its batch")
        moved = set(one.events["slot"].tolist())
        for name, slot in zip(names, slots, strict=True):
            saved = kernel.arena.save(slot, book=True)
            if slot in moved:
                spare.restore(name, saved, offset)
            elif saved != before[slot]:
                raise AssertionError("a record changed without an event")
    return found


def main(seed: int, rounds: int) -> None:
    rng = Random(seed)
    found = []
    for keys in (1, 4, 50):
        information = tuple((kind, DEFAULT, 2.0) for kind in INFORMATION)
        kernels: list[FeatureKernel | BarKernel] = [
            FeatureKernel(FeatureConfig(hf_emit_interval=0.0, impact_window=20, vpin_buckets=3)),
            FeatureKernel(FeatureConfig(30, 40, (7, 90), (2.0,), 1.0, impact_window=1, vpin_buckets=1)),
            FeatureKernel(FeatureConfig(1, 1, (1,), hf_emit_interval=0.0, vpin_volume=1e-3)),
            BarKernel(BarConfig(durations=(1, 60, 86_400), grace=2.5, information=information)),
            BarKernel(BarConfig(durations=(1,), grace=0.0)),
        ]
        found += [run(kernel, keys, rounds, rng) for kernel in kernels]
    print(f"rows and bars: {found}")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
