"""The kernels on the golden rows: nothing but the kernel between a quote and its number."""

from __future__ import annotations

import numpy as np
import pytest

from fluxforge import catalogue
from fluxforge.batch import EVENT, EventBatch
from fluxforge.events import Kind
from fluxforge.kernels.bars import BarKernel
from fluxforge.kernels.config import BarConfig, FeatureConfig
from fluxforge.kernels.features import FeatureKernel
from reference import golden

S = 1_000_000_000
START = 1_700_000_000 * S
CONFIG = FeatureConfig(hf_emit_interval=0.0)


def quotes(*of: golden.Quote) -> EventBatch:
    """A snapshot a second, one level a side; then a heartbeat that closes every bar of a minute."""
    events = np.zeros(len(of) + 1, EVENT)
    events["kind"][:-1], events["kind"][-1] = Kind.BOOK_SNAPSHOT, Kind.HEARTBEAT
    events["ts"] = events["capture_ts"] = START + S * np.arange(len(events))
    events["ts"][-1] = events["capture_ts"][-1] = START + 200 * S
    events["bids"][:-1] = events["asks"][:-1] = 1
    events["levels"] = 4 * np.arange(len(events))
    return EventBatch(events, np.array(of, np.float64).reshape(-1))


def columns(batch: EventBatch, *names: str) -> list[list[float | None]]:
    """Of each row, NaN as None."""
    kernel = FeatureKernel(CONFIG)
    kernel.arena.slot("x|A/B")
    places = [catalogue.columns(CONFIG).index(name) for name in names]
    return [[None if v != v else v for v in row] for row in kernel.run(batch).values[:, places].tolist()]


def test_order_flow_imbalance() -> None:
    found = columns(quotes(*(quote for quote, _ in golden.OFI)), "ofi_step", "ofi_L0", "ofi_multi")
    assert found == [[step] * 3 for _, step in golden.OFI]


def test_order_flow_imbalance_in_a_window_and_a_bar() -> None:
    batch = quotes(*(quote for quote, _ in golden.OFI))
    total = sum(step for _, step in golden.OFI if step is not None)
    assert columns(batch, "ofi_sum_60s")[-1] == [total]
    kernel = BarKernel(BarConfig(durations=(60,)))
    kernel.arena.slot("x|A/B")
    assert kernel.run(batch).bars["sum_ofi"].tolist() == [total]


def test_stoikovs_notebook() -> None:
    ((imbalance, microprice),) = columns(quotes(golden.NOTEBOOK), "imbalance_L0", "microprice")
    assert imbalance is not None
    assert (imbalance + 1) / 2 == pytest.approx(golden.NOTEBOOK_SHARE, abs=5e-7)
    assert microprice == pytest.approx(golden.NOTEBOOK_MICROPRICE, abs=5e-7)
