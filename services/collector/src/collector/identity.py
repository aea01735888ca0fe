"""The fields that all events of one symbol and connection share."""

from __future__ import annotations

from typing import TypedDict


class Identity(TypedDict):
    """See `fluxforge.events.Event`."""

    exchange: str
    symbol: str
    native: str
    source: str
    collector: str
    connection: str


class Stamp(Identity):
    """An Identity at a moment: `capture_ts` and `skew` in ns."""

    capture_ts: int
    skew: int
