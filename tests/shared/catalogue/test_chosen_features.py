"""Rows carry the chosen columns, with the values they have among all."""

from __future__ import annotations

import struct

import pyarrow as pa
import pytest

from fluxforge import catalogue, rows
from fluxforge.batch import build
from fluxforge.events import BookSnapshot
from fluxforge.kernels.config import FeatureConfig
from fluxforge.kernels.features import FeatureKernel

S = 1_000_000_000
NAMES = {"exchange": "x", "symbol": "A/B", "native": "AB", "source": "s", "collector": "c", "connection": "1"}


def book(i: int) -> BookSnapshot:
    sides = {
        "bids": struct.pack("<4d", 99 - i % 3, 1.5 + i, 90, 3),
        "asks": struct.pack("<4d", 101 + i % 2, 2.5 * i + 1, 110, 4),
    }
    return BookSnapshot(**NAMES, ts=(1000 + i) * S, capture_ts=(1000 + i) * S, **sides)


def table(config: FeatureConfig) -> pa.Table:
    kernel = FeatureKernel(config)
    events = [book(i) for i in range(20)]
    batch = build(events, [kernel.arena.slot("x|A/B")] * 20, range(20))
    return rows.to_arrow(rows.hf_table(config), rows.hf_columns(config, kernel.run(batch), batch, 0))


@pytest.mark.parametrize("patterns", [("mid_price",), ("ofi_*", "spread", "hour_of_day"), ("*", "vpin"), ("[a-m]*",)])
def test_the_chosen_columns_are_those_of_the_whole_table(patterns: tuple[str, ...]) -> None:
    whole = table(FeatureConfig(keep_raw_arrays=True))
    part = table(FeatureConfig(keep_raw_arrays=True, features=patterns))
    assert part.equals(whole.select(part.column_names))
    dropped = set(whole.column_names) - set(part.column_names)
    assert dropped <= set(catalogue.columns(FeatureConfig()))
    assert (dropped == set()) == ("*" in patterns)
    assert {"timestamp", "source_offset", "quality", "bids", "asks"} <= set(part.column_names)


def test_a_pattern_without_a_column_is_found() -> None:
    config = FeatureConfig(horizons=(2,), features=("rv_2s", "rv_60s", "OFI_*", "spread*"))
    assert catalogue.unmatched(config) == ("rv_60s", "OFI_*")
    assert [one.name for _, one in catalogue.chosen(config)][:2] == ["spread", "rv_2s"]
