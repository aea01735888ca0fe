"""A channel's events as they are, laid out by market and day: Bronze for engines that glob.

What the collectors sent, every copy of it, but for records that are no event of ours. Columns are Bronze's
(docs/STORAGE.md) without the record's envelope; `timestamp` is the exchange's time, where it gave none that of capture.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fluxforge.batch import NO_TS
from fluxforge.bronze.batches import channel_of
from fluxforge.bronze.schema import CONTROL, ORDERBOOK, SCHEMAS, TICKER, TRADES
from fluxforge.etl.gaps import inserted
from fluxforge.etl.merge import Merged
from fluxforge.rows import ORIGIN, Table

CHANNELS = (TICKER, TRADES, ORDERBOOK, CONTROL)
_ELSEWHERE = {
    *("topic", "partition", "offset", "timestamp", "key", "headers", "value", "capture_ts"),
    *("source", "exchange", "symbol"),
}
"""Columns of Bronze that are among `ORIGIN` or in the path, or tell of the log only."""

TABLES = {
    f"events_{channel}": Table(
        f"events_{channel}",
        f"events/{channel}",
        pa.schema([*ORIGIN, *(field for field in SCHEMAS[channel] if field.name not in _ELSEWHERE)]),
    )
    for channel in CHANNELS
}


def channel_named(table: str) -> str:
    """The channel whose events a table holds."""
    return table.removeprefix("events_")


def positions(merged: Merged, channel: str) -> NDArray[np.int64]:
    """Where in a batch the channel's events are."""
    found = np.zeros(len(merged.keys), bool)
    for which, piece in enumerate(merged.pieces):
        bronze = piece.bronze
        tables = [at for at, table in enumerate(bronze.tables) if channel_of(table) == channel]
        its = np.isin(bronze.table, tables) & ~inserted(bronze)
        mine = np.flatnonzero(merged.piece == which)
        found[mine] = its[merged.place[mine]]
    return np.flatnonzero(found)


def rows(merged: Merged, at: NDArray[np.int64], table: Table, partition: NDArray[np.int32]) -> pa.Table:
    """The events at these positions as rows of the table; `partition` is each one's of the raw topic."""
    events = merged.batch.events[at]
    stored = merged.rows(at, table.schema.names[len(ORIGIN) :])
    time = np.where(events["ts"] == NO_TS, events["capture_ts"], events["ts"])
    origin = (time, events["capture_ts"], partition, events["offset"])
    columns = [pa.array(values, kind) for values, (_, kind) in zip(origin, ORIGIN, strict=True)]
    return pa.Table.from_arrays([*columns, *stored.columns], schema=table.schema)
