"""The touch of a market over time."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


class Quote(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """The touch of a market as a feature row tells it.

    at          from when on it counts: its partition's time when it came, ns
    timestamp   of the row, ns
    capture_ts  of the row, ns
    flows       OFI over each horizon, base currency
    moved       timestamp of the market's last quote, this one included, with another mid than the one before, ns; 0:
                none yet
    """

    at: int
    timestamp: int
    capture_ts: int
    bid: float
    bid_size: float
    ask: float
    ask_size: float
    flows: tuple[float, ...]
    moved: int = 0

    @property
    def mid(self) -> float:
        return (self.bid + self.ask) / 2


class Market(msgspec.Struct, array_like=True):
    """What is remembered of one market: quotes in log order, of closed steps those that are still asked for."""

    instrument: str
    quotes: list[Quote]


def as_of(quotes: Sequence[Quote], time: int, stale: int) -> Quote | None:
    """The last quote that counts before `time`, unless it is older than `stale` by then; ns."""
    for quote in reversed(quotes):
        if quote.at < time:
            return quote if quote.timestamp >= time - stale else None
    return None


def thinned(quotes: Sequence[Quote], step: int, interval: int, reach: int) -> list[Quote]:
    """Open quotes, and of those before `step` the last of each interval within `reach` and one before; ns."""
    closed = [quote for quote in quotes if quote.at < step]
    last = {quote.at // interval: quote for quote in closed}
    older = [at for at in last if at * interval < step - reach]
    kept = (quote for at, quote in last.items() if at not in older[:-1])
    return [*kept, *quotes[len(closed) :]]
