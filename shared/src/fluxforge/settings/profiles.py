"""Profiles: other defaults under one name. What the file, the environment or an option gives outranks them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

Profile = Literal["pi"]

PROFILES: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    # A Raspberry Pi and its like: one small machine that runs everything, on a card or a small SSD. The log is the
    # embedded one and bounded, and what wakes a process or syncs a disk happens seldom: rows are readable up to 5 s
    # later, lake files appear each five minutes.
    "pi": {
        "broker": {"linger_ms": 1000},
        "topics": {"partitions": 4, "raw_retention_hours": 24, "raw_retention_mb": 512, "rows_retention_mb": 128},
        "collector": {"read_batch_ms": 50},
        "ingestion": {"queue_size": 20_000, "segment_max_mb": 16},
        "processor": {"commit_interval": 5, "snapshot_interval": 300},
        "cross": {"commit_interval": 5},
        "lake": {"segment_max_mb": 16, "segment_max_age_s": 300},
    },
}
"""Profile → section → key → value."""
