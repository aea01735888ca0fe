"""What is made to go wrong, when: seeded episodes of one fault, or of two that only bite together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from random import Random
from typing import NamedTuple

from simulator.faults import Fault
from simulator.venue import Venue

TOGETHER = 0.05
"""s from a spell's begin to the fault that makes somebody meet it."""

CHECKSUM = "checksum"
"""The one kind that not every venue knows."""


class Episode(NamedTuple):
    """Faults that belong together, each with the s since the one before."""

    name: str
    faults: tuple[tuple[float, Fault], ...]


def episodes(
    seed: int, name: str, share: float, venue: Venue, symbols: Sequence[str], stall_timeout: float
) -> Iterator[Episode]:
    """Endless rounds; each round has every kind once, in an order that is the same for all exchanges.

    name           of the exchange
    share          where in the order it begins, 0 to 1, so that exchanges in step begin with different kinds; what only
                   one of them knows comes first
    symbols        native ones, to choose from
    stall_timeout  s after which the collector gives a silent socket up
    """
    random = Random(f"{seed}:{name}")
    for number in count():
        kinds = catalogue(random, venue, random.choice(symbols), stall_timeout)
        kinds.sort(key=lambda kind: Random(f"{seed}:{number}:{kind.name}").random())
        own, shared = [], []
        for kind in kinds:
            (own if kind.name == CHECKSUM else shared).append(kind)
        first = int(share * len(shared))
        yield from own + shared[first:] + shared[:first]


def catalogue(random: Random, venue: Venue, symbol: str, stall_timeout: float) -> list[Episode]:
    """Every kind of fault that the venue knows."""
    book, trades = venue.book, venue.trades
    frames = random.choice((1, 1, 3))
    status = random.choice((429, 429, 418, 503))
    skip = Fault("skip", symbol, book)
    drop = Fault("drop", symbol)

    def spell(kind: str, then: Fault) -> Episode:
        seconds = round(random.uniform(0.5, 2.5), 2)
        own = Fault(kind, seconds=seconds, status=503 if kind == "rest" else status)
        return Episode(f"{kind} + {then.kind}", ((0.0, own), (TOGETHER, then)))

    found = [
        Episode("skip", ((0.0, Fault("skip", symbol, book, count=frames)),)),
        Episode("repeat", ((0.0, Fault("repeat", symbol, book, count=frames)),)),
        Episode("reorder", ((0.0, Fault("reorder", symbol, book)),)),
        Episode("garbage before", ((0.0, Fault("garbage", symbol, book)),)),
        Episode("garbage instead", ((0.0, Fault("garbage", symbol, book, replace=True)),)),
        Episode("half", ((0.0, Fault("half", symbol, book)),)),
        Episode("skip trades", ((0.0, Fault("skip", symbol, trades, count=frames)),)),
        Episode("repeat trades", ((0.0, Fault("repeat", symbol, trades, count=frames)),)),
        Episode("reorder trades", ((0.0, Fault("reorder", symbol, trades)),)),
        Episode("garbage instead of trades", ((0.0, Fault("garbage", symbol, trades, replace=True)),)),
        Episode("drop", ((0.0, drop),)),
        Episode("stall", ((0.0, Fault("stall", symbol, seconds=round(random.uniform(0.5, 2.5), 2))),)),
        Episode("stall past the watchdog", ((0.0, Fault("stall", symbol, seconds=stall_timeout + 2.0)),)),
        Episode("clock", ((0.0, Fault("clock", seconds=2.0, ms=103 + 100 * random.randrange(8))),)),
        *(spell(kind, drop) for kind in ("refuse", "http", "policy", "reject")),
        *(spell(kind, skip) for kind in ("rest", "slow", "stale", "reject")),
        spell("http", Fault("skip", symbol, trades)),
    ]
    if venue.checksummed:
        found.append(Episode(CHECKSUM, ((0.0, Fault("checksum", symbol, book)),)))
    return found
