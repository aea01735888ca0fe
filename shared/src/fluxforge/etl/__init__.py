"""Batch: Bronze to the lake without a log, row for row what the live services write."""

from __future__ import annotations

from fluxforge.etl.job import TABLES, run
from fluxforge.etl.task import Result
from fluxforge.etl.watch import Pass, watch
from fluxforge.etl.window import ALL, Window

__all__ = ["ALL", "TABLES", "Pass", "Result", "Window", "run", "watch"]
