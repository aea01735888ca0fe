"""The feature kernel: events of many keys in, feature rows out, one compiled call per batch.

Definitions are those of the feature catalogue (`fluxforge.catalogue`), whose column order the row functions follow.
Every rolling value is computed from what stands in its window and nothing else: sums run over the window's own
entries in log order, the decayed sum over absolute one-second blocks; so a value forgets what has left its window to
the last bit, and a processor that started later gives the same bits.
"""

from __future__ import annotations

from math import exp2, log, nan, sqrt
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from fluxforge.batch import CONFLATED, NO_TS, EventBatch
from fluxforge.events import Kind
from fluxforge.kernels import book, market, rings
from fluxforge.kernels import layout as at
from fluxforge.kernels.arena import Arena, Ring
from fluxforge.kernels.book import Floats, Ints
from fluxforge.kernels.config import FeatureConfig
from fluxforge.kernels.market import EventRecord

_TICKER = int(Kind.TICKER)
NS = 1_000_000_000
REGIME_NS = 30 * NS
TOUCH_BPS = 5.0
DECAY_SPAN = 10

QUALITY_AFTER_GAP = 1
QUALITY_LATE_CLAMPED = 2
QUALITY_TRUNCATED_BAND = 4

# Header words of a feature record, behind the core.
BUCKET = at.CORE_WORDS  # bucket of the newest row, counted from 1; 0 before the first
PREV_VELOCITY = at.CORE_WORDS + 1  # float
PREV_BIDS = at.CORE_WORDS + 2  # levels of the previous book kept for OFI
PREV_ASKS = at.CORE_WORDS + 3
STEPS = at.CORE_WORDS + 4  # ring: time, log return, OFI, depth within 5 bps, relative spread
DECAY = STEPS + at.RING_WORDS  # ring: time, OFI
TRADES = DECAY + at.RING_WORDS  # ring: time, size, side
BLOCKS = TRADES + at.RING_WORDS  # ring: second, decayed OFI of that second at its end, per horizon
REGIME_POINTER = BLOCKS + at.RING_WORDS
LONGEST_POINTER = REGIME_POINTER + 1
POINTERS = LONGEST_POINTER + 1  # per horizon: steps, trades, decay, blocks

ROW = np.dtype(
    [
        ("event", "<i8"),  # index in the batch
        ("time", "<i8"),  # t, ns
        ("updates", "<i8"),  # exchange updates since the last row
        ("quality", "<i8"),
        ("conflated", "<i8"),
    ]
)
QUOTE = np.dtype([("event", "<i8"), ("time", "<i8"), ("mid", "<f8"), ("spread", "<f8")])
REJECT = np.dtype([("event", "<i8"), ("reason", "<i8")])


class FeatureOutput(NamedTuple):
    """What a batch yielded; `event` fields index the batch.

    rows     dtype ROW, with `values` (rows × columns, float64, NaN for null) beside it
    quotes   dtype QUOTE: for each good trade and each ticker, the mid and spread just before it (NaN: none holds)
    rejects  dtype REJECT: events for the dead-letter topic, with an index into `layout.REASONS`
    """

    rows: NDArray[np.void]
    values: Floats
    quotes: NDArray[np.void]
    rejects: NDArray[np.void]


class FeatureKernel:
    """Feature state of many keys; see `Arena` for slots, saving and restoring."""

    def __init__(self, config: FeatureConfig) -> None:
        self.config = config
        count = len(config.horizons)
        self._previous = POINTERS + 4 * count
        self.columns = column_count(config)
        self.arena = Arena(
            self._previous + 4 * config.ofi_levels,
            (Ring(STEPS, 5), Ring(DECAY, 2), Ring(TRADES, 3), Ring(BLOCKS, 1 + count)),
        )
        self._horizons = np.array([h * NS for h in config.horizons], np.int64)
        self._bands = np.array((0.0, *config.bands_bps), np.float64)
        self._interval = round(config.hf_emit_interval * NS)

    def run(self, batch: EventBatch) -> FeatureOutput:
        """Process a batch; slots must come from `arena.slot`."""
        count = len(batch.events)
        quotes, rejects = np.empty(count, QUOTE), np.empty(count, REJECT)
        rows: list[NDArray[np.void]] = []
        values: list[Floats] = []
        start = n_quotes = n_rejects = 0
        room = min(count, 256)
        while True:
            some_rows, some_values = np.empty(room, ROW), np.empty((room, self.columns))
            status, start, n_rows, n_quotes, n_rejects = _run(
                self.arena.ints,
                self.arena.floats,
                self.arena.bases,
                batch.events,
                batch.levels,
                start,
                self._horizons,
                self._bands,
                self._interval,
                self.config.max_levels,
                self.config.ofi_levels,
                self._previous,
                self.config.tight_spread_threshold,
                some_rows,
                some_values,
                quotes,
                n_quotes,
                rejects,
                n_rejects,
            )
            rows.append(some_rows[:n_rows])
            values.append(some_values[:n_rows])
            if status == at.DONE:
                break
            if status == at.GROW:
                event = batch.events[start]
                self.arena.grow(int(event["slot"]), int(max(event["bids"], event["asks"])))
            else:
                room = min(count - start + 1, 4 * room)
        return FeatureOutput(np.concatenate(rows), np.concatenate(values), quotes[:n_quotes], rejects[:n_rejects])


def column_count(config: FeatureConfig) -> int:
    """Columns of a row's `values`."""
    levels, bands, horizons = config.max_levels, len(config.bands_bps), len(config.horizons)
    return 2 + 5 * levels + 4 + 1 + 2 * bands + 2 + 3 + (2 + config.ofi_levels + 4) + 6 * horizons + 4 + 4


@numba.njit(cache=True)
def _run(
    ints: Ints,
    floats: Floats,
    bases: Ints,
    events: EventRecord,
    levels: Floats,
    start: int,
    horizons: Ints,
    bands: Floats,
    interval: int,
    max_levels: int,
    ofi_levels: int,
    previous: int,
    tight: float,
    rows: EventRecord,
    values: Floats,
    quotes: EventRecord,
    n_quotes: int,
    rejects: EventRecord,
    n_rejects: int,
) -> tuple[int, int, int, int, int]:
    """Events `start`…; stops at the end, where a record must grow, or where `rows` is full."""
    depth = max(max_levels, ofi_levels)
    tops = np.empty((4, depth))
    n_rows = 0
    longest = horizons.max()
    for i in range(start, len(events)):
        event = events[i]
        base = bases[event.slot]
        if n_rows == len(rows):
            return at.OUTPUT_FULL, i, n_rows, n_quotes, n_rejects
        if needs_room(ints, base, event, longest):
            return at.GROW, i, n_rows, n_quotes, n_rejects
        action, reason = market.advance(ints, floats, base, event, levels)
        time = ints[base + at.TIME]
        if action == market.BOOK:
            n_bids = book.top(ints, floats, base, at.SIDE_BID, 1.0, depth, tops[0], tops[1])
            n_asks = book.top(ints, floats, base, at.SIDE_ASK, -1.0, depth, tops[2], tops[3])
            bucket = time // interval + 1 if interval > 0 else 0
            emits = interval == 0 or bucket != ints[base + BUCKET]
            step(ints, floats, base, event, tops, n_bids, n_asks, ofi_levels, previous, horizons, values[n_rows])
            if emits:
                ints[base + BUCKET] = bucket
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
                    bands,
                    tight,
                    row,
                    values[n_rows],
                )
                n_rows += 1
        elif action == market.TRADE:
            if time != NO_TS:
                where = rings.slot_for_push(ints, base, TRADES, time)
                cap = ints[base + TRADES + at.RING_CAP]
                floats[where + cap] = event.size
                floats[where + 2 * cap] = event.side
            write_quote(floats, base, event, i, time, quotes[n_quotes])
            n_quotes += 1
        elif action == market.TICK and event.kind == _TICKER:
            write_quote(floats, base, event, i, time, quotes[n_quotes])
            n_quotes += 1
        elif action == market.BROKEN:
            mark_unknown(ints, floats, base, time)
        if reason != at.OK:
            reject = rejects[n_rejects]
            reject.event, reject.reason = i, reason
            n_rejects += 1
    return at.DONE, len(events), n_rows, n_quotes, n_rejects


@numba.njit(cache=True)
def write_quote(floats: Floats, base: int, event: EventRecord, i: int, time: int, quote: EventRecord) -> None:
    """What held just before a trade or ticker, at its own time; t, then capture time, stand in for a missing one."""
    quote.event = i
    quote.time = event.ts
    if event.ts == NO_TS:
        quote.time = time if time != NO_TS else event.capture_ts
    quote.mid, quote.spread = floats[base + at.QUOTE_MID], floats[base + at.QUOTE_SPREAD]


@numba.njit(cache=True)
def needs_room(ints: Ints, base: int, event: EventRecord, longest: int) -> bool:
    """Whether the record must grow before this event; forgets what has left the windows first."""
    time = ints[base + at.TIME]
    if rings.is_full(ints, base, STEPS):
        rings.forget_until(ints, base, STEPS, time - max(longest, REGIME_NS), 1)
    if rings.is_full(ints, base, DECAY):
        rings.forget_until(ints, base, DECAY, time - DECAY_SPAN * longest, 0)
    if rings.is_full(ints, base, TRADES):
        rings.forget_until(ints, base, TRADES, time - longest, 0)
    if rings.is_full(ints, base, BLOCKS):
        rings.forget_until(ints, base, BLOCKS, (time - DECAY_SPAN * longest) // NS, 0)
    return (
        rings.is_full(ints, base, STEPS)
        or rings.is_full(ints, base, DECAY)
        or rings.is_full(ints, base, TRADES)
        or rings.is_full(ints, base, BLOCKS)
        or ints[base + at.SIDE_BID + at.SIDE_N] + event.bids >= ints[base + at.SIDE_BID + at.SIDE_CAP]
        or ints[base + at.SIDE_ASK + at.SIDE_N] + event.asks >= ints[base + at.SIDE_ASK + at.SIDE_CAP]
    )


@numba.njit(cache=True)
def mark_unknown(ints: Ints, floats: Floats, base: int, time: int) -> None:
    """From `time` on no spread and no depth is known, until the next valid book."""
    if not ints[base + at.KNOWN]:
        return
    ints[base + at.KNOWN] = 0
    where = rings.slot_for_push(ints, base, STEPS, time)
    cap = ints[base + STEPS + at.RING_CAP]
    for column in range(1, 5):
        floats[where + column * cap] = nan


@numba.njit(cache=True)
def level_ofi(
    bid: float, bid_size: float, was_bid: float, was_bid_size: float,
    ask: float, ask_size: float, was_ask: float, was_ask_size: float,
) -> float:  # fmt: skip
    """Order flow imbalance of one level (Cont, Kukanov, Stoikov 2014, arXiv:1011.6402)."""
    flow = 0.0
    if bid >= was_bid:
        flow += bid_size
    if bid <= was_bid:
        flow -= was_bid_size
    if ask <= was_ask:
        flow -= ask_size
    if ask >= was_ask:
        flow += was_ask_size
    return flow


@numba.njit(cache=True)
def step(
    ints: Ints,
    floats: Floats,
    base: int,
    event: EventRecord,
    tops: Floats,
    n_bids: int,
    n_asks: int,
    ofi_levels: int,
    previous: int,
    horizons: Ints,
    values: Floats,
) -> None:
    """Difference the book with the previous one and push the step.

    The dynamic values are left at the end of `values`, where `fill` takes them from.
    """
    time = ints[base + at.TIME]
    bid, ask = tops[0, 0], tops[2, 0]
    mid = (bid + ask) / 2.0
    spread = ask - bid
    have = ints[base + at.HAVE_PREV] == 1
    prev = base + previous
    out = len(values) - (6 + ofi_levels)
    change = flow = multi = velocity = accel = nan
    if have:
        change = log(mid / floats[base + at.PREV_MID])
        multi = 0.0
    prev_bids, prev_asks = ints[base + PREV_BIDS], ints[base + PREV_ASKS]
    for k in range(ofi_levels):
        value = nan
        if have and k < n_bids and k < n_asks and k < prev_bids and k < prev_asks:
            p = prev + 4 * k
            value = level_ofi(
                tops[0, k], tops[1, k], floats[p], floats[p + 1], tops[2, k], tops[3, k], floats[p + 2], floats[p + 3]
            )
            multi += value
            if k == 0:
                flow = value
        values[out + 2 + k] = value
    for k in range(min(ofi_levels, n_bids)):
        floats[prev + 4 * k] = tops[0, k]
        floats[prev + 4 * k + 1] = tops[1, k]
    for k in range(min(ofi_levels, n_asks)):
        floats[prev + 4 * k + 2] = tops[2, k]
        floats[prev + 4 * k + 3] = tops[3, k]
    ints[base + PREV_BIDS], ints[base + PREV_ASKS] = n_bids, n_asks
    if have:
        dt = (time - ints[base + at.PREV_TIME]) / 1e9
        if dt > 0.0:
            velocity = (mid - floats[base + at.PREV_MID]) / dt
            accel = (velocity - floats[base + PREV_VELOCITY]) / dt
    values[out], values[out + 1] = change, flow
    values[out + 2 + ofi_levels] = multi
    values[out + 3 + ofi_levels] = velocity
    values[out + 4 + ofi_levels] = accel
    ints[base + at.HAVE_PREV] = 1
    ints[base + at.KNOWN] = 1
    ints[base + at.PREV_TIME] = time
    floats[base + at.PREV_MID] = mid
    floats[base + PREV_VELOCITY] = velocity
    floats[base + at.QUOTE_MID], floats[base + at.QUOTE_SPREAD] = mid, spread
    ints[base + at.UPDATES] += event.updates
    near = book.depth_within(ints, floats, base, at.SIDE_BID, mid, TOUCH_BPS)
    near += book.depth_within(ints, floats, base, at.SIDE_ASK, mid, TOUCH_BPS)
    where = rings.slot_for_push(ints, base, STEPS, time)
    cap = ints[base + STEPS + at.RING_CAP]
    floats[where + cap] = change
    floats[where + 2 * cap] = flow
    floats[where + 3 * cap] = near
    floats[where + 4 * cap] = spread / mid
    if have:
        push_decay(ints, floats, base, time, flow, horizons)


@numba.njit(cache=True)
def push_decay(ints: Ints, floats: Floats, base: int, time: int, flow: float, horizons: Ints) -> None:
    """Keep a step's OFI for the decayed sums: by itself, and in the block of its second."""
    where = rings.slot_for_push(ints, base, DECAY, time)
    floats[where + ints[base + DECAY + at.RING_CAP]] = flow
    second = time // NS
    head = base + BLOCKS
    n = ints[head + at.RING_N]
    cap = ints[head + at.RING_CAP]
    newest = base + ints[head + at.RING_AT] + ((n - 1) & (cap - 1))
    if n == ints[head + at.RING_LO] or ints[newest] != second:
        newest = rings.slot_for_push(ints, base, BLOCKS, second)
        for h in range(len(horizons)):
            floats[newest + (h + 1) * cap] = 0.0
    left = (second + 1) * NS - time
    for h in range(len(horizons)):
        floats[newest + (h + 1) * cap] += flow * exp2(-(left / horizons[h]))


@numba.njit(cache=True)
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
    bands: Floats,
    tight: float,
    row: EventRecord,
    values: Floats,
) -> None:
    """Write one row, columns in the catalogue's order; then start counting afresh."""
    c, truncated = static_columns(ints, floats, base, tops, n_bids, n_asks, max_levels, bands, values)
    out = len(values) - (6 + ofi_levels)
    micro_minus_mid = values[5 + 4 * max_levels] - values[2 + 4 * max_levels]
    for k in range(5 + ofi_levels):
        values[c + k] = values[out + k]
    c += 5 + ofi_levels
    values[c] = micro_minus_mid
    c = rolling_columns(ints, floats, base, horizons, values, c + 1)
    c = regime_columns(ints, floats, base, horizons.max(), tight, values, c)
    time_columns(ints[base + at.TIME], values, c)
    row.updates = ints[base + at.UPDATES]
    row.conflated = 1 if event.flags & CONFLATED else 0
    row.quality = (
        (QUALITY_AFTER_GAP if ints[base + at.GAP_COUNT] > 0 else 0)
        | (QUALITY_LATE_CLAMPED if ints[base + at.LATE_COUNT] > 0 else 0)
        | (QUALITY_TRUNCATED_BAND if truncated else 0)
    )
    ints[base + at.UPDATES] = 0
    ints[base + at.GAP_COUNT] = 0
    ints[base + at.LATE_COUNT] = 0


@numba.njit(cache=True)
def static_columns(
    ints: Ints,
    floats: Floats,
    base: int,
    tops: Floats,
    n_bids: int,
    n_asks: int,
    max_levels: int,
    bands: Floats,
    values: Floats,
) -> tuple[int, bool]:
    """The columns of one book; returns the next column and whether a band is truncated."""
    bid, bid_size, ask, ask_size = tops[0, 0], tops[1, 0], tops[2, 0], tops[3, 0]
    mid = (bid + ask) / 2.0
    values[0], values[1] = bid, ask
    c = 2
    value_sum = size_sum = 0.0
    for k in range(max_levels):
        values[c] = tops[0, k] if k < n_bids else nan
        values[c + 1] = tops[1, k] if k < n_bids else nan
        values[c + 2] = tops[2, k] if k < n_asks else nan
        values[c + 3] = tops[3, k] if k < n_asks else nan
        c += 4
    values[c] = mid
    values[c + 1] = ask - bid
    values[c + 2] = (ask - bid) / mid
    values[c + 3] = (bid_size * ask + ask_size * bid) / (bid_size + ask_size)
    c += 4
    for k in range(max_levels):
        both = k < n_bids and k < n_asks
        values[c + k] = (tops[1, k] - tops[3, k]) / (tops[1, k] + tops[3, k]) if both else nan
    c += max_levels
    for side in range(0, 4, 2):
        for k in range(min(max_levels, n_bids if side == 0 else n_asks)):
            value_sum += tops[side, k] * tops[side + 1, k]
            size_sum += tops[side + 1, k]
    values[c] = value_sum / size_sum
    c += 1
    n_bands = len(bands) - 1
    bid_reach = band_columns(ints, floats, base, at.SIDE_BID, mid, bands, values, c)
    ask_reach = band_columns(ints, floats, base, at.SIDE_ASK, mid, bands, values, c + 1)
    total_bids = total_asks = 0.0
    for k in range(n_bands):
        total_bids += values[c + 2 * k]
        total_asks += values[c + 2 * k + 1]
    c += 2 * n_bands
    values[c], values[c + 1] = total_bids, total_asks
    live_bids, live_asks = ints[base + at.SIDE_BID + at.SIDE_LIVE], ints[base + at.SIDE_ASK + at.SIDE_LIVE]
    values[c + 2] = min(live_bids, live_asks)
    values[c + 3], values[c + 4] = bid_reach, ask_reach
    return c + 5, min(bid_reach, ask_reach) < bands[n_bands]


@numba.njit(cache=True)
def band_columns(
    ints: Ints, floats: Floats, base: int, side: int, mid: float, bands: Floats, values: Floats, c: int
) -> float:
    """Σ size per depth band into every second column from `c`; returns the reach of the side, bps."""
    head = base + side
    keys = base + ints[head + at.SIDE_AT]
    sizes = keys + ints[head + at.SIDE_CAP]
    n_bands = len(bands) - 1
    for k in range(n_bands):
        values[c + 2 * k] = 0.0
    band = 0
    for slot in range(ints[head + at.SIDE_N] - 1, -1, -1):
        distance = abs(mid - abs(floats[keys + slot])) / mid * 1e4
        while band < n_bands and distance >= bands[band + 1]:
            band += 1
        if band == n_bands:
            break
        if distance >= bands[0]:
            values[c + 2 * band] += floats[sizes + slot]
    deepest = 0
    while floats[sizes + deepest] == 0.0:
        deepest += 1
    return float(abs(mid - abs(floats[keys + deepest])) / mid * 1e4)


@numba.njit(cache=True)
def rolling_columns(ints: Ints, floats: Floats, base: int, horizons: Ints, values: Floats, c: int) -> int:
    """rv, return_std, ofi_decay, ofi_sum, tfi and trade_vol, each for every horizon."""
    time = ints[base + at.TIME]
    count = len(horizons)
    for h in range(count):
        since = time - horizons[h]
        pointer = POINTERS + 4 * h
        rv, std, ofi = return_window(ints, floats, base, rings.first_after(ints, base, STEPS, pointer, since))
        tfi, volume = trade_window(ints, floats, base, rings.first_after(ints, base, TRADES, pointer + 1, since))
        values[c + h] = rv
        values[c + count + h] = std
        values[c + 2 * count + h] = decayed(ints, floats, base, time, h, horizons[h], pointer + 2)
        values[c + 3 * count + h] = ofi
        values[c + 4 * count + h] = tfi
        values[c + 5 * count + h] = volume
    return c + 6 * count


@numba.njit(cache=True)
def return_window(ints: Ints, floats: Floats, base: int, first: int) -> tuple[float, float, float]:
    """sqrt(Σ r²), population standard deviation of r (NaN without a step), Σ OFI over the steps from `first`."""
    head = base + STEPS
    cap = ints[head + at.RING_CAP]
    returns = base + ints[head + at.RING_AT] + cap
    n = ints[head + at.RING_N]
    squares = total = flow = 0.0
    steps = 0
    for entry in range(first, n):
        where = returns + (entry & (cap - 1))
        r = floats[where]
        if r == r:  # noqa: PLR0124  NaN marks an entry that is no step
            squares += r * r
            total += r
            flow += floats[where + cap]
            steps += 1
    if steps == 0:
        return 0.0, nan, 0.0
    mean = total / steps
    deviation = 0.0
    for entry in range(first, n):
        r = floats[returns + (entry & (cap - 1))]
        if r == r:  # noqa: PLR0124
            deviation += (r - mean) * (r - mean)
    return sqrt(squares), sqrt(deviation / steps), flow


@numba.njit(cache=True)
def trade_window(ints: Ints, floats: Floats, base: int, first: int) -> tuple[float, float]:
    """Trade flow imbalance and volume of the trades from `first`."""
    head = base + TRADES
    cap = ints[head + at.RING_CAP]
    sizes = base + ints[head + at.RING_AT] + cap
    volume = bought = sold = 0.0
    for entry in range(first, ints[head + at.RING_N]):
        where = sizes + (entry & (cap - 1))
        size, side = floats[where], floats[where + cap]
        volume += size
        if side > 0.0:
            bought += size
        elif side < 0.0:
            sold += size
    taken = bought + sold
    return (bought - sold) / taken if taken > 0.0 else 0.0, volume


@numba.njit(cache=True)
def decayed(ints: Ints, floats: Floats, base: int, time: int, h: int, horizon: int, pointer: int) -> float:
    """Σ OFI·2^(−age/horizon) over (t − 10 horizons, t].

    The window's first and last second are summed step by step, the whole seconds between by their blocks, carried
    from second to second: absolute blocks, so that the value knows nothing of when the processor started.
    """
    since = time - DECAY_SPAN * horizon
    first_block, last_block = since // NS + 1, time // NS - 1
    head = base + DECAY
    cap = ints[head + at.RING_CAP]
    times = base + ints[head + at.RING_AT]
    n = ints[head + at.RING_N]
    edge = 0.0
    entry = rings.first_after(ints, base, DECAY, pointer, since)
    while entry < n:
        where = times + (entry & (cap - 1))
        if ints[where] // NS >= first_block and first_block <= last_block:
            break
        edge += floats[where + cap] * exp2(-((time - ints[where]) / horizon))
        entry += 1
    if first_block > last_block:
        return edge
    blocks = base + BLOCKS
    block_cap = ints[blocks + at.RING_CAP]
    seconds = base + ints[blocks + at.RING_AT]
    carried = 0.0
    reached = first_block - 1
    block = rings.first_after(ints, base, BLOCKS, pointer + 1, reached)
    one_second = exp2(-(NS / horizon))
    while block < ints[blocks + at.RING_N]:
        where = seconds + (block & (block_cap - 1))
        second = ints[where]
        if second > last_block:
            break
        if second == reached + 1:
            carried = carried * one_second + floats[where + (h + 1) * block_cap]
        else:
            carried = carried * exp2(-((second - reached) * NS / horizon)) + floats[where + (h + 1) * block_cap]
        reached = second
        block += 1
    carried *= exp2(-((time - (reached + 1) * NS) / horizon))
    current = 0.0
    entry = n - 1
    oldest = ints[head + at.RING_LO]
    while entry >= oldest and ints[times + (entry & (cap - 1))] // NS > last_block:
        entry -= 1
    for later in range(entry + 1, n):
        where = times + (later & (cap - 1))
        current += floats[where + cap] * exp2(-((time - ints[where]) / horizon))
    return edge + carried + current


@numba.njit(cache=True)
def regime_columns(ints: Ints, floats: Floats, base: int, longest: int, tight: float, values: Floats, c: int) -> int:
    """depth_0_5bps_sigma and the shares of time tight, wide and thin, over 30 s."""
    time = ints[base + at.TIME]
    head = base + STEPS
    cap = ints[head + at.RING_CAP]
    times = base + ints[head + at.RING_AT]
    lo, n = ints[head + at.RING_LO], ints[head + at.RING_N]
    spread_sum = depth_sum = known = 0.0
    first = rings.first_after(ints, base, STEPS, LONGEST_POINTER, time - longest)
    for i in range(max(first - 1, lo), n):
        where = times + (i & (cap - 1))
        until = time if i + 1 == n else ints[times + ((i + 1) & (cap - 1))]
        lasted = float(until - max(ints[where], time - longest))
        relative = floats[where + 4 * cap]
        if relative == relative:  # noqa: PLR0124
            spread_sum += lasted * relative
            depth_sum += lasted * floats[where + 3 * cap]
            known += lasted
    wide_above = 3.0 * (spread_sum / known) if known > 0.0 else np.inf
    thin_below = 0.5 * (depth_sum / known) if known > 0.0 else -np.inf
    tight_time = wide_time = thin_time = known = 0.0
    first = rings.first_after(ints, base, STEPS, REGIME_POINTER, time - REGIME_NS)
    snapshots = 0
    total = 0.0
    for i in range(max(first - 1, lo), n):
        where = times + (i & (cap - 1))
        until = time if i + 1 == n else ints[times + ((i + 1) & (cap - 1))]
        lasted = float(until - max(ints[where], time - REGIME_NS))
        depth, relative = floats[where + 3 * cap], floats[where + 4 * cap]
        if relative == relative:  # noqa: PLR0124
            known += lasted
            if relative < tight:
                tight_time += lasted
            if relative > wide_above:
                wide_time += lasted
            if depth < thin_below:
                thin_time += lasted
            if i >= first:
                total += depth
                snapshots += 1
    mean = total / snapshots
    deviation = 0.0
    for i in range(first, n):
        depth = floats[times + 3 * cap + (i & (cap - 1))]
        if depth == depth:  # noqa: PLR0124
            deviation += (depth - mean) * (depth - mean)
    values[c] = sqrt(deviation / snapshots)
    values[c + 1] = tight_time / known if known > 0.0 else nan
    values[c + 2] = wide_time / known if known > 0.0 else nan
    values[c + 3] = thin_time / known if known > 0.0 else nan
    return c + 4


@numba.njit(cache=True)
def time_columns(time: int, values: Floats, c: int) -> None:
    """hour_of_day, day_of_week (Monday = 0), is_weekend, minute_of_hour of t, UTC."""
    seconds = time // NS
    day = (seconds // 86400 + 3) % 7
    values[c] = seconds // 3600 % 24
    values[c + 1] = day
    values[c + 2] = 1.0 if day >= 5 else 0.0
    values[c + 3] = seconds // 60 % 60
