"""Rows for strategy code, live and from history, by one call.

    async for row in stream("features", symbols=["BTC/USDT"]):
        if row["ofi_sum_5s"] > 10:
            ...

A row is a dict: `exchange`, `symbol`, `source`, `timestamp` (ns) and the columns of its table; null values are None.

Sources
    live          the topic, as rows are published: in order per symbol, for ever
    topic         what the topic holds now
    replay.{run}  what the topic of a pipeline behind a replay holds now
    lake          the lake's files

All but the first are history: they end, and their rows come in the order of `fluxforge.client.order`, by capture time,
so that what stands later was not known earlier. The same rows come in the same order from each of them.
"""

from __future__ import annotations

from fluxforge.client.history import frame
from fluxforge.client.joins import asof
from fluxforge.client.live import Feed, Start
from fluxforge.client.order import ORDER
from fluxforge.client.streaming import stream
from fluxforge.client.tables import Row, TableName

__all__ = ["ORDER", "Feed", "Row", "Start", "TableName", "asof", "frame", "stream"]
