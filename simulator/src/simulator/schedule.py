"""Seeded plans of faults."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from random import Random

from fluxforge.errors import ConfigError
from simulator.faults import FRAME_KINDS, KINDS, SPELL_KINDS, Fault
from simulator.market import NS

Rates = Mapping[str, float]


def parse(text: str) -> tuple[int, Rates | float]:
    """`7:4`, four faults a market minute of every kind the venue knows, or `7:skip=2,drop=0.5`. Raises ConfigError."""
    seed, _, rest = text.partition(":")
    try:
        if "=" not in rest:
            return int(seed), _positive(float(rest))
        pairs = (part.partition("=") for part in rest.split(","))
        rates = {kind.strip(): _positive(float(rate)) for kind, _, rate in pairs}
        if unknown := rates.keys() - set(KINDS):
            raise ValueError(f"no fault {', '.join(sorted(unknown))}")
        return int(seed), rates
    except ValueError as error:
        hint = f"SEED:RATE or SEED:KIND=RATE,… a market minute; kinds {', '.join(KINDS)}"
        raise ConfigError(f"--faults {text}: {error}", hint=hint) from None


def spread(rate: float, checksummed: bool) -> Rates:
    """`rate` shared evenly by the kinds a venue knows."""
    kinds = [kind for kind in KINDS if checksummed or kind != "checksum"]
    return dict.fromkeys(kinds, rate / len(kinds))


def plan(seed: int, rates: Rates, symbols: Sequence[str], book: str, trades: str) -> Iterator[tuple[int, Fault]]:
    """An endless plan of (ns of market time since the start, fault), `rates` per minute of each kind on average.

    symbols       to choose from
    book, trades  the channels that frame faults hit, books twice as often
    """
    return heapq.merge(
        *(_kind(Random(f"{seed}:{kind}"), kind, rate, symbols, book, trades) for kind, rate in rates.items()),
        key=lambda entry: entry[0],
    )


def _kind(
    random: Random, kind: str, rate: float, symbols: Sequence[str], book: str, trades: str
) -> Iterator[tuple[int, Fault]]:
    at = 0
    while True:
        at += 1 + int(random.expovariate(rate / 60) * NS)
        channel = book if kind == "checksum" else random.choice((book, book, trades))
        yield (
            at,
            Fault(
                kind,
                None if kind in SPELL_KINDS else random.choice(symbols),
                channel if kind in FRAME_KINDS else None,
                count=random.choice((1, 1, 1, 3)),
                seconds=round(random.uniform(0.5, 3.0), 2),
                status=random.choice((500, 503) if kind == "rest" else (429, 429, 418)),
                replace=random.random() < 0.5,
                ms=random.randrange(103, 997),
            ),
        )


def _positive(rate: float) -> float:
    if not rate > 0:
        raise ValueError(f"rate {rate} is not above 0")
    return rate
