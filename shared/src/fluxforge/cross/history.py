"""The same rows from feature rows at rest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from fluxforge.cross.config import CrossConfig
from fluxforge.cross.kernel import CrossKernel
from fluxforge.cross.row import Row


class Kept(dict[str, bytes]):
    """What the kernel remembers, in memory: a plain mapping that can be stored and given again."""

    def get(self, key: str) -> bytes | None:  # type: ignore[override]
        return super().get(key)

    def set(self, key: str, value: bytes) -> None:
        self[key] = value


class History:
    """Feature rows in pieces, each a stretch of time of all partitions: the second begins where the first ends.

    `kept` is what an earlier run left in its own, and `partitions` those of the raw topic.
    """

    def __init__(self, config: CrossConfig, partitions: int, kept: Kept | None = None) -> None:
        self.kept = Kept() if kept is None else kept
        self._config = config
        self._kernel = CrossKernel(config, partitions, self.kept)

    def rows(self, features: pa.Table) -> Iterator[Row]:
        """The rows of the steps that these feature rows close.

        Of them are asked: exchange, symbol (`BTC/USDT`), timestamp, capture_ts, source_partition, source_offset and
        `CrossConfig.columns`, in any order: they are taken in that of their partitions' times, which no partition
        leaves behind another. The steps at the end stay open until later rows come, as they do live.
        """
        names = ["exchange", "symbol", "timestamp", "capture_ts", "source_partition", *self._config.columns]
        ordered = features.take(pa.array(_order(features))).select(names)
        for batch in ordered.to_batches(max_chunksize=4096):
            row: dict[str, Any]
            for row in batch.to_pylist():
                yield from self._kernel.take(row).rows


def _order(features: pa.Table) -> np.ndarray[Any, np.dtype[np.int64]]:
    """By partition time, then partition, then offset."""
    partition, offset, time = (
        np.asarray(features[name], np.int64) for name in ("source_partition", "source_offset", "timestamp")
    )
    at = time.copy()
    by_offset = np.lexsort((offset, partition))
    for each in np.unique(partition):
        own = by_offset[partition[by_offset] == each]
        at[own] = np.maximum.accumulate(time[own])
    return np.lexsort((offset, partition, at))
