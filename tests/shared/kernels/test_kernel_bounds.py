"""Compiled kernels check no index: whatever comes, none may leave its array."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fluxforge.batch import EVENT, EventBatch
from fluxforge.events import Kind
from fluxforge.kernels.bars import BarKernel
from fluxforge.kernels.config import BarConfig, FeatureConfig
from fluxforge.kernels.features import FeatureKernel

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
def test_no_index_leaves_its_array(pytestconfig: pytest.Config) -> None:
    """With bounds checked, which takes other machine code, and so a process and a cache of its own."""
    assert pytestconfig.cache is not None
    environment = os.environ | {
        "NUMBA_BOUNDSCHECK": "1",
        "NUMBA_CACHE_DIR": str(pytestconfig.cache.mkdir("checked-kernels")),
    }
    command = [sys.executable, str(ROOT / "tests" / "kernel_stress.py"), "1", "8"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


KERNELS = (lambda: FeatureKernel(FeatureConfig()), lambda: BarKernel(BarConfig()))


@pytest.mark.parametrize("make", KERNELS)
@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("slot", 1), ("slot", -1), ("slot", 16), ("slot", 2**40)],
        *[("levels", 2), ("levels", -2), ("bids", 3), ("asks", -1), ("asks", 2**62), ("bids", 2**61)],
    ],
)
def test_an_event_that_points_out_of_its_batch_is_an_error(make: object, field: str, value: int) -> None:
    assert callable(make)
    kernel = make()
    events = np.zeros(2, EVENT)
    events["kind"], events["slot"] = Kind.BOOK_SNAPSHOT, kernel.arena.slot("x|A/B")
    events["bids"] = events["asks"] = 1
    batch = EventBatch(events, np.array([99.0, 1.0, 101.0, 1.0]))
    kernel.run(batch)
    events[field][1] = value
    with pytest.raises(ValueError, match="event 1 of the batch"):
        kernel.run(batch)


@pytest.mark.parametrize("make", KERNELS)
def test_an_event_of_a_dropped_key_is_an_error(make: object) -> None:
    assert callable(make)
    kernel = make()
    events = np.zeros(1, EVENT)
    events["kind"], events["slot"] = Kind.HEARTBEAT, kernel.arena.slot("x|A/B")
    kernel.run(EventBatch(events, np.empty(0)))
    kernel.arena.drop("x|A/B")
    with pytest.raises(ValueError, match="no record in slot 0"):
        kernel.run(EventBatch(events, np.empty(0)))
    assert kernel.arena.slot("x|C/D") == 0
    kernel.run(EventBatch(events, np.empty(0)))
