"""Fields as exchanges write them: bounded integers, decimal text, levels of it."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import chain
from math import isfinite
from typing import Annotated

import msgspec

from fluxforge.clock import MS

US = 1_000
"""ns in a microsecond."""
MAX = 2**63 - 1
"""What an event's integer can hold."""
Id = Annotated[int, msgspec.Meta(ge=0, le=MAX)]
Millis = Annotated[int, msgspec.Meta(ge=0, le=MAX // MS)]
Micros = Annotated[int, msgspec.Meta(ge=0, le=MAX // US)]

SIDES = {"buy": 1, "sell": -1, "Buy": 1, "Sell": -1, "b": 1, "s": -1}
"""The taker's side as events write it."""


def pack_texts(levels: Sequence[Sequence[str]]) -> bytes:
    """Levels [price, size, …], all of one width, as `collector.levels.pack` makes them.

    Columns are taken by slices: a loop over levels costs three times as much. Raises ValueError, LookupError.
    """
    if not levels:
        return b""
    width, count = len(levels[0]), len(levels)
    flat = list(chain.from_iterable(levels))
    if len(flat) != width * count:
        raise ValueError("levels differ in width")
    numbers = [0.0] * (2 * count)
    numbers[0::2] = map(float, flat[0::width])
    numbers[1::2] = map(float, flat[1::width])
    if min(numbers) < 0 or not isfinite(sum(numbers)):
        raise ValueError("a price or size is negative or not finite")
    return struct.pack(f"<{2 * count}d", *numbers)


def prices_and_sizes(levels: Sequence[Sequence[str]]) -> list[tuple[str, str]]:
    """The first two columns."""
    return [(level[0], level[1]) for level in levels]


def number(text: str | None) -> float | None:
    """A number; None for an empty or missing one. Raises ValueError."""
    return float(text) if text else None
