"""A bucket: one bar in the making, a run of words in a bar record. Time and information-driven bars share it."""

from __future__ import annotations

from math import inf, nan

from fluxforge.batch import NO_TS
from fluxforge.kernels.book import Floats, Ints
from fluxforge.kernels.compiled import njit
from fluxforge.kernels.market import EventRecord

# Words of a bucket.
START, COUNT, TRADES, INCOMPLETE = 0, 1, 2, 3
OPEN, HIGH, LOW, CLOSE = 4, 5, 6, 7
SPREAD, MIN_SPREAD, MAX_SPREAD, RELATIVE, IMBALANCE, OFI, VARIANCE = 8, 9, 10, 11, 12, 13, 14
VOLUME, BUY, SELL, NOTIONAL = 15, 16, 17, 18
TRADE_OPEN, TRADE_HIGH, TRADE_LOW, TRADE_CLOSE = 19, 20, 21, 22
WORDS = 23
EMPTY = NO_TS


@njit
def begin(ints: Ints, floats: Floats, word: int, start: int) -> None:
    """A new bar from `start`, ns."""
    ints[word + START] = start
    for k in range(COUNT, WORDS):
        ints[word + k] = 0
    floats[word + MIN_SPREAD] = floats[word + LOW] = floats[word + TRADE_LOW] = inf
    floats[word + MAX_SPREAD] = floats[word + HIGH] = floats[word + TRADE_HIGH] = -inf


@njit
def fold_book(
    ints: Ints, floats: Floats, word: int, mid: float, spread: float, imbalance: float, flow: float, change: float
) -> None:
    """A valid book, and the OFI and log return of the step that ends in it (0 without one)."""
    if ints[word + COUNT] == 0:
        floats[word + OPEN] = mid
    ints[word + COUNT] += 1
    floats[word + HIGH] = max(floats[word + HIGH], mid)
    floats[word + LOW] = min(floats[word + LOW], mid)
    floats[word + CLOSE] = mid
    floats[word + SPREAD] += spread
    floats[word + MIN_SPREAD] = min(floats[word + MIN_SPREAD], spread)
    floats[word + MAX_SPREAD] = max(floats[word + MAX_SPREAD], spread)
    floats[word + RELATIVE] += spread / mid
    floats[word + IMBALANCE] += imbalance
    floats[word + OFI] += flow
    floats[word + VARIANCE] += change * change


@njit
def fold_trade(ints: Ints, floats: Floats, word: int, price: float, size: float, side: float) -> None:
    """A trade; `side` of the taker."""
    if ints[word + TRADES] == 0:
        floats[word + TRADE_OPEN] = price
    ints[word + TRADES] += 1
    floats[word + TRADE_HIGH] = max(floats[word + TRADE_HIGH], price)
    floats[word + TRADE_LOW] = min(floats[word + TRADE_LOW], price)
    floats[word + TRADE_CLOSE] = price
    floats[word + VOLUME] += size
    floats[word + NOTIONAL] += price * size
    if side > 0.0:
        floats[word + BUY] += size
    elif side < 0.0:
        floats[word + SELL] += size


@njit
def write_bar(ints: Ints, floats: Floats, word: int, end: int, bar: EventRecord) -> None:
    """The bar as a row; `end` in ns."""
    bar.timestamp, bar.end = ints[word + START], end
    count, trades = ints[word + COUNT], ints[word + TRADES]
    bar.count, bar.trade_count, bar.incomplete = count, trades, ints[word + INCOMPLETE]
    has_book, has_trade = count > 0, trades > 0
    bar.open = floats[word + OPEN] if has_book else nan
    bar.high = floats[word + HIGH] if has_book else nan
    bar.low = floats[word + LOW] if has_book else nan
    bar.close = floats[word + CLOSE] if has_book else nan
    bar.mean_spread = floats[word + SPREAD] / count if has_book else nan
    bar.min_spread = floats[word + MIN_SPREAD] if has_book else nan
    bar.max_spread = floats[word + MAX_SPREAD] if has_book else nan
    bar.mean_relative_spread = floats[word + RELATIVE] / count if has_book else nan
    bar.mean_l1_imbalance = floats[word + IMBALANCE] / count if has_book else nan
    bar.sum_ofi = floats[word + OFI]
    bar.realized_variance = floats[word + VARIANCE]
    bar.volume, bar.buy_volume, bar.sell_volume = (
        floats[word + VOLUME],
        floats[word + BUY],
        floats[word + SELL],
    )
    bar.notional = floats[word + NOTIONAL]
    bar.vwap = floats[word + NOTIONAL] / floats[word + VOLUME] if has_trade else nan
    bar.trade_open = floats[word + TRADE_OPEN] if has_trade else nan
    bar.trade_high = floats[word + TRADE_HIGH] if has_trade else nan
    bar.trade_low = floats[word + TRADE_LOW] if has_trade else nan
    bar.trade_close = floats[word + TRADE_CLOSE] if has_trade else nan
