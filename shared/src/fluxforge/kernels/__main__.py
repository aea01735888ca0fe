"""`python -m fluxforge.kernels`: run all that is compiled once, so that its machine code is in the cache."""

from __future__ import annotations

import struct
from typing import Any

import pyarrow as pa

from fluxforge import batch
from fluxforge.events import AnyEvent, BookDelta, BookSnapshot, Trade
from fluxforge.files.rowhash import row_hash
from fluxforge.kernels.bars import BarKernel
from fluxforge.kernels.config import BarConfig, FeatureConfig
from fluxforge.kernels.features import FeatureKernel

NS = 1_000_000_000


def main() -> None:
    origin: dict[str, Any] = dict.fromkeys(("exchange", "symbol", "native", "source", "collector", "connection"), "x")
    bid, ask = struct.pack("<2d", 99.0, 1.0), struct.pack("<2d", 101.0, 1.0)
    events: list[AnyEvent] = [
        BookSnapshot(**origin, ts=1 * NS, capture_ts=1 * NS, bids=bid, asks=ask),
        BookDelta(**origin, ts=2 * NS, capture_ts=2 * NS, bids=bid, asks=b""),
        Trade(**origin, ts=3 * NS, capture_ts=3 * NS, id="1", price=100.0, size=1.0, side=1),
    ]
    for kernel in (FeatureKernel(FeatureConfig()), BarKernel(BarConfig())):
        slot = kernel.arena.slot("x|A/B")
        kernel.run(batch.build(events, [slot] * len(events), range(len(events))))
    row_hash(pa.table({"bytes": ["x"], "levels": [[1.0]]}))


if __name__ == "__main__":
    main()
