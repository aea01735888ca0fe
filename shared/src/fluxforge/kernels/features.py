"""The feature kernel: events of many keys in, feature rows out, one compiled call per batch.

Definitions are those of the feature catalogue (`fluxforge.catalogue`), whose column order the row functions follow.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fluxforge.batch import CONFLATED, NO_TS, EventBatch
from fluxforge.clock import NS
from fluxforge.events import Kind
from fluxforge.kernels import blocks, book, impact, market, rings
from fluxforge.kernels import layout as at
from fluxforge.kernels.arena import Arena, Ring
from fluxforge.kernels.book import Floats, Ints
from fluxforge.kernels.compiled import njit, read_only, word
from fluxforge.kernels.config import FeatureConfig
from fluxforge.kernels.market import EventRecord
from fluxforge.kernels.outputs import (
    QUALITY_AFTER_GAP,
    QUALITY_LATE_CLAMPED,
    QUALITY_TRUNCATED_BAND,
    QUOTE,
    REJECT,
    ROW,
    FeatureOutput,
)
from fluxforge.kernels.records import BUCKET, DECAY, DECAY_BLOCKS, POINTERS, STEP_BLOCKS, STEPS, TRADE_BLOCKS, TRADES
from fluxforge.kernels.regime import regime_columns
from fluxforge.kernels.rolling import POINTER_WORDS, decay_weights, rolling_columns
from fluxforge.kernels.room import needs_room
from fluxforge.kernels.static import static_columns, time_columns
from fluxforge.kernels.steps import mark_unknown, step

_TICKER = int(Kind.TICKER)


class FeatureKernel:
    """Feature state of many keys; see `Arena` for slots, saving and restoring."""

    def __init__(self, config: FeatureConfig) -> None:
        self.config = config
        count = len(config.horizons)
        self._previous = POINTERS + POINTER_WORDS * count
        self._impact = self._previous + 4 * config.ofi_levels
        self.columns = column_count(config)
        self.arena = Arena(
            self._impact + impact.HEADER_WORDS + config.vpin_buckets,
            (
                Ring(STEPS, 5),
                Ring(DECAY, 2),
                Ring(TRADES, 4),
                Ring(STEP_BLOCKS, blocks.STEP_COLUMNS),
                Ring(TRADE_BLOCKS, blocks.TRADE_COLUMNS),
                Ring(DECAY_BLOCKS, 1 + count),
                Ring(self._impact, impact.RING_COLUMNS),
            ),
            lambda key: {self._impact + impact.VOLUME: config.bucket_volume(key)},
        )
        self._horizons = np.array([h * NS for h in config.horizons], np.int64)
        self._weights = decay_weights(config.horizons)
        self._bands = np.array((0.0, *config.bands_bps), np.float64)
        self._tops = np.empty((4, max(config.max_levels, config.ofi_levels)))
        self._longest = max(config.horizons) * NS
        self._interval = round(config.hf_emit_interval * NS)

    def run(self, batch: EventBatch) -> FeatureOutput:
        """Process a batch; slots must come from `arena.slot`."""
        count = len(batch.events)
        events, levels = read_only(batch.events), read_only(batch.levels)
        quotes, rejects = np.empty(count, QUOTE), np.empty(count, REJECT)
        room = count if self._interval == 0 else min(count, 256)
        rows, values = np.empty(room, ROW), np.empty((room, self.columns))
        start = n_rows = n_quotes = n_rejects = 0
        while True:
            status, start, n_rows, n_quotes, n_rejects = _run(
                self.arena.ints,
                self.arena.floats,
                self.arena.bases,
                events,
                levels,
                start,
                self._horizons,
                self._weights,
                self._bands,
                self._interval,
                self.config.max_levels,
                self.config.ofi_levels,
                self._previous,
                self._impact,
                self.config.impact_window,
                self.config.vpin_buckets,
                self.config.tight_spread_threshold,
                self._longest,
                self._tops,
                rows,
                values,
                n_rows,
                quotes,
                n_quotes,
                rejects,
                n_rejects,
            )
            if status == at.DONE:
                break
            if status == at.OUTPUT_FULL:
                room += min(count - start, 3 * room)
                rows, values = _longer(rows, room), _longer(values, room)
            else:
                self.arena.serve(status, batch, start)
        return FeatureOutput(rows[:n_rows], values[:n_rows], quotes[:n_quotes], rejects[:n_rejects])


def _longer(array: NDArray[Any], count: int) -> NDArray[Any]:
    """The array with room for `count` entries; what is new is not written yet."""
    longer = np.empty((count, *array.shape[1:]), array.dtype)
    longer[: len(array)] = array
    return longer


def column_count(config: FeatureConfig) -> int:
    """Columns of a row's `values`."""
    levels, bands, horizons = config.max_levels, len(config.bands_bps), len(config.horizons)
    return (
        2 + 5 * levels + 4 + 1 + 2 * bands + 2 + 3 + (2 + config.ofi_levels + 4) + 6 * horizons + 4 + impact.COLUMNS + 4
    )


@njit
def _run(
    ints: Ints,
    floats: Floats,
    bases: Ints,
    events: EventRecord,
    levels: Floats,
    start: int,
    horizons: Ints,
    weights: Floats,
    bands: Floats,
    interval: int,
    max_levels: int,
    ofi_levels: int,
    previous: int,
    impacts: int,
    window: int,
    buckets: int,
    tight: float,
    longest: int,
    tops: Floats,
    rows: EventRecord,
    values: Floats,
    n_rows: int,
    quotes: EventRecord,
    n_quotes: int,
    rejects: EventRecord,
    n_rejects: int,
) -> tuple[int, int, int, int, int]:
    """Events `start`…; stops at the end, where a record must grow, or where `rows` is full."""
    for i in range(start, len(events)):
        event = events[i]
        if not market.is_sound(bases, event, levels):
            return at.UNSOUND, i, n_rows, n_quotes, n_rejects
        base = bases[word(event.slot)]
        if n_rows == len(rows):
            return at.OUTPUT_FULL, i, n_rows, n_quotes, n_rejects
        if needs_room(ints, base, event, longest, impacts, window):
            return at.GROW, i, n_rows, n_quotes, n_rejects
        action, reason = market.advance(ints, floats, base, event, levels)
        time = ints[word(base + at.TIME)]
        if action == market.BOOK:
            bucket = time // interval + 1 if interval > 0 else 0
            emits = interval == 0 or bucket != ints[word(base + BUCKET)]
            depth = tops.shape[1] if emits else max(1, ofi_levels)
            n_bids = book.top(ints, floats, base, at.SIDE_BID, 1.0, depth, tops[0], tops[1])
            n_asks = book.top(ints, floats, base, at.SIDE_ASK, -1.0, depth, tops[2], tops[3])
            step(ints, floats, base, event, tops, n_bids, n_asks, ofi_levels, previous, horizons, values[n_rows])
            flow = values[n_rows, values.shape[1] - (5 + ofi_levels)]
            impact.add_book(ints, floats, base, impacts, floats[word(base + at.QUOTE_MID)], flow)
            if emits:
                ints[word(base + BUCKET)] = bucket
                row = rows[n_rows]
                row.event, row.time = i, time
                fill(
                    ints,
                    floats,
                    base,
                    event,
                    tops,
                    n_bids,
                    n_asks,
                    max_levels,
                    ofi_levels,
                    horizons,
                    weights,
                    bands,
                    impacts,
                    window,
                    buckets,
                    tight,
                    longest,
                    row,
                    values[n_rows],
                )
                n_rows += 1
        elif action == market.TRADE:
            if time != NO_TS:
                where = rings.slot_for_push(ints, base, TRADES, time)
                cap = ints[word(base + TRADES + at.RING_CAP)]
                floats[word(where + cap)] = event.size
                floats[word(where + 2 * cap)] = event.side
                blocks.add_trade(ints, floats, base, time, event.size, event.side)
                floats[word(where + 3 * cap)] = impact.add_trade(ints, floats, base, impacts, event, buckets)
            write_quote(floats, base, event, i, time, quotes[n_quotes])
            n_quotes += 1
        elif action == market.TICK and event.kind == _TICKER:
            write_quote(floats, base, event, i, time, quotes[n_quotes])
            n_quotes += 1
        elif action == market.BROKEN:
            mark_unknown(ints, floats, base, time)
            impact.add_break(ints, floats, base, impacts)
        if reason != at.OK:
            reject = rejects[n_rejects]
            reject.event, reject.reason = i, reason
            n_rejects += 1
    return at.DONE, len(events), n_rows, n_quotes, n_rejects


@njit
def write_quote(floats: Floats, base: int, event: EventRecord, i: int, time: int, quote: EventRecord) -> None:
    """What held just before a trade or ticker, at its own time; t, then capture time, stand in for a missing one."""
    quote.event = i
    quote.time = event.ts
    if event.ts == NO_TS:
        quote.time = time if time != NO_TS else event.capture_ts
    quote.mid, quote.spread = floats[word(base + at.QUOTE_MID)], floats[word(base + at.QUOTE_SPREAD)]


@njit
def fill(
    ints: Ints,
    floats: Floats,
    base: int,
    event: EventRecord,
    tops: Floats,
    n_bids: int,
    n_asks: int,
    max_levels: int,
    ofi_levels: int,
    horizons: Ints,
    weights: Floats,
    bands: Floats,
    impacts: int,
    window: int,
    buckets: int,
    tight: float,
    longest: int,
    row: EventRecord,
    values: Floats,
) -> None:
    """Write one row, columns in the catalogue's order; then start counting afresh."""
    c, truncated = static_columns(ints, floats, base, tops, n_bids, n_asks, max_levels, bands, values)
    out = len(values) - (6 + ofi_levels)
    # Known by their places: the microprice and the mid, behind the touch and the levels.
    micro_minus_mid = values[5 + 4 * max_levels] - values[2 + 4 * max_levels]
    for k in range(5 + ofi_levels):
        values[c + k] = values[out + k]
    c += 5 + ofi_levels
    values[c] = micro_minus_mid
    c = rolling_columns(ints, floats, base, horizons, weights, values, c + 1)
    c = regime_columns(ints, floats, base, longest, tight, values, c)
    c = impact.impact_columns(ints, floats, base, impacts, window, buckets, values, c)
    time_columns(ints[word(base + at.TIME)], values, c)
    row.updates = ints[word(base + at.UPDATES)]
    row.conflated = 1 if event.flags & CONFLATED else 0
    row.quality = (
        (QUALITY_AFTER_GAP if ints[word(base + at.GAP_COUNT)] > 0 else 0)
        | (QUALITY_LATE_CLAMPED if ints[word(base + at.LATE_COUNT)] > 0 else 0)
        | (QUALITY_TRUNCATED_BAND if truncated else 0)
    )
    ints[word(base + at.UPDATES)] = 0
    ints[word(base + at.GAP_COUNT)] = 0
    ints[word(base + at.LATE_COUNT)] = 0
