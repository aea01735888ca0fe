"""Book sides as little-endian float64 pairs: price, size, price, size…"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from itertools import chain
from math import isfinite


def pack(levels: Sequence[tuple[float, float]]) -> bytes:
    """The bytes of (price, size) pairs.

    Raises ValueError for a number that is negative, infinite or none at all.
    """
    if not levels:
        return b""
    flat = tuple(chain.from_iterable(levels))
    if min(flat) < 0 or not isfinite(sum(flat)):
        raise ValueError("a price or size is negative or not finite")
    return struct.pack(f"<{len(flat)}d", *flat)


def unpack(side: bytes) -> Iterable[tuple[float, float]]:
    """The (price, size) pairs of a side."""
    return struct.iter_unpack("<2d", side)
