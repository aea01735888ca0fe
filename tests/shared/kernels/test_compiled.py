"""What is compiled, and how often."""

from __future__ import annotations

import numpy as np
import pytest

from fluxforge.batch import EVENT, EventBatch
from fluxforge.kernels import bars, features
from fluxforge.kernels.config import BarConfig, FeatureConfig


@pytest.mark.parametrize("module", [features, bars])
def test_a_batch_may_be_writable_or_not_and_the_machine_code_is_the_same(module: object) -> None:
    """Of two signatures in one cache, one process may come to run what another compiled for the other."""
    kernel = features.FeatureKernel(FeatureConfig()) if module is features else bars.BarKernel(BarConfig())
    frozen = EventBatch(np.frombuffer(b"", EVENT), np.frombuffer(b"", np.float64))
    kernel.run(frozen)
    before = len(module._run.signatures)
    kernel.run(EventBatch(np.zeros(0, EVENT), np.zeros(0)))
    assert len(module._run.signatures) == before
