"""The order of history: by the time a row could first be known, ties by what the row itself says.

That time is `capture_ts`, our clock when the event came that made the row. `timestamp` would look ahead: a bar's is its
start, a late trade's is older than its arrival, and the clocks of two exchanges differ.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator
from difflib import get_close_matches
from itertools import count
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fluxforge.client.tables import Row
from fluxforge.clock import NS
from fluxforge.errors import CodecError, ConfigError

TIME = "capture_ts"
ORDER = (
    TIME,
    *("exchange", "symbol", "source", "source_partition", "source_offset"),
    *("duration", "bar_type", "timestamp"),
)
"""The columns that order rows, the first of them deciding first; a table need not have duration and bar_type."""

_ABSENT = {"duration": 0, "bar_type": ""}


def key(row: Row) -> tuple[Any, ...]:
    """What a row is ordered by. Raises CodecError where it does not say."""
    try:
        return tuple([row.get(name, _ABSENT[name]) if name in _ABSENT else row[name] for name in ORDER])
    except KeyError as error:
        raise CodecError(f"a row without {error} has no place in history", hint=f"it has {', '.join(row)}") from error


def selected(names: Collection[str], columns: Collection[str]) -> list[str]:
    """Of a table's columns those that are asked for, and those that name and order its rows.

    Raises ConfigError for a column that is not there.
    """
    if unknown := sorted(set(columns) - set(names)):
        near = [match for name in unknown for match in get_close_matches(name, names, 1)]
        raise ConfigError(
            f"there is no column {', '.join(unknown)}",
            hint=f"did you mean {', '.join(near)}?" if near else f"one of {', '.join(names)}",
        )
    return [name for name in names if name in ORDER or name in columns]


def in_order(table: pa.Table) -> pa.Table:
    """Its rows as `key` orders them."""
    keys = [_codes(table[name]) for name in ORDER if name in table.schema.names]
    order = np.lexsort(keys[::-1])
    if (order[1:] > order[:-1]).all():
        return table
    return table.take(pa.array(order))


def times(table: pa.Table) -> NDArray[np.int64]:
    """(n,) its capture times, ns."""
    captured: NDArray[np.int64] = table[TIME].to_numpy()
    return captured


def _codes(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """Integers that compare as the values do; texts by code point, as Python does."""
    if not pa.types.is_string(column.type):
        numbers: NDArray[np.int64] = column.to_numpy()
        return numbers
    found = column.combine_chunks().dictionary_encode()
    words = found.dictionary.to_pylist()
    rank = {word: n for n, word in enumerate(sorted(words))}
    ranks: NDArray[np.int64] = np.array([rank[word] for word in words], np.int64)[found.indices.to_numpy()]
    return ranks


class Reorder:
    """Rows that come nearly in order, in order.

    A row waits until nothing can come any more that lies before it: until every partition has been read `hold_ns`
    past it. Raises ConfigError for one that comes later than that; nothing is ever given out in a wrong place.
    """

    def __init__(self, hold_ns: int) -> None:
        self._hold_ns = hold_ns
        self._rows: list[tuple[tuple[Any, ...], int, Row]] = []
        self._number = count()
        self._released: int | None = None

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, row: Row) -> None:
        place = key(row)
        if self._released is not None and place[0] < self._released:
            raise ConfigError(
                f"a row of {row['exchange']} {row['symbol']} captured at {place[0]} comes "
                f"{(self._released + self._hold_ns - place[0]) / NS:.3f} s behind others",
                hint=f"hold_s is {self._hold_ns / NS:g}: take more",
            )
        heapq.heappush(self._rows, (place, next(self._number), row))

    def release(self, reached: int | None) -> Iterator[Row]:
        """Rows that are certain once every partition has been read up to `reached`, ns; None: to its end."""
        bound = None if reached is None else reached - self._hold_ns
        while self._rows and (bound is None or self._rows[0][0][0] < bound):
            yield heapq.heappop(self._rows)[2]
        if bound is not None:
            self._released = bound if self._released is None else max(bound, self._released)
