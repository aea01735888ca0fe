"""Trades of the raw log and of Bronze as rows of the tape."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import compress

import pyarrow as pa
import pyarrow.compute as pc

from fluxforge import codec
from fluxforge.client.order import TIME
from fluxforge.client.tables import TAPE_SCHEMA, Wanted
from fluxforge.events import ClockSource, Kind, Trade
from fluxforge.log import RecordColumns

_KIND = ("kind", str(int(Kind.TRADE)).encode())


def trades_of(records: RecordColumns, mask: Iterable[bool]) -> pa.Table:
    """The trades among records that the mask lets pass; what does not decode is the feature engine's to report."""
    chosen = [kept and _KIND in headers for kept, headers in zip(mask, records.headers, strict=True)]
    events = codec.decode_all(list(compress(records.values, chosen)))
    places = zip(compress(records.partitions, chosen), compress(records.offsets, chosen), strict=True)
    found = [_row(event, *place) for event, place in zip(events, places, strict=True) if isinstance(event, Trade)]
    columns = list(zip(*found, strict=True)) or [()] * len(TAPE_SCHEMA)
    return pa.table(list(map(pa.array, columns, TAPE_SCHEMA.types)), schema=TAPE_SCHEMA)


def _row(trade: Trade, partition: int, offset: int) -> tuple[object, ...]:
    """The values of TAPE_SCHEMA. A trade without a time of the exchange's has the estimate of its clock."""
    time = trade.capture_ts if trade.clock == ClockSource.CAPTURE else trade.ts
    return (
        *(trade.exchange, trade.symbol, trade.source),
        trade.capture_ts + trade.skew if time is None else time,
        *(trade.capture_ts, partition, offset),
        *(trade.id, trade.price, trade.size, trade.side, trade.backfilled, trade.collector),
    )


def stored_trades(table: pa.Table, wanted: Wanted) -> pa.Table:
    """The trades of wanted markets in a table of Bronze's channel of trades."""
    keep = pc.equal(table["kind"].cast(pa.string()), Kind.TRADE.name.lower())
    for name, words in (("exchange", wanted.exchanges), ("symbol", wanted.symbols)):
        if words is not None:
            keep = pc.and_(keep, pc.is_in(table[name].cast(pa.string()), pa.array(sorted(words))))
    table = table.filter(keep)
    captured = table["capture_ts"].cast(pa.int64())
    by_capture = pc.equal(table["clock"], int(ClockSource.CAPTURE))
    estimated = pc.coalesce(table["ts"].cast(pa.int64()), pc.add(captured, table["skew"]))
    own = {
        "timestamp": pc.if_else(by_capture, captured, estimated),
        TIME: captured,
        "source_partition": table["partition"],
        "source_offset": table["offset"],
    }
    columns = [own[f.name] if f.name in own else table[f.name].cast(f.type) for f in TAPE_SCHEMA]
    return pa.table(columns, schema=TAPE_SCHEMA)
