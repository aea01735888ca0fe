"""The parameters of the kernels, as plain frozen values."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

KERNEL_VERSION = 2
"""Raised whenever the same events would give other bits."""

INFORMATION = ("tick", "volume", "dollar", "tick_imbalance")
"""The information-driven bars, in the order in which one trade closes them."""

DEFAULT = "default"
"""Stands for every market that is not named."""


@dataclass(frozen=True)
class FeatureConfig:
    """What the feature kernel computes.

    max_levels              levels per side in a row
    ofi_levels              levels of multi-level OFI
    horizons                rolling windows, s
    bands_bps               outer edges of the depth bands, bps from mid
    hf_emit_interval        s between rows; 0 emits a row for every book
    tight_spread_threshold  relative spread below which a spread is tight
    keep_raw_arrays         adds the top levels as lists
    impact_window           window of the flow and impact features, s
    vpin_buckets            volume buckets that VPIN spans
    vpin_volume             of a bucket, base currency
    vpin_volumes            the same for single markets: (`exchange|symbol` or symbol, volume)
    features                names of the columns that rows carry, `*` standing for any letters
    """

    max_levels: int = 10
    ofi_levels: int = 5
    horizons: tuple[int, ...] = (1, 5, 30, 60)
    bands_bps: tuple[float, ...] = (5.0, 10.0, 25.0, 50.0)
    hf_emit_interval: float = 1.0
    tight_spread_threshold: float = 0.0001
    keep_raw_arrays: bool = False
    impact_window: int = 300
    vpin_buckets: int = 50
    vpin_volume: float = 1.0
    vpin_volumes: tuple[tuple[str, float], ...] = ()
    features: tuple[str, ...] = ("*",)

    def bucket_volume(self, key: str) -> float:
        """Volume of a VPIN bucket of a key, base currency."""
        return for_key(key, dict(self.vpin_volumes), self.vpin_volume)

    def hash(self) -> str:
        """A short hash of the values and the kernel version; files and snapshots carry it."""
        return _hash("features", asdict(self))


@dataclass(frozen=True)
class BarConfig:
    """What the bar kernel computes.

    durations    of time bars, s
    grace        s a time bar waits for late events
    information  thresholds of information-driven bars: (type, market, threshold), a type of `INFORMATION`, a market
                 `exchange|symbol`, a symbol or DEFAULT
    """

    durations: tuple[int, ...] = (1, 5, 30, 60, 300, 900, 3600, 14400)
    grace: float = 2.0
    information: tuple[tuple[str, str, float], ...] = ()

    def thresholds(self, key: str) -> tuple[float, ...]:
        """The threshold of each type of `INFORMATION` for a key; infinity where it makes no such bars."""
        found = []
        for kind in INFORMATION:
            given = {market: threshold for name, market, threshold in self.information if name == kind}
            found.append(for_key(key, given, given.get(DEFAULT, math.inf)))
        return tuple(found)

    def hash(self) -> str:
        """A short hash of the values and the kernel version."""
        return _hash("bars", asdict(self))


def for_key(key: str, given: Mapping[str, float], default: float) -> float:
    """What is given for the key `exchange|symbol`, else for its symbol on any exchange, else `default`.

    A name with a prefix before the exchange, `3:exchange|symbol`, stands for its key.
    """
    exchange, _, symbol = key.partition("|")
    exchange = exchange.rpartition(":")[2]
    return given.get(f"{exchange}|{symbol}", given.get(symbol, default))


def _hash(name: str, values: dict[str, object]) -> str:
    text = json.dumps([name, KERNEL_VERSION, values], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
