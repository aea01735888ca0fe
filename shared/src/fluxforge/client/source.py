"""Where a stream's rows come from."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from fluxforge.client.piece import Piece


class Lag(NamedTuple):
    """How far a stream is behind its topic; history is never behind.

    rows     that are published and not yet given out, those of other markets and transactions' marks among them
    seconds  since the oldest of them that is known was published; inf where nothing was read of a partition that has
             some, 0 where there are none
    """

    rows: int
    seconds: float


class Source(Protocol):
    """Pieces one after the other."""

    def next(self) -> Piece | None:
        """Some rows, none where nothing is new; None at the end."""

    def lag(self, waiting: int) -> Lag:
        """`waiting` rows of the newest piece are not given out yet. Raises LogUnavailable."""

    def close(self) -> None: ...
