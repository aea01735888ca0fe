"""Events as they lie in the log, msgpack, to rows of a batch: `codec.decode` and `batch.build` in one compiled call.

Read here are books, deltas, trades and heartbeats as our own encoder writes them, of keys that are known. Whatever is
otherwise in the least is marked `ODD` and left to the codec, so the codec alone says what an event is.

An event's first fields, from the exchange to the connection, are the same in all events of a session. They are not
decoded but looked up, byte for byte, in a table of heads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fluxforge.batch import BACKFILLED, CONFLATED, EVENT, NO_TS, REFRESH
from fluxforge.events import EVENT_OF, ClockSource, Kind
from fluxforge.kernels.book import Floats, Ints
from fluxforge.kernels.compiled import njit, word

Bytes = NDArray[np.uint8]

ODD = -1
"""The `kind` of an event that was not read."""
HEAD, ID_AT, ID_SIZE = range(3)
"""Columns beside the batch: the row of the event's head, and where in the bytes a trade's id lies."""
HASH, START, SIZE, PARTITION, SLOT, COLLECTOR = range(6)
"""Columns of the heads: hash, where in the pool their bytes lie, and what they stand for."""

KINDS = (Kind.BOOK_SNAPSHOT, Kind.BOOK_DELTA, Kind.TRADE, Kind.HEARTBEAT)
FIELDS = np.zeros(max(Kind) + 1, np.int64)
"""Elements of an event on the wire by kind, its tag included; 0 of kinds that are not read here."""
for _kind in KINDS:
    FIELDS[_kind] = 1 + len(EVENT_OF[_kind].__struct_fields__)

_names = EVENT.names or ()
_WORDS = tuple(_names.index(name) for name in ("kind", "slot", "offset", "ts", "capture_ts", "skew", "collector"))
_KIND, _SLOT, _OFFSET, _TS, _CAPTURE_TS, _SKEW, _COLLECTOR = _WORDS
_WORDS_OF_BOOK = tuple(_names.index(name) for name in ("flags", "updates", "levels", "bids", "asks"))
_FLAGS, _UPDATES, _LEVELS, _BIDS, _ASKS = _WORDS_OF_BOOK
_PRICE, _SIZE, _SIDE = (_names.index(name) for name in ("price", "size", "side"))
_COLUMNS = len(_names)

_SNAPSHOT, _DELTA, _TRADE = int(Kind.BOOK_SNAPSHOT), int(Kind.BOOK_DELTA), int(Kind.TRADE)
_CAPTURE = int(ClockSource.CAPTURE)
_BASIS, _PRIME = np.uint64(14695981039346656037), np.uint64(1099511628211)  # FNV-1a
_NIL, _FALSE, _TRUE, _FLOAT = 0xC0, 0xC2, 0xC3, 0xCB
_BYTE = np.uint64(8)
int64: Any = np.int64
"""A byte must be made one: numba would take its sum with an integer for a float."""


@njit
def read(
    data: Bytes,
    bounds: Ints,
    offsets: Ints,
    partitions: Ints,
    fields: Ints,
    table: Ints,
    heads: Ints,
    pool: Bytes,
    events: Ints,
    floats: Floats,
    levels: Bytes,
    beside: Ints,
) -> int:
    """Read record i, `data[bounds[i]:bounds[i + 1]]`, into row i of `events`; returns the floats written to `levels`.

    `events` and `floats` are the batch's rows as words, `levels` its levels as bytes; `table` is the hash table of
    `heads` (see `lookup`), `beside` the columns HEAD, ID_AT, ID_SIZE.
    """
    used = 0
    for i in range(len(offsets)):
        for column in range(_COLUMNS):
            events[i, column] = 0
        events[i, _OFFSET] = offsets[i]
        events[i, _LEVELS] = used // 8
        end = bounds[i + 1]
        at = fixed(data, bounds[i], end, fields, events[i])
        if at >= 0:
            at = head(data, at, end, partitions[i], table, heads, pool, events[i], beside[i])
        if at >= 0:
            at = times(data, at, end, events[i])
        if at >= 0:
            kind = events[i, _KIND]
            if kind == _TRADE:
                at = trade(data, at, end, events[i], floats[i], beside[i])
            elif kind in (_SNAPSHOT, _DELTA):
                at = book(data, at, end, kind, events[i], levels, used)
        if at == end:
            used += 16 * (events[i, _BIDS] + events[i, _ASKS])
        else:
            events[i, _KIND] = ODD
    return used // 8


@njit
def fixed(data: Bytes, at: int, end: int, fields: Ints, event: Ints) -> int:
    """Length and tag of the array; here and below the place behind is returned, −1 where the event is odd."""
    if at >= end:
        return -1
    first = int64(data[at])
    if first & 0xF0 == 0x90:
        count, at = first & 0x0F, at + 1
    elif first == 0xDC and at + 3 <= end:
        count, at = int64(data[at + 1]) << 8 | int64(data[at + 2]), at + 3
    else:
        return -1
    if at >= end:
        return -1
    kind = int64(data[at])
    if kind >= len(fields) or fields[kind] != count:
        return -1
    event[_KIND] = kind
    return at + 1


@njit
def head(
    data: Bytes,
    at: int,
    end: int,
    partition: int,
    table: Ints,
    heads: Ints,
    pool: Bytes,
    event: Ints,
    beside: Ints,
) -> int:
    """The six names that an event begins with: they must be known."""
    start = at
    for _ in range(6):
        at = text(data, at, end)
        if at < 0:
            return -1
    found = lookup(data, start, at - start, partition, table, heads, pool)
    if found < 0:
        return -1
    beside[HEAD] = found
    event[_SLOT], event[_COLLECTOR] = heads[found, SLOT], heads[found, COLLECTOR]
    return at


@njit
def lookup(data: Bytes, start: int, size: int, partition: int, table: Ints, heads: Ints, pool: Bytes) -> int:
    """The row of `heads` with these bytes in this partition, or −1.

    `table` is open addressing: rows of `heads` in a power of two of places, −1 where free; never full.
    """
    value = hashed(data, start, size, partition)
    mask = len(table) - 1
    place = value & mask
    while table[place] >= 0:
        row = table[place]
        if heads[row, HASH] == value and heads[row, SIZE] == size and heads[row, PARTITION] == partition:
            k = 0
            while k < size and data[word(start + k)] == pool[word(heads[row, START] + k)]:
                k += 1
            if k == size:
                return int(row)
        place = (place + 1) & mask
    return -1


@njit
def hashed(data: Bytes, start: int, size: int, partition: int) -> int:
    """FNV-1a of the bytes and the partition, not negative."""
    value = _BASIS ^ np.uint64(partition)
    for k in range(size):
        value = (value ^ np.uint64(data[word(start + k)])) * _PRIME
    return int64(value >> np.uint64(1))


@njit
def times(data: Bytes, at: int, end: int, event: Ints) -> int:
    """ts, capture_ts, skew, clock, seq."""
    if at >= end:
        return -1
    ts = NO_TS
    if data[at] == _NIL:
        at += 1
    else:
        ts, at = integer(data, at, end)
    if at >= 0:
        event[_CAPTURE_TS], at = integer(data, at, end)
    if at >= 0:
        event[_SKEW], at = integer(data, at, end)
    if at >= 0:
        clock, at = integer(data, at, end)
        event[_TS] = event[_CAPTURE_TS] if clock == _CAPTURE else ts
    return optional(data, at, end)


@njit
def trade(data: Bytes, at: int, end: int, event: Ints, floats: Floats, beside: Ints) -> int:
    """id, price, size, side, backfilled, raw."""
    start = at
    at = text(data, at, end)
    if at < 0:
        return -1
    first = start + (1 if data[start] < 0xC0 else 2 if data[start] == 0xD9 else 3)
    for k in range(first, at):
        if data[k] >= 0x80:  # not ASCII: the codec knows whether it is UTF-8
            return -1
    beside[ID_AT], beside[ID_SIZE] = first, at - first
    for column in (_PRICE, _SIZE):
        if at + 9 > end or data[at] != _FLOAT:
            return -1
        event[column] = big_endian(data, at + 1, 8)
        at += 9
    side, at = integer(data, at, end)
    if at < 0 or at + 2 > end:
        return -1
    floats[_SIDE] = float(side)
    if data[at] == _TRUE:
        event[_FLAGS] = BACKFILLED
    elif data[at] != _FALSE:
        return -1
    if data[at + 1] == _NIL:
        return at + 2
    start, size = blob(data, at + 1, end)
    return start + size if start >= 0 else -1


@njit
def book(data: Bytes, at: int, end: int, kind: int, event: Ints, levels: Bytes, used: int) -> int:
    """bids, asks, and of a snapshot refresh, conflated, updates; of a delta first_seq."""
    for column in (_BIDS, _ASKS):
        start, size = blob(data, at, end)
        if start < 0 or size & 15:
            return -1
        for k in range(size):
            levels[word(used + k)] = data[word(start + k)]
        used += size
        event[column] = size >> 4
        at = start + size
    if kind == _DELTA:
        event[_UPDATES] = 1
        return optional(data, at, end)
    for flag in (REFRESH, CONFLATED):
        if at >= end:
            return -1
        if data[at] == _TRUE:
            event[_FLAGS] |= flag
        elif data[at] != _FALSE:
            return -1
        at += 1
    event[_UPDATES], at = integer(data, at, end)
    return at


@njit
def optional(data: Bytes, at: int, end: int) -> int:
    """Nothing, or an integer that is not needed."""
    if at < 0 or at >= end:
        return -1
    if data[at] == _NIL:
        return at + 1
    _, at = integer(data, at, end)
    return at


@njit
def integer(data: Bytes, at: int, end: int) -> tuple[int, int]:
    """An integer of at most 64 bits with its sign, and the place behind it."""
    if at < 0 or at >= end:
        return 0, -1
    first = int64(data[at])
    if first <= 0x7F:
        return first, at + 1
    if first >= 0xE0:
        return first - 256, at + 1
    if not 0xCC <= first <= 0xD3:
        return 0, -1
    size = 1 << ((first - 0xCC) & 3)
    if at + 1 + size > end:
        return 0, -1
    value = big_endian(data, at + 1, size)
    if first == 0xCF and value < 0:  # more than an int64 holds
        return 0, -1
    if first >= 0xD0 and size < 8 and value >= 1 << (8 * size - 1):
        value -= 1 << (8 * size)
    return value, at + 1 + size


@njit
def big_endian(data: Bytes, at: int, size: int) -> int:
    """The bits of `size` bytes."""
    value = np.uint64(0)
    for k in range(size):
        value = value << _BYTE | np.uint64(data[word(at + k)])
    return int64(value)


@njit
def text(data: Bytes, at: int, end: int) -> int:
    """The place behind a string of less than 64 KiB."""
    if at >= end:
        return -1
    first = int64(data[at])
    if first & 0xE0 == 0xA0:
        at += 1 + (first & 0x1F)
    elif first == 0xD9 and at + 2 <= end:
        at += 2 + int64(data[at + 1])
    elif first == 0xDA and at + 3 <= end:
        at += 3 + (int64(data[at + 1]) << 8 | int64(data[at + 2]))
    else:
        return -1
    return at if at <= end else -1


@njit
def blob(data: Bytes, at: int, end: int) -> tuple[int, int]:
    """Where a binary begins, and its size."""
    if at < 0 or at >= end:
        return -1, 0
    first = int64(data[at])
    if not 0xC4 <= first <= 0xC6:
        return -1, 0
    width = 1 << (first - 0xC4)
    if at + 1 + width > end:
        return -1, 0
    size = big_endian(data, at + 1, width)
    start = at + 1 + width
    return (start, size) if start + size <= end else (-1, 0)


def words(events: NDArray[np.void]) -> tuple[Any, Any]:
    """The rows of a batch as integers and as floats."""
    return events.view(np.int64).reshape(-1, _COLUMNS), events.view(np.float64).reshape(-1, _COLUMNS)
