"""Bronze's columns, channel by channel.

Every row is one event of one log record, and says which: topic, partition, offset, ordinal (its place among the rows
of that offset: 0 but for imported lines that hold several events), record timestamp, key, headers. Three columns are
null where they can be told from the rest, which is nearly always:

headers  null: those `fluxforge.codec.headers` gives the event
value    null: `fluxforge.codec.encode` of the event; else the record's own bytes (another encoding, newer fields)
ts       null: the exchange gave no time
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from fluxforge.bronze import scaled
from fluxforge.events import BookDelta, BookSnapshot, Coverage, Event, Heartbeat, Kind, Reset, Ticker, Trade, Wire
from fluxforge.files import Format, TableWriter, parquet

SCHEMA_VERSION = "bronze/2"

TICKER: Final = "ticker"
TRADES: Final = "trades"
ORDERBOOK: Final = "orderbook"
CONTROL: Final = "control"
WIRE: Final = "wire"
CHANNELS = (TICKER, TRADES, ORDERBOOK, CONTROL, WIRE)

CHANNEL_OF: dict[type[Event], str] = {
    BookSnapshot: ORDERBOOK,
    BookDelta: ORDERBOOK,
    Trade: TRADES,
    Ticker: TICKER,
    Heartbeat: CONTROL,
    Reset: CONTROL,
    Coverage: CONTROL,
    Wire: WIRE,
}

UNDECODABLE = "undecodable"
"""`kind` of a record that is no event of ours; its bytes are in `value`, the reason in `detail`."""

COVERAGE_COUNTS = tuple(
    name for name in Coverage.__struct_fields__ if name not in {*Event.__struct_fields__, "since", "until"}
)

KIND_NAMES = {kind: kind.name.lower() for kind in Kind}

_word = pa.dictionary(pa.int32(), pa.string())
_ns = pa.timestamp("ns", tz="UTC")
_ms = pa.timestamp("ms", tz="UTC")
_levels = pa.list_(pa.float64())
HEADERS = pa.list_(pa.struct([("name", pa.string()), ("value", pa.binary())]))

_RECORD = [
    pa.field("topic", _word),
    pa.field("partition", pa.int32()),
    pa.field("offset", pa.int64()),
    pa.field("ordinal", pa.int32()),
    pa.field("timestamp", _ms),
    pa.field("key", pa.dictionary(pa.int32(), pa.binary())),
    pa.field("headers", HEADERS),
    pa.field("value", pa.binary()),
]
WORDS = ("exchange", "symbol", "native", "source", "collector", "connection")
_EVENT = [
    pa.field("kind", _word),
    *(pa.field(name, _word) for name in WORDS),
    pa.field("ts", _ns),
    pa.field("capture_ts", _ns),
    pa.field("skew", pa.int64()),
    pa.field("clock", pa.int64()),
    pa.field("seq", pa.int64()),
]
_OWN = {
    TICKER: [
        *(
            pa.field(name, pa.float64())
            for name in (
                "bid",
                "bid_size",
                "ask",
                "ask_size",
                "last",
                "open",
                "high",
                "low",
                "volume",
                "quote_volume",
            )
        ),
        pa.field("raw", pa.binary()),
    ],
    TRADES: [
        pa.field("id", pa.string()),
        pa.field("price", pa.float64()),
        pa.field("size", pa.float64()),
        pa.field("side", pa.int64()),
        pa.field("backfilled", pa.bool_()),
        pa.field("raw", pa.binary()),
    ],
    ORDERBOOK: [
        pa.field("bid_prices", _levels),
        pa.field("bid_sizes", _levels),
        pa.field("ask_prices", _levels),
        pa.field("ask_sizes", _levels),
        pa.field("refresh", pa.bool_()),
        pa.field("conflated", pa.bool_()),
        pa.field("updates", pa.int64()),
        pa.field("first_seq", pa.int64()),
    ],
    CONTROL: [
        pa.field("reason", _word),
        pa.field("incomplete", pa.bool_()),
        pa.field("detail", pa.string()),
        *(pa.field(name, _ns) for name in ("since", "until")),
        *(pa.field(name, pa.int64()) for name in COVERAGE_COUNTS),
    ],
    WIRE: [pa.field("data", pa.binary()), pa.field("about", _word)],
}

SCHEMAS: dict[str, pa.Schema] = {channel: pa.schema(_RECORD + _EVENT + _OWN[channel]) for channel in CHANNELS}

_REPEATED = {"partition", "ordinal", "skew", "clock", "side", "updates"}
_RISING = {"offset", "timestamp", "ts", "capture_ts", "seq", "first_seq"}


def parquet_format(channel: str) -> Format:
    """The channel's Parquet: words and small integers by dictionary, rising integers by delta, books as `scaled`."""
    schema = SCHEMAS[channel]
    dictionary = [f.name for f in schema if pa.types.is_dictionary(f.type) or f.name in _REPEATED]
    delta = [name for name in schema.names if name in _RISING]
    metadata = {"fluxforge.schema": SCHEMA_VERSION, "fluxforge.channel": channel}
    if channel != ORDERBOOK:
        return parquet(schema, dictionary=dictionary, delta=delta, metadata=metadata)
    form = parquet(
        scaled.schema_of(schema),
        dictionary=[*dictionary, *scaled.SIDES],
        delta=delta,
        split=[f"{name}.list.element" for name in scaled.INTEGERS],
        metadata=metadata,
    )
    return Format(form.suffix, lambda file: _ScaledWriter(form.open(file), scaled.Scaler(schema)))


class _ScaledWriter:
    """Scales what passes through, but for what is stored so already."""

    def __init__(self, writer: TableWriter, scaler: scaled.Scaler) -> None:
        self._writer, self._scaler = writer, scaler

    def write(self, table: pa.Table) -> None:
        self._writer.write(table if scaled.is_stored(table) else self._scaler.encode(table))

    def close(self) -> None:
        self._writer.close()
