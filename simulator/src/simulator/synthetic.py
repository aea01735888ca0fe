"""A synthetic market: seeded order flow around a random walk, consistent in itself.

Every change of a book has an update id; trades hit the book and change it; each 100 ms a diff carries what changed;
bookTicker is the book's best at its update id. Time is virtual, so one seed gives one sequence of bytes.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from fluxforge.errors import ConfigError
from simulator.flow import LEVELS, Flow
from simulator.market import MS, NS, Depth, Frame, Hold, Instrument, Top
from simulator.tape import Tape

EPOCH = 1_704_067_200 * NS
"""2024-01-01T00:00:00Z, where virtual time begins."""

DIFF_EVERY = 100 * MS


class Listing(NamedTuple):
    """A market to be: start `price` in ticks of 10^-places, `gap` ticks between levels, sizes of `size_places`."""

    base: str
    price: int
    places: int
    gap: int
    size_places: int


LISTINGS = (
    Listing("BTC", 6_000_000, 2, 50, 5),
    Listing("ETH", 250_000, 2, 2, 4),
    Listing("SOL", 15_000, 2, 1, 3),
    Listing("BNB", 55_000, 2, 1, 3),
    Listing("XRP", 52_000, 4, 1, 0),
    Listing("DOGE", 120_000, 5, 2, 0),
    Listing("ADA", 40_000, 4, 1, 1),
    Listing("TRX", 130_000, 4, 2, 1),
    Listing("AVAX", 27_000, 2, 1, 2),
    Listing("LINK", 13_000, 2, 1, 2),
    Listing("DOT", 55_000, 3, 1, 2),
    Listing("LTC", 70_000, 2, 2, 3),
    Listing("BCH", 36_000, 1, 1, 3),
    Listing("UNI", 75_000, 3, 2, 2),
    Listing("ATOM", 48_000, 3, 1, 2),
    Listing("ETC", 19_000, 2, 1, 2),
    Listing("FIL", 38_000, 3, 1, 2),
    Listing("APT", 68_000, 3, 2, 2),
    Listing("NEAR", 42_000, 3, 1, 1),
    Listing("ARB", 54_000, 4, 1, 1),
)


class SyntheticMarket:
    """`symbols` markets of about `rate` messages/s each (depth@100ms + trade + bookTicker + ticker).

    seed      the same seed, symbols and rate give the same frames
    duration  s of virtual time after which the market ends; None never ends
    rebase    begin virtual time at the wall clock's now instead of 2024-01-01
    levels    of a book, a side, at the start; it never has much more than twice as many

    Raises ConfigError for a count or rate that makes no market.
    """

    def __init__(
        self,
        symbols: int = 2,
        rate: float = 100.0,
        seed: int = 1,
        *,
        duration: float | None = None,
        rebase: bool = False,
        levels: int = LEVELS,
    ) -> None:
        if symbols < 1:
            raise ConfigError(f"symbols = {symbols}", hint="a market has at least 1 symbol")
        if not 0.1 <= rate <= 100_000:
            raise ConfigError(f"rate = {rate}", hint="give messages per second and symbol, from 0.1 to 100000")
        self._settings = {"seed": seed, "rate": rate}
        self._rebase, self._start = rebase, EPOCH
        self._duration = duration
        self._ahead_ms, self._terse = 0, False
        listings = [listing(number) for number in range(symbols)]
        self._instruments = {instrument.symbol: instrument for instrument in map(_instrument, listings)}
        self._flows = {
            symbol: Flow(
                symbol,
                price=listed.price,
                places=listed.places,
                gap=listed.gap,
                size_places=listed.size_places,
                rate=rate,
                seed=seed,
                levels=levels,
            )
            for symbol, listed in zip(self._instruments, listings, strict=True)
        }

    @property
    def instruments(self) -> Mapping[str, Instrument]:
        return self._instruments

    @property
    def ahead_ms(self) -> int:
        return self._ahead_ms

    @ahead_ms.setter
    def ahead_ms(self, value: int) -> None:
        self._ahead_ms = value
        for flow in self._flows.values():
            flow.ahead_ms = value

    @property
    def terse(self) -> bool:
        return self._terse

    @terse.setter
    def terse(self, value: bool) -> None:
        self._terse = value
        for flow in self._flows.values():
            flow.terse = value

    def begin(self, wall_ms: int) -> None:
        if self._rebase:
            self._start = wall_ms * MS // DIFF_EVERY * DIFF_EVERY

    def frames(self) -> Iterator[Frame | Hold]:
        end = None if self._duration is None else self._start + int(self._duration * NS)
        due: list[tuple[int, int]] = []
        flows = list(self._flows.values())
        for number, flow in enumerate(flows):
            due.append((flow.begin(self._start), number))
            yield Hold(self._start, flow.symbol)
        heapq.heapify(due)
        while due:
            at, number = due[0]
            if end is not None and at > end:
                return
            yield from flows[number].step(at)
            heapq.heapreplace(due, (flows[number].next_at, number))

    def exchange_ms(self, at: int) -> int:
        return max(at, self._start) // MS + self._ahead_ms

    def snapshot(self, symbol: str, limit: int) -> Depth:
        return self._flows[symbol].depth(limit)

    def book(self, symbol: str, limit: int) -> Depth:
        return self._flows[symbol].depth(limit)

    def top(self, symbol: str) -> Top | None:
        return self._flows[symbol].top()

    def tape(self, symbol: str) -> Tape:
        return self._flows[symbol].tape

    def notes(self) -> Mapping[str, object]:
        return {"market": "synthetic", **self._settings}


def listing(number: int) -> Listing:
    """The `number`-th market: well-known ones first, then numbered ones."""
    if number < len(LISTINGS):
        return LISTINGS[number]
    return Listing(f"SIM{number:03d}", 10_000 + 137 * (number % 400), 2, 1, 2)


def _instrument(listed: Listing) -> Instrument:
    tick, step = (f"{10**-places:.{places}f}" for places in (listed.places, listed.size_places))
    return Instrument(f"{listed.base}USDT", listed.base, "USDT", tick, step)
