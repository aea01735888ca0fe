"""Compaction streams: what it holds depends on a row group, not on the day."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import compaction_memory as memory

BATCHES = (20, 80)
MB = 1_000_000


@pytest.mark.parametrize("tree", ["lake", pytest.param("bronze", marks=pytest.mark.long)])
def test_a_day_four_times_as_large_takes_no_more(tmp_path: Path, tree: str) -> None:
    told = []
    for count in BATCHES:
        folder = tmp_path / str(count)
        memory.fill(folder, tree, count)
        command = [sys.executable, memory.__file__, str(folder), tree]
        told.append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))
    small, large = told
    assert memory.GROUP_BYTES < small["arrow"] < 6 * memory.GROUP_BYTES
    assert large["arrow"] < 1.2 * small["arrow"]
    assert large["process"] < small["process"] + 40 * MB
