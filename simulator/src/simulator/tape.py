"""The trades of one symbol: history for REST, runs for aggTrade, statistics for the 24 h ticker."""

from __future__ import annotations

from collections import deque
from decimal import Decimal
from itertools import islice
from typing import NamedTuple

ZERO = Decimal(0)
HISTORY = 100_000


class Print(NamedTuple):
    """One trade; `time` in ms, `maker` true where the buyer was the maker (a sell)."""

    id: int
    price: str
    size: str
    time: int
    maker: bool


class Run(NamedTuple):
    """Consecutive trades of one price, time and side: what the exchange calls an aggregate trade."""

    id: int
    price: str
    size: Decimal
    first: int
    last: int
    time: int
    maker: bool


class Stats(NamedTuple):
    """Statistics since the market began (the simulator keeps no day of history before it)."""

    open: str
    high: str
    low: str
    last: str
    last_size: str
    volume: Decimal
    quote_volume: Decimal
    open_time: int
    close_time: int
    first_id: int
    last_id: int
    trades: int


class Tape:
    """Trades in order of their ids; keeps the newest `HISTORY` of them."""

    def __init__(self) -> None:
        self.prints: deque[Print] = deque(maxlen=HISTORY)
        self.runs: deque[Run] = deque(maxlen=HISTORY)
        self.stats: Stats | None = None
        self._next_run = 1
        self._open = False

    def add(self, trade: Print) -> Run | None:
        """Append a trade; returns the run it closed, if any."""
        self.prints.append(trade)
        self._count(trade)
        size = Decimal(trade.size)
        last = self.runs[-1] if self._open else None
        if last and (last.price, last.time, last.maker) == (trade.price, trade.time, trade.maker):
            self.runs[-1] = last._replace(size=last.size + size, last=trade.id)
            return None
        self.runs.append(Run(self._next_run, trade.price, size, trade.id, trade.id, trade.time, trade.maker))
        self._next_run += 1
        self._open = True
        return last

    def close_run(self) -> Run | None:
        """End the open run, so that it can be published; None where there is none."""
        if not self._open:
            return None
        self._open = False
        return self.runs[-1]

    def latest(self, limit: int) -> list[Print]:
        """The newest `limit` trades, oldest first."""
        return list(islice(self.prints, max(0, len(self.prints) - limit), None))

    def from_id(self, first: int, limit: int) -> list[Print]:
        """Up to `limit` trades with an id ≥ `first`."""
        return list(islice((trade for trade in self.prints if trade.id >= first), limit))

    def _count(self, trade: Print) -> None:
        size, price = Decimal(trade.size), Decimal(trade.price)
        old = self.stats
        if old is None:
            self.stats = Stats(
                open=trade.price,
                high=trade.price,
                low=trade.price,
                last=trade.price,
                last_size=trade.size,
                volume=size,
                quote_volume=size * price,
                open_time=trade.time,
                close_time=trade.time,
                first_id=trade.id,
                last_id=trade.id,
                trades=1,
            )
            return
        self.stats = Stats(
            open=old.open,
            high=trade.price if price > Decimal(old.high) else old.high,
            low=trade.price if price < Decimal(old.low) else old.low,
            last=trade.price,
            last_size=trade.size,
            volume=old.volume + size,
            quote_volume=old.quote_volume + size * price,
            open_time=old.open_time,
            close_time=trade.time,
            first_id=old.first_id,
            last_id=trade.id,
            trades=old.trades + 1,
        )
