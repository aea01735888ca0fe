"""The order of history: by the time a row could first be known, ties by what the row itself says.

That time is `capture_ts`, our clock when the event came that made the row. `timestamp` would look ahead: a bar's is its
start, a late trade's is older than its arrival, and the clocks of two exchanges differ.
"""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fluxforge.clock import NS
from fluxforge.errors import ConfigError

TIME = "capture_ts"
ORDER = (
    TIME,
    *("exchange", "symbol", "source", "source_partition", "source_offset"),
    *("duration", "bar_type", "timestamp"),
)
"""The columns that order rows, the first of them deciding first; a table need not have duration and bar_type."""


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
    """Its rows in order."""
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


class Held:
    """Rows that come nearly in order, in order.

    A row waits until nothing can come any more that lies before it: until every partition has been read `hold_ns`
    past it. Raises ConfigError for one that comes later than that; nothing is ever given out in a wrong place.
    """

    def __init__(self, hold_ns: int) -> None:
        self._hold_ns = hold_ns
        self._tables: list[pa.Table] = []
        self._released: int | None = None

    def __len__(self) -> int:
        return sum(table.num_rows for table in self._tables)

    def add(self, table: pa.Table) -> None:
        """More rows, in any order."""
        if not table.num_rows:
            return
        table = in_order(table)
        first = int(times(table)[0])
        if self._released is not None and first < self._released:
            raise ConfigError(
                f"a row of {table['exchange'][0]} {table['symbol'][0]} captured at {first} comes "
                f"{(self._released + self._hold_ns - first) / NS:.3f} s behind others",
                hint=f"hold_s is {self._hold_ns / NS:g}: take more",
            )
        self._tables.append(table)

    def release(self, reached: int | None) -> pa.Table | None:
        """Rows that are certain once every partition has been read up to `reached`, ns, or (None) to its end."""
        bound = None if reached is None else reached - self._hold_ns
        ready, left = [], []
        for table in self._tables:
            captured = times(table)
            cut = table.num_rows if bound is None else int(np.searchsorted(captured, bound))
            if cut:
                ready.append(table.slice(0, cut))
            if cut < table.num_rows:
                left.append(table.slice(cut))
        self._tables = left
        if bound is not None:
            self._released = bound if self._released is None else max(bound, self._released)
        return in_order(pa.concat_tables(ready)) if ready else None
