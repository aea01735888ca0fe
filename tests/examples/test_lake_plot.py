"""The example of Polars and a plot, on a small lake."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from examples.test_paper import folder  # noqa: F401  a fixture

EXAMPLE = Path(__file__).parents[2] / "examples" / "lake_plot.py"


def test_it_prints_a_table_and_writes_a_picture(folder: Path) -> None:  # noqa: F811
    environ = {**os.environ, "MPLBACKEND": "Agg", "MPLCONFIGDIR": str(folder), "POLARS_FMT_MAX_COLS": "10"}
    command = [sys.executable, str(EXAMPLE), "ETH/USDT"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=environ)
    assert done.returncode == 0, done.stderr
    assert "ETH/USDT" in done.stdout and "BTC/USDT" not in done.stdout
    assert (folder / "lake_plot.png").read_bytes().startswith(b"\x89PNG")
