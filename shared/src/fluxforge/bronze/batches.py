"""Arrow tables straight to kernel batches, without an object per event.

Byte for byte what `fluxforge.batch.build` makes of the decoded records.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fluxforge.batch import BACKFILLED, CONFLATED, EVENT, INCOMPLETE, NO_TS, REFRESH, EventBatch
from fluxforge.bronze.records import events_of, pairs
from fluxforge.bronze.schema import KIND_NAMES, ORDERBOOK, SCHEMAS, TRADES, UNDECODABLE
from fluxforge.events import AnyEvent, ClockSource, Kind

Slots = Callable[[str, str], int]
"""(key, source) → the kernel's slot; asked once for each pair in a batch."""

UNUSED = frozenset(
    {"topic", "partition", "timestamp", "key", "headers", "native", "connection", "seq", "first_seq", "raw"}
)
"""Columns of trades and books that batches are made without."""

_KIND_OF_NAME = {name: int(kind) for kind, name in KIND_NAMES.items()}


class BronzeBatch(NamedTuple):
    """A kernel batch, and the way back to the events themselves.

    batch    events in log order
    tables   where they come from
    table    per event, which of the tables
    row      per event, which row of it
    renewed  slots that had a Reset behind the last gap before this batch; None: no gap was met yet
    """

    batch: EventBatch
    tables: Sequence[pa.Table]
    table: NDArray[np.int64]
    row: NDArray[np.int64]
    renewed: frozenset[int] | None = None

    def decoded(self, at: NDArray[np.int64] | Sequence[int]) -> list[AnyEvent]:
        """The events at these positions of the batch."""
        positions = np.asarray(at, np.int64)
        found: list[Any] = [None] * len(positions)
        for which, table in enumerate(self.tables):
            mine = np.flatnonzero(self.table[positions] == which)
            if len(mine):
                for place, event in zip(mine, events_of(table.take(self.row[positions[mine]])), strict=True):
                    found[place] = event
        return found


def build(tables: Sequence[pa.Table], slots: Slots) -> BronzeBatch:
    """The batch of tables that cover the same run of offsets; rows that do not decode are left out."""
    tables = [table for table in map(_decodable, tables) if table.num_rows]
    if not tables:
        nothing = np.empty(0, np.int64)
        return BronzeBatch(EventBatch(np.empty(0, EVENT), np.empty(0, "<f8")), [], nothing, nothing)
    rows = [_rows(table, slots) for table in tables]
    ordinals = np.concatenate([_ints(table, "ordinal") for table in tables])
    events = np.concatenate(rows)
    order = np.lexsort((ordinals, events["offset"]))
    events = events[order]
    floats = 2 * (events["bids"] + events["asks"])
    events["levels"] = np.cumsum(floats) - floats
    source = np.repeat(np.arange(len(tables)), [len(part) for part in rows])
    row = np.concatenate([np.arange(len(part)) for part in rows])
    levels = np.empty(int(floats.sum()), "<f8")
    table_of, row_of = source[order], row[order]
    for which, table in enumerate(tables):
        if channel_of(table) == ORDERBOOK:
            at = np.empty(table.num_rows, np.int64)
            mine = table_of == which
            at[row_of[mine]] = events["levels"][mine]
            _put_levels(table, at, levels)
    return BronzeBatch(EventBatch(events, levels), tables, table_of, row_of)


def _rows(table: pa.Table, slots: Slots) -> NDArray[np.void]:
    """EVENT rows of one table; `levels` not yet known."""
    out = np.zeros(table.num_rows, EVENT)
    out["kind"] = _by_word(table, "kind", _KIND_OF_NAME.__getitem__)
    out["slot"] = _slots(table, slots)
    out["offset"] = _ints(table, "offset")
    out["capture_ts"] = _ints(table, "capture_ts")
    out["ts"] = np.where(_ints(table, "clock") == ClockSource.CAPTURE, out["capture_ts"], _ints(table, "ts", NO_TS))
    out["skew"] = _ints(table, "skew")
    out["collector"] = _by_word(table, "collector", lambda word: crc32(word.encode()))
    channel = channel_of(table)
    if channel == TRADES:
        out["price"], out["size"] = _floats(table, "price"), _floats(table, "size")
        out["side"] = _ints(table, "side")
        out["flags"] = _flags(table, "backfilled") * BACKFILLED
    elif channel == ORDERBOOK:
        out["bids"], out["asks"] = _counts(table, "bid_prices"), _counts(table, "ask_prices")
        out["updates"] = np.where(out["kind"] == Kind.BOOK_DELTA, 1, _ints(table, "updates"))
        out["flags"] = _flags(table, "refresh") * REFRESH | _flags(table, "conflated") * CONFLATED
    elif "incomplete" in table.column_names:
        out["flags"] = _flags(table, "incomplete") * INCOMPLETE
    return out


def _put_levels(table: pa.Table, at: NDArray[np.int64], levels: NDArray[np.float64]) -> None:
    """Write each row's bids, then its asks, from index `at` on."""
    for side in ("bid", "ask"):
        both, ends = pairs(table, side)
        counts = np.diff(ends)
        target = np.repeat(at - 2 * ends[:-1], counts) + 2 * np.arange(len(both))
        levels[target], levels[target + 1] = both[:, 0], both[:, 1]
        at = at + 2 * counts


def _slots(table: pa.Table, slots: Slots) -> NDArray[np.int64]:
    """Slot of each row, by the distinct (exchange, symbol, source)."""
    words = [table.column(name).combine_chunks() for name in ("exchange", "symbol", "source")]
    codes = np.zeros(table.num_rows, np.int64)
    for word in words:
        codes = codes * len(word.dictionary) + np.asarray(word.indices)
    distinct, first, back = np.unique(codes, return_index=True, return_inverse=True)
    found = np.empty(len(distinct), np.int64)
    for i, row in enumerate(first):
        exchange, symbol, source = (word[int(row)].as_py() for word in words)
        found[i] = slots(f"{exchange}|{symbol}", source)
    of_rows: NDArray[np.int64] = found[back]
    return of_rows


def _by_word(table: pa.Table, name: str, number: Callable[[str], int]) -> NDArray[np.int64]:
    """A dictionary column as numbers, one call of `number` for each distinct word in use."""
    column = table.column(name).combine_chunks()
    codes = np.asarray(column.indices)
    numbers = np.zeros(len(column.dictionary), np.int64)
    for code in np.unique(codes):
        numbers[code] = number(column.dictionary[int(code)].as_py())
    of_rows: NDArray[np.int64] = numbers[codes]
    return of_rows


def _decodable(table: pa.Table) -> pa.Table:
    table = table.unify_dictionaries().combine_chunks()
    if UNDECODABLE in table.column("kind").combine_chunks().dictionary.to_pylist():
        table = table.filter(pc.not_equal(table.column("kind").cast(pa.string()), UNDECODABLE)).combine_chunks()
    return table


def channel_of(table: pa.Table) -> str:
    """The channel of a table as it is read."""
    names = set(table.column_names)
    return next(channel for channel, schema in SCHEMAS.items() if names <= set(schema.names) <= names | UNUSED)


def _ints(table: pa.Table, name: str, null: int = 0) -> NDArray[np.int64]:
    column = table.column(name)
    return np.asarray(column.cast(pa.int64()).fill_null(null).combine_chunks())


def _floats(table: pa.Table, name: str) -> NDArray[np.float64]:
    return np.asarray(table.column(name).combine_chunks())


def _flags(table: pa.Table, name: str) -> NDArray[np.int64]:
    return np.asarray(table.column(name).fill_null(False).cast(pa.int64()).combine_chunks())


def _counts(table: pa.Table, name: str) -> NDArray[np.int64]:
    counts: NDArray[np.int64] = np.asarray(table.column(name).combine_chunks().value_lengths(), np.int64)
    return counts
