"""What is compiled, and how often."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import pytest

from fluxforge.batch import EVENT, EventBatch
from fluxforge.kernels import bars, compiled, features
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


def test_machine_code_that_can_only_be_read_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """numba would refuse the cache of a container's image, and each start would compile for half a minute."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "image"))
    filled = compiled._cache_folder()
    (filled / "code").mkdir()
    (filled / "code" / "kernel.nbc").write_bytes(b"machine code")
    (tmp_path / "memory").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "memory"))
    monkeypatch.setattr(os, "access", lambda path, _mode: not Path(path).is_relative_to(tmp_path / "image"))
    for _ in range(2):  # by the first process, and by the next one
        copied = compiled._cache_folder()
        assert copied.parent == tmp_path / "memory"
        assert (copied / "code" / "kernel.nbc").read_bytes() == b"machine code"
    assert list((tmp_path / "memory").iterdir()) == [copied]
