"""What the benchmarks run on: one market's books and trades as flat arrays, the same for every side.

The recording is Binance's BTCUSDT capture in FLUXFORGE_RECORDINGS (default `<repository>/../shared/data`), its full
book rebuilt from the diffs. Where it is absent a seeded synthetic market of the same size stands in, and says so.
"""

from __future__ import annotations

import os
import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from fluxforge.recordings import by_instrument, read_binance_capture

DEPTH = 20
"""Levels per side of the books that the feature floor is given."""

REPOSITORY = Path(__file__).parents[1]

Levels = list[tuple[float, float]]


class Update(NamedTuple):
    """One depth diff (absolute sizes, 0 removes) and the best levels of the book after it, best first."""

    time_ms: int
    bids: Levels
    asks: Levels
    best_bids: Levels
    best_asks: Levels


class Print(NamedTuple):
    """One trade; `sign` is the taker's side."""

    time_ms: int
    price: float
    size: float
    sign: float


class History(NamedTuple):
    """A market: the full book it starts from, then updates and trades in the order they were received."""

    source: str
    bids: Levels
    asks: Levels
    start_ms: int
    events: list[Update | Print]

    @property
    def updates(self) -> list[Update]:
        return [event for event in self.events if isinstance(event, Update)]

    @property
    def trades(self) -> list[Print]:
        return [event for event in self.events if isinstance(event, Print)]


@cache
def load() -> History:
    """The recorded market, or the synthetic one where there is no recording."""
    folder = Path(os.environ.get("FLUXFORGE_RECORDINGS") or REPOSITORY.parent / "shared" / "data") / "binance_spot"
    files = by_instrument(folder.glob("btcusdt_*.gz")).get("btcusdt") if folder.is_dir() else None
    if not files:
        print(f"NO RECORDING in {folder}: running on a SYNTHETIC market (seed 1)", file=sys.stderr)
        return synthetic()
    return recorded(files)


def recorded(files: list[Path]) -> History:
    """Rebuild the book of a Binance capture; diffs that the REST snapshot covers are left out."""
    decode = msgspec.json.Decoder().decode
    messages = [decode(line.frame) for line in read_binance_capture(files)]
    answer = next(message for message in messages if "lastUpdateId" in message)
    last = answer["lastUpdateId"]
    bids, asks = dict(_pairs(answer["bids"])), dict(_pairs(answer["asks"]))
    first = _best(bids, asks)
    events: list[Update | Print] = []
    start_ms = 0
    for message in messages:
        data = message.get("data", {})
        if data.get("e") == "depthUpdate" and data["u"] > last:
            start_ms = start_ms or data["E"]
            events.append(_update(data["E"], _pairs(data["b"]), _pairs(data["a"]), bids, asks))
        elif data.get("e") == "trade" and data.get("X", "MARKET") == "MARKET" and start_ms:
            events.append(Print(data["T"], float(data["p"]), float(data["q"]), -1.0 if data["m"] else 1.0))
    return History("Binance BTCUSDT, recorded", *first, start_ms, events)


def synthetic(seed: int = 1, updates: int = 6500, changes: int = 25, levels: int = 1000) -> History:
    """A random walk in ticks of 0.01 with level changes mostly near the touch, and three trades an update."""
    rng = np.random.default_rng(seed)
    start_ms, mid = 1_700_000_000_000, 6_000_000
    bids = {(mid - k) / 100: float(rng.uniform(0.01, 5)) for k in range(1, levels + 1)}
    asks = {(mid + k) / 100: float(rng.uniform(0.01, 5)) for k in range(1, levels + 1)}
    first = _best(bids, asks)
    events: list[Update | Print] = []
    for step in range(1, updates + 1):
        time = start_ms + 100 * step
        for stamp in np.sort(rng.integers(time - 99, time + 1, 3)):
            events.append(Print(int(stamp), mid / 100, float(rng.exponential(0.05)), float(rng.choice([-1.0, 1.0]))))
        mid += int(rng.integers(-3, 4))
        distance = 1 + rng.geometric(0.02, changes)
        sizes = np.where(rng.random(changes) < 0.45, 0.0, rng.uniform(0.01, 5, changes))
        sides = rng.random(changes) < 0.5
        new_bids = {(mid - int(d)) / 100: float(q) for d, q, side in zip(distance, sizes, sides, strict=True) if side}
        new_asks = {
            (mid + int(d)) / 100: float(q) for d, q, side in zip(distance, sizes, sides, strict=True) if not side
        }
        new_bids |= {price: 0.0 for price in bids if price >= mid / 100}
        new_asks |= {price: 0.0 for price in asks if price <= mid / 100}
        events.append(_update(time, list(new_bids.items()), list(new_asks.items()), bids, asks))
    return History(f"SYNTHETIC market, seed {seed}", *first, start_ms, events)


class Books(NamedTuple):
    """The history as books of DEPTH levels and trades: what the feature floor eats.

    kind [n] 0 book, 1 trade; place [n] into the books or the trades; time_ms [n]; the books' sides
    [books × DEPTH], best first; trades' price, size and sign [trades]
    """

    kind: NDArray[np.uint8]
    place: NDArray[np.int64]
    time_ms: NDArray[np.int64]
    bid_price: NDArray[np.float64]
    bid_size: NDArray[np.float64]
    ask_price: NDArray[np.float64]
    ask_size: NDArray[np.float64]
    trade_price: NDArray[np.float64]
    trade_size: NDArray[np.float64]
    trade_sign: NDArray[np.float64]


@cache
def books() -> Books:
    """The loaded history as books of DEPTH levels."""
    history = load()
    kind = np.array([isinstance(event, Print) for event in history.events], np.uint8)
    index = np.where(kind == 1, np.cumsum(kind) - 1, np.cumsum(1 - kind.astype(np.int64)) - 1)
    sides = [
        np.array([side for u in history.updates for side in getattr(u, name)]) for name in ("best_bids", "best_asks")
    ]
    bids, asks = (side.reshape(-1, DEPTH, 2) for side in sides)
    trades = np.array([event[1:] for event in history.trades])
    parts = (bids[:, :, 0], bids[:, :, 1], asks[:, :, 0], asks[:, :, 1], *trades.T)
    times = np.array([event.time_ms for event in history.events], np.int64)
    return Books(kind, index.astype(np.int64), times, *(np.ascontiguousarray(part) for part in parts))


def _update(
    time_ms: int, new_bids: Levels, new_asks: Levels, bids: dict[float, float], asks: dict[float, float]
) -> Update:
    for side, changes in ((bids, new_bids), (asks, new_asks)):
        for price, size in changes:
            if size:
                side[price] = size
            else:
                side.pop(price, None)
    best_bids, best_asks = _best(bids, asks, DEPTH)
    return Update(time_ms, new_bids, new_asks, best_bids, best_asks)


def _best(bids: dict[float, float], asks: dict[float, float], depth: int | None = None) -> tuple[Levels, Levels]:
    return sorted(bids.items(), reverse=True)[:depth], sorted(asks.items())[:depth]


def _pairs(levels: list[list[str]]) -> Levels:
    return [(float(price), float(size)) for price, size in levels]
