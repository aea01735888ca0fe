"""Batch: Bronze to the lake without a log, row for row what the live services write."""

from __future__ import annotations

from fluxforge.etl.job import TABLES, Result, run

__all__ = ["TABLES", "Result", "run"]
