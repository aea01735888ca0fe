"""Features across markets: the feature engine's role cross."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from fluxforge.cross.config import CrossConfig
from fluxforge.settings.section import Section

Asset = Annotated[str, Field(pattern=r"^[A-Za-z0-9]+$")]


class Cross(Section):
    """What is computed across markets; see docs/FEATURES.md.

    enabled          whether the lake role, `fluxforge etl` and `reprocess` store it, and `fluxforge up` runs the role
    interval         s between rows of an asset
    horizons         of returns and flows, s, ascending; multiples of the interval, and among the features' horizons
    references       base assets whose returns stand in every row
    alike            quote currencies that count as one another; the first gives its name to all
    stale_s          a market without a row for so many s is left out
    patience_s       s of event time that a silent partition is waited for: after an interruption of the feature engine
                     no longer than this rows are what they would have been without it
    backlog_s        s of event time that a partition with unread rows is waited for
    commit_interval  s between commits: rows become readable then
    state            folder of the role's state store on Kafka, a copy of what its topic holds; null: a temporary one
    """

    enabled: bool = True
    interval: float = Field(default=1.0, gt=0)
    horizons: tuple[Annotated[int, Field(gt=0)], ...] = Field(default=(1, 5, 30), min_length=1)
    references: tuple[Asset, ...] = ("BTC", "ETH")
    alike: tuple[Asset, ...] = Field(default=("USD", "USDT", "USDC"), min_length=1)
    stale_s: float = Field(default=10.0, gt=0)
    patience_s: float = Field(default=30.0, ge=0)
    backlog_s: float = Field(default=600.0, ge=0)
    commit_interval: float = Field(default=0.25, ge=0.02, le=5)
    state: Path | None = None

    @model_validator(mode="after")
    def _on_the_grid(self) -> Self:
        if list(self.horizons) != sorted(set(self.horizons)):
            raise ValueError("horizons must ascend, without repeats")
        if any(round(h * 1e9) % round(self.interval * 1e9) for h in self.horizons):
            raise ValueError("horizons must be multiples of interval")
        return self

    def config(self) -> CrossConfig:
        """What the kernel computes."""
        return CrossConfig(
            interval=self.interval,
            horizons=self.horizons,
            references=self.references,
            alike=self.alike,
            stale=self.stale_s,
            patience=self.patience_s,
            backlog=self.backlog_s,
        )
