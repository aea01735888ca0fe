"""Events as flat arrays: what every kernel eats, whatever road the events came by.

One `EVENT` record per event and one float64 array with the levels of all books. Live processors build a batch from
decoded log records, batch jobs from Bronze columns; the same history gives the same bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from fluxforge.events import KIND_OF, AnyEvent, BookDelta, BookSnapshot, ClockSource, Reset, Trade

NO_TS = -(2**63)
"""Stands for "the exchange gave no time"."""

REFRESH = 1
CONFLATED = 2
BACKFILLED = 4
INCOMPLETE = 8

EVENT = np.dtype(
    [
        ("kind", "<i8"),  # fluxforge.events.Kind
        ("slot", "<i8"),  # the kernel's index of the key
        ("offset", "<i8"),  # offset in the raw log
        ("ts", "<i8"),  # event time by the key's clock, ns; NO_TS where there is none
        ("capture_ts", "<i8"),  # ns
        ("skew", "<i8"),  # exchange clock − capture clock, ns
        ("collector", "<i8"),  # crc32 of the collector id
        ("flags", "<i8"),  # REFRESH | CONFLATED | BACKFILLED | INCOMPLETE
        ("updates", "<i8"),  # exchange updates folded into the event
        ("levels", "<i8"),  # index of the first float of the event's levels; bids first, then asks
        ("bids", "<i8"),  # bid levels (pairs of floats)
        ("asks", "<i8"),  # ask levels
        ("price", "<f8"),  # trade price
        ("size", "<f8"),  # trade size, base currency
        ("side", "<f8"),  # taker side: 1 buy, −1 sell, 0 unknown
    ]
)
_PACK = struct.Struct("<12q3d").pack


class EventBatch(NamedTuple):
    """Events in log order per key: `events` has dtype EVENT, `levels` is float64 price, size, price, size…"""

    events: NDArray[np.void]
    levels: NDArray[np.float64]


def build(events: Iterable[AnyEvent], slots: Sequence[int], offsets: Sequence[int]) -> EventBatch:
    """The batch of decoded events; `slots` and `offsets` run alongside."""
    rows: list[bytes] = []
    blobs: list[bytes] = []
    at = 0
    for event, slot, offset in zip(events, slots, offsets, strict=True):
        kind = KIND_OF[type(event)]
        ts = event.capture_ts if event.clock == ClockSource.CAPTURE else event.ts
        flags, updates, bids, asks = 0, 0, 0, 0
        price = size = side = 0.0
        start = at
        if isinstance(event, BookDelta):
            updates, bids, asks = 1, len(event.bids) >> 4, len(event.asks) >> 4
            blobs += (event.bids, event.asks)
        elif isinstance(event, Trade):
            price, size, side = event.price, event.size, float(event.side)
            flags = BACKFILLED if event.backfilled else 0
        elif isinstance(event, BookSnapshot):
            updates, bids, asks = event.updates, len(event.bids) >> 4, len(event.asks) >> 4
            flags = (REFRESH if event.refresh else 0) | (CONFLATED if event.conflated else 0)
            blobs += (event.bids, event.asks)
        elif isinstance(event, Reset):
            flags = INCOMPLETE if event.incomplete else 0
        at += 2 * (bids + asks)
        rows.append(
            _PACK(
                kind,
                slot,
                offset,
                NO_TS if ts is None else ts,
                event.capture_ts,
                event.skew,
                crc32(event.collector.encode()),
                flags,
                updates,
                start,
                bids,
                asks,
                price,
                size,
                side,
            )
        )
    return EventBatch(np.frombuffer(b"".join(rows), dtype=EVENT), np.frombuffer(b"".join(blobs), dtype="<f8"))
