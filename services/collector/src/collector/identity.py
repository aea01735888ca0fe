"""The fields that all events of one symbol and connection share."""

from __future__ import annotations

from typing import TypedDict

from fluxforge.events import AnyEvent


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


def identity_of(event: AnyEvent) -> Identity:
    """Whose event it is."""
    return {
        "exchange": event.exchange,
        "symbol": event.symbol,
        "native": event.native,
        "source": event.source,
        "collector": event.collector,
        "connection": event.connection,
    }
