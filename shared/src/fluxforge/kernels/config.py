"""The parameters of the kernels, as plain frozen values."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

KERNEL_VERSION = 1
"""Raised whenever the same events would give other bits."""


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
    """

    max_levels: int = 10
    ofi_levels: int = 5
    horizons: tuple[int, ...] = (1, 5, 30, 60)
    bands_bps: tuple[float, ...] = (5.0, 10.0, 25.0, 50.0)
    hf_emit_interval: float = 1.0
    tight_spread_threshold: float = 0.0001
    keep_raw_arrays: bool = False

    def hash(self) -> str:
        """A short hash of the values and the kernel version; files and snapshots carry it."""
        return _hash("features", asdict(self))


@dataclass(frozen=True)
class BarConfig:
    """What the bar kernel computes: `durations` and `grace` in s."""

    durations: tuple[int, ...] = (1, 5, 30, 60, 300, 900, 3600, 14400)
    grace: float = 2.0

    def hash(self) -> str:
        """A short hash of the values and the kernel version."""
        return _hash("bars", asdict(self))


def _hash(name: str, values: dict[str, object]) -> str:
    text = json.dumps([name, KERNEL_VERSION, values], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
