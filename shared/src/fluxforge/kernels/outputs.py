"""What the kernels yield: plain arrays, free of the compiler."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fluxforge.kernels.config import INFORMATION

QUALITY_AFTER_GAP = 1
QUALITY_LATE_CLAMPED = 2
QUALITY_TRUNCATED_BAND = 4

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
    values: NDArray[np.float64]
    quotes: NDArray[np.void]
    rejects: NDArray[np.void]


BAR = np.dtype(
    [
        ("event", "<i8"),  # index of the event that closed it
        ("slot", "<i8"),
        ("kind", "<i8"),  # index into BAR_TYPES
        ("duration", "<i8"),  # s; 0 of an information-driven bar
        ("timestamp", "<i8"),  # start, ns
        ("end", "<i8"),  # ns
        ("open", "<f8"),
        ("high", "<f8"),
        ("low", "<f8"),
        ("close", "<f8"),
        ("mean_spread", "<f8"),
        ("min_spread", "<f8"),
        ("max_spread", "<f8"),
        ("mean_relative_spread", "<f8"),
        ("mean_l1_imbalance", "<f8"),
        ("sum_ofi", "<f8"),
        ("realized_variance", "<f8"),
        ("count", "<i8"),
        ("volume", "<f8"),
        ("buy_volume", "<f8"),
        ("sell_volume", "<f8"),
        ("trade_count", "<i8"),
        ("vwap", "<f8"),
        ("notional", "<f8"),
        ("trade_open", "<f8"),
        ("trade_high", "<f8"),
        ("trade_low", "<f8"),
        ("trade_close", "<f8"),
        ("incomplete", "<i8"),
    ]
)
BAR_TYPES = ("time", *INFORMATION)
LATE = np.dtype([("event", "<i8"), ("durations", "<i8")])
"""A late event and the durations it missed: bit i is `durations[i]` of the configuration."""


class BarOutput(NamedTuple):
    """What a batch yielded; `event` fields index the batch. `rejects` as in the feature kernel."""

    bars: NDArray[np.void]
    late: NDArray[np.void]
    rejects: NDArray[np.void]
