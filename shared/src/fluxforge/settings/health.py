"""From where on `fluxforge health` calls something wrong."""

from __future__ import annotations

from pydantic import Field

from fluxforge.settings.section import Section


class Health(Section):
    """Limits.

    max_silence_s          s since an exchange's newest event, heartbeats included, or since the newest row
    max_lag_s              s that the oldest record waits which the feature engine or the bar builder has not processed
    max_store_delay_s      s that a record may wait longer for Bronze or the lake than its segment's greatest age
    max_dead_letters       of the last hour
    max_dark_percent       of the last 24 h, that any one market was without an event or heartbeat
    max_backlog            batches of one partition that are not compacted
    min_disk_free_percent  of every disk with data on it
    """

    max_silence_s: float = Field(default=60.0, gt=0)
    max_lag_s: float = Field(default=60.0, gt=0)
    max_store_delay_s: float = Field(default=120.0, gt=0)
    max_dead_letters: int = Field(default=100, ge=0)
    max_dark_percent: float = Field(default=5.0, ge=0, le=100)
    max_backlog: int = Field(default=5000, ge=1)
    min_disk_free_percent: float = Field(default=10.0, ge=0, le=100)
