"""Where a page's data comes from: the log while it is written, or the lake."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

from fluxforge_cli.dashboard.bars import Bar
from fluxforge_cli.dashboard.board import Board


class Trouble(NamedTuple):
    """Why nothing can be read at the moment. `since` is ns."""

    since: int
    told: str
    advice: str


class Rate(NamedTuple):
    """Of a topic: records in all partitions ever, and records/s of late."""

    topic: str
    records: int
    per_s: float


class Source(Protocol):
    """Fills the board from a thread of its own, between `start` and `stop`.

    kind   live: rows come one by one; lake: many at once, when files have come
    place  for a person
    """

    kind: Literal["live", "lake"]
    place: str
    board: Board

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def trouble(self) -> Trouble | None:
        """None while it can read."""

    def rates(self) -> Sequence[Rate]:
        """Of the topics; empty for a lake."""

    def durations(self) -> list[int]:
        """Of the bars that are published, s, ascending."""

    def want(self, market: str) -> None:
        """A page looks at the market: returns when the board holds what there is of it, perhaps after reading files."""

    def candles(self, market: str, duration: int, count: int) -> list[Bar]:
        """The newest, perhaps after reading files. Raises ConfigError for a duration that no bars make."""
