"""What happens to stored data as it ages."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fluxforge.settings.section import Section

Days = Annotated[float, Field(gt=0)]
LakeTable = Literal[
    "hf", "cross", "bars", "trades", "ticker", "events_ticker", "events_trades", "events_orderbook", "events_control"
]


class Maintenance(Section):
    """What `fluxforge maintain` does each time, and `compact` and `retain` do when they are run by hand.

    every_s      s from one round's beginning to the next one's
    sync_to      a folder or `s3://bucket/prefix` that gets a copy of Bronze and lake, reached as `storage.input` and
                 `storage.output` are, and without which nothing is dropped; null makes none
    compact      whether closed days are made few large files
    max_file_mb  files of a folder that together are larger are not made one
    grace_s      s that readers have from their listing until files they found there may go
    bronze_days  days that Bronze is kept, whole days before today, UTC; null for ever
    lake_days    days that the lake is kept
    table_days   of a lake table instead: `{hf: 90, bars: 3650}`
    """

    every_s: float = Field(default=3600.0, gt=0)
    sync_to: str | None = None
    compact: bool = True
    max_file_mb: float = Field(default=512.0, gt=0)
    grace_s: float = Field(default=600.0, ge=0)
    bronze_days: Days | None = None
    lake_days: Days | None = None
    table_days: dict[LakeTable, Days] = Field(default={})
