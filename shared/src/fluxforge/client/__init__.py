"""Rows for strategy code, live and from history, by one call.

    async with FeatureStream(symbols=["BTC/USDT"]) as rows:
        async for row in rows:
            if row.ofi_sum_5s > 10:
                ...

The same without async: `with FeatureStream(…) as rows: for row in rows: …`; in batches: `rows.batches("polars")`; by
the table's name: `stream("features", …)`.

Sources
    live          the topic, as rows are published: in order per symbol, for ever
    topic         what the topic holds now
    replay.{run}  what the topic of a pipeline behind a replay holds now
    lake          the lake's files, of the tape those of Bronze

All but the first are history: they end, and their rows come in the order of `fluxforge.client.order`, by capture time,
so that what stands later was not known earlier. The same rows come in the same order from each of them.
"""

from __future__ import annotations

from fluxforge.client.joins import asof
from fluxforge.client.order import ORDER
from fluxforge.client.row import BarRow, CrossRow, FeatureRow, QuotedTradeRow, Row, TickerRow, TradeRow
from fluxforge.client.source import Lag
from fluxforge.client.streaming import (
    BarStream,
    CrossStream,
    FeatureStream,
    Options,
    QuotedTradeStream,
    Stream,
    TickerStream,
    TradeStream,
    frame,
    stream,
)
from fluxforge.client.tables import TableName

__all__ = [
    "ORDER",
    "BarRow",
    "BarStream",
    "CrossRow",
    "CrossStream",
    "FeatureRow",
    "FeatureStream",
    "Lag",
    "Options",
    "QuotedTradeRow",
    "QuotedTradeStream",
    "Row",
    "Stream",
    "TableName",
    "TickerRow",
    "TickerStream",
    "TradeRow",
    "TradeStream",
    "asof",
    "frame",
    "stream",
]
