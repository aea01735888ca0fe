"""The project's own side of the kernel benchmark: its batches, its feature kernel, its book."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from benchmarks.floors import Changes
from benchmarks.history import DEPTH, Books, History, Levels, Update
from numpy.typing import NDArray

from fluxforge import catalogue
from fluxforge.batch import EVENT, EventBatch
from fluxforge.events import Kind
from fluxforge.kernels import book
from fluxforge.kernels import layout as at
from fluxforge.kernels.book import Floats, Ints
from fluxforge.kernels.compiled import njit
from fluxforge.kernels.config import FeatureConfig
from fluxforge.kernels.features import FeatureKernel

_MS = 1_000_000
_BANDS = ("0_5", "5_10", "10_25", "25_50")
_HORIZONS = (1, 5, 30, 60)

FLOOR_COLUMNS: tuple[str, ...] = (
    *("mid_price", "spread", "relative_spread", "microprice", "micro_minus_mid", "weighted_mid"),
    *(f"{side}_vol_band_{band}bps" for band in _BANDS for side in ("bid", "ask")),
    *("total_bid_volume", "total_ask_volume", "book_depth", "bid_reach_bps", "ask_reach_bps"),
    *(f"{name}_L{k}" for k in range(10) for name in ("bid_price", "bid_size", "ask_price", "ask_size", "imbalance")),
    *("log_return_step", "ofi_step", *(f"ofi_L{k}" for k in range(5)), "ofi_multi", "mid_velocity", "mid_accel"),
    *(f"{name}_{h}s" for h in _HORIZONS for name in ("rv", "return_std", "ofi_sum", "trade_vol", "tfi")),
    *("depth_0_5bps_sigma", "spread_regime_tight_frac", "spread_regime_wide_frac", "liquidity_regime_thin_frac"),
    *("hour_of_day", "day_of_week", "is_weekend", "minute_of_hour"),
)
"""The feature floor's columns, in its order, by the catalogue's names."""


def config(interval: float) -> FeatureConfig:
    """All features as they come, one row each `interval` s (0: each book)."""
    return FeatureConfig(hf_emit_interval=interval)


def floor_columns(rows: list[NDArray[np.float64]], of: FeatureConfig) -> NDArray[np.float64]:
    """The floor's columns of our rows."""
    names = catalogue.columns(of)
    return np.concatenate(rows)[:, [names.index(name) for name in FLOOR_COLUMNS]]


def snapshots_and_trades(books: Books) -> EventBatch:
    """Each book as a BookSnapshot of DEPTH levels, each trade as a Trade."""
    events = _events(books.time_ms)
    is_trade = books.kind == 1
    events["kind"] = np.where(is_trade, int(Kind.TRADE), int(Kind.BOOK_SNAPSHOT))
    for name, values in (("price", books.trade_price), ("size", books.trade_size), ("side", books.trade_sign)):
        events[name][is_trade] = values
    events["bids"][~is_trade] = events["asks"][~is_trade] = DEPTH
    events["updates"][~is_trade] = 1
    events["levels"][~is_trade] = np.arange(len(books.bid_price)) * 4 * DEPTH
    sides = ((books.bid_price, books.bid_size), (books.ask_price, books.ask_size))
    levels = np.concatenate([np.stack(side, axis=2).reshape(-1, 2 * DEPTH) for side in sides], axis=1)
    return EventBatch(events, np.ascontiguousarray(levels.reshape(-1)))


def of_kind(batch: EventBatch, kind: Kind) -> EventBatch:
    """The events of one kind only."""
    return EventBatch(np.ascontiguousarray(batch.events[batch.events["kind"] == int(kind)]), batch.levels)


def deltas(history: History) -> EventBatch:
    """The full book as one BookSnapshot, then a BookDelta for each update."""
    updates = [Update(history.start_ms, history.bids, history.asks, [], []), *history.updates]
    events = _events(np.array([update.time_ms for update in updates], np.int64))
    events["kind"], events["kind"][0] = int(Kind.BOOK_DELTA), int(Kind.BOOK_SNAPSHOT)
    events["bids"], events["asks"] = [len(u.bids) for u in updates], [len(u.asks) for u in updates]
    events["updates"] = 1
    events["levels"][1:] = 2 * np.cumsum(events["bids"] + events["asks"])[:-1]
    return EventBatch(events, np.array([pair for u in updates for pair in (*u.bids, *u.asks)]).reshape(-1))


def feature_run(
    of: FeatureConfig, batch: EventBatch, per_call: int | None = None
) -> Callable[[], list[NDArray[np.float64]]]:
    """A run of a fresh feature kernel over `batch`, `per_call` events at a time (all at once without): rows by call."""
    size = per_call or len(batch.events)
    pieces = [EventBatch(batch.events[k : k + size], batch.levels) for k in range(0, len(batch.events), size)]

    def run() -> list[NDArray[np.float64]]:
        kernel = FeatureKernel(of)
        kernel.arena.slot("binance|BTC/USDT")
        return [kernel.run(piece).values for piece in pieces]

    return run


class KernelBook:
    """The L2 book of a key's record, alone: one compiled call over all level changes."""

    def __init__(self, history: History, changes: Changes) -> None:
        self._bids, self._asks = (_flat(side) for side in (history.bids, history.asks))
        arena = FeatureKernel(config(1.0)).arena
        slot = arena.slot("binance|BTC/USDT")
        arena.grow(slot, max(len(history.bids), len(history.asks)) + changes.count)
        self._base = int(arena.bases[slot])
        self._ints, self._floats = arena.ints, arena.floats
        self._levels = np.stack([changes.price, changes.size], axis=1).reshape(-1)
        self._bounds = changes.bounds
        self._bid_counts = np.array([len(update.bids) for update in history.updates], np.int64)

    def reset(self) -> None:
        """The book as it was at first."""
        levels = np.concatenate([self._bids, self._asks])
        book.install(self._ints, self._floats, self._base, levels, 0, len(self._bids) // 2, len(self._asks) // 2)

    def run(self) -> None:
        apply_all(self._ints, self._floats, self._base, self._levels, self._bounds, self._bid_counts)

    def book(self) -> list[NDArray[np.float64]]:
        """Keys and sizes of both sides, ascending with the best last, without tombstones."""
        found = []
        for side in (at.SIDE_BID, at.SIDE_ASK):
            start, capacity, used = (int(self._ints[self._base + side + k]) for k in range(3))
            columns = [self._floats[self._base + start + k * capacity :][:used] for k in range(2)]
            found += [column[columns[1] != 0.0] for column in columns]
        return found


@njit  # type: ignore[untyped-decorator]  # numba carries no types
def apply_all(ints: Ints, floats: Floats, base: int, levels: Floats, bounds: Ints, bid_counts: Ints) -> None:
    """Every update's level changes, bids first."""
    for k in range(len(bid_counts)):
        first, bids, asks = 2 * bounds[k], bid_counts[k], bounds[k + 1] - bounds[k] - bid_counts[k]
        book.apply(ints, floats, base, at.SIDE_BID, 1.0, levels, first, bids)
        book.apply(ints, floats, base, at.SIDE_ASK, -1.0, levels, first + 2 * bids, asks)


def _events(times_ms: NDArray[np.int64]) -> NDArray[np.void]:
    events = np.zeros(len(times_ms), EVENT)
    events["offset"] = np.arange(len(times_ms))
    events["ts"] = events["capture_ts"] = times_ms * _MS
    return events


def _flat(levels: Levels | Sequence[tuple[float, float]]) -> NDArray[np.float64]:
    return np.array(levels, np.float64).reshape(-1)
