"""Events of one symbol of the ccxt road, and what tests compare of them."""

from __future__ import annotations

from collector.identity import Identity
from collector.skew import Skew
from collector.wire.head import Head
from fluxforge.events import AnyEvent, Reset, ResetReason, Trade

IDENTITY: Identity = {
    "exchange": "x",
    "symbol": "A/B",
    "native": "AB",
    "source": "ccxt",
    "collector": "c",
    "connection": "1",
}
HEAD = Head(**IDENTITY, skew=Skew())


def reset(reason: ResetReason, incomplete: bool, detail: str) -> Reset:
    return Reset(**IDENTITY, ts=None, capture_ts=0, reason=str(reason), incomplete=incomplete, detail=detail)


def trade(id_: str, ts: int, *, backfilled: bool = False) -> Trade:
    """A buy of 1 at 1; `ts`: ns."""
    return HEAD.trade(0, ts, None, id_, 1.0, 1.0, 1, None, backfilled=backfilled)


def told(events: list[AnyEvent]) -> list[str]:
    """Trades by their id, any other event by its class."""
    return [event.id if isinstance(event, Trade) else type(event).__name__ for event in events]
