"""The rows the product publishes, one definition for topics and files.

A table's columns come from the kernels as arrays. From there they go two ways, to JSON or msgpack rows on a topic,
or to an Arrow table; both hold the same values to the last bit, null standing for NaN.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fluxforge import catalogue
from fluxforge.batch import BACKFILLED, EventBatch
from fluxforge.errors import CodecError
from fluxforge.events import Kind, Ticker
from fluxforge.kernels.config import FeatureConfig
from fluxforge.kernels.outputs import BAR, BAR_TYPES, BarOutput, FeatureOutput

SCHEMA_VERSION = 2
Columns = dict[str, NDArray[Any] | list[Any] | pa.Array]
"""Columns of equal length by name; floats with NaN for null."""


class Market(NamedTuple):
    """What a key stands for in rows and paths."""

    exchange: str
    symbol: str
    source: str

    @property
    def key(self) -> bytes:
        return f"{self.exchange}|{self.symbol}".encode()


class Markets(NamedTuple):
    """The market of each row: `distinct[codes[row]]`."""

    distinct: Sequence[Market]
    codes: NDArray[np.int32]

    def at(self, rows: slice | NDArray[np.int64]) -> Markets:
        """Those of some rows."""
        return Markets(self.distinct, self.codes[rows])

    def names(self, name: str) -> pa.DictionaryArray:
        """One part of each row's market."""
        words = list(dict.fromkeys(getattr(market, name) for market in self.distinct))
        place = np.array([words.index(getattr(market, name)) for market in self.distinct], np.int32)
        return pa.DictionaryArray.from_arrays(pa.array(place[self.codes]), pa.array(words, pa.string()))


@dataclass(frozen=True)
class Table:
    """A table of the lake.

    folder   under `processed/{source}/`
    schema   of its rows; in files exchange, symbol, date and a bar's duration are in the path instead
    """

    name: str
    folder: str
    schema: pa.Schema


_LEVELS = pa.list_(pa.struct([("price", pa.float64()), ("size", pa.float64())]))
ORIGIN = [("timestamp", pa.int64()), ("capture_ts", pa.int64()), ("source_partition", pa.int32())]
ORIGIN += [("source_offset", pa.int64())]
"""What every table begins with: ns of the row and of capture, and where in the raw topic its event lies."""


def hf_table(config: FeatureConfig) -> Table:
    """The high-frequency feature table under one configuration."""
    fields = list(ORIGIN)
    fields += [(f.name, pa.int32() if f.integer else pa.float64()) for _, f in catalogue.chosen(config)]
    fields += [("updates_since_last", pa.int64()), ("sampling", pa.string()), ("quality", pa.int32())]
    if config.keep_raw_arrays:
        fields += [("bids", _LEVELS), ("asks", _LEVELS)]
    return Table("hf", "orderbook/hf", pa.schema(fields))


_BAR_META = ("event", "slot", "kind", "duration", "timestamp", "incomplete")
BARS = Table(
    "bars",
    "orderbook/bars",
    pa.schema(
        ORIGIN
        + [("bar_type", pa.string()), ("duration", pa.int64())]
        + [
            (name, pa.int64() if BAR.fields[name][0].kind == "i" else pa.float64())  # type: ignore[index]
            for name in BAR.names or ()
            if name not in _BAR_META
        ]
        + [("incomplete", pa.bool_())]
    ),
)
TRADES = Table(
    "trades",
    "trades",
    pa.schema(
        ORIGIN
        + [("id", pa.string())]
        + [(n, pa.float64()) for n in ("price", "size", "notional", "signed_size", "mid", "spread", "effective_spread")]
        + [("side", pa.int32()), ("backfilled", pa.bool_())]
    ),
)
_TICKER_FLOATS: tuple[str, ...] = (
    *("bid", "bid_size", "ask", "ask_size", "mid", "spread", "last"),
    *("open", "high", "low", "volume", "quote_volume"),
)
TICKER = Table("ticker", "ticker", pa.schema(ORIGIN + [(n, pa.float64()) for n in _TICKER_FLOATS]))


Partition = int | NDArray[np.int32]
"""The raw topic's partition of all events of a batch, or of each."""


def _origin(
    batch: EventBatch, index: NDArray[np.int64], time: NDArray[np.int64], partition: Partition
) -> dict[str, NDArray[Any]]:
    events = batch.events[index]
    return {
        "timestamp": time,
        "capture_ts": events["capture_ts"],
        "source_partition": np.full(len(index), partition, np.int32)
        if isinstance(partition, int)
        else partition[index],
        "source_offset": events["offset"],
    }


def hf_columns(config: FeatureConfig, out: FeatureOutput, batch: EventBatch, partition: Partition) -> Columns:
    """Feature rows of one batch as columns of `hf_table(config)`."""
    columns: Columns = {**_origin(batch, out.rows["event"], out.rows["time"], partition)}
    for i, feature in catalogue.chosen(config):
        values = out.values[:, i]
        columns[feature.name] = values.astype(np.int32) if feature.integer else values
    columns["updates_since_last"] = out.rows["updates"]
    columns["sampling"] = np.where(out.rows["conflated"] == 1, "conflated", "event")
    columns["quality"] = out.rows["quality"].astype(np.int32)
    if config.keep_raw_arrays:
        at = {name: i for i, name in enumerate(catalogue.columns(config))}
        for side, name in (("bid", "bids"), ("ask", "asks")):
            places = [(at[f"{side}_price_L{k}"], at[f"{side}_size_L{k}"]) for k in range(config.max_levels)]
            pairs = [(out.values[:, p], out.values[:, q]) for p, q in places]
            columns[name] = [
                [{"price": float(p[row]), "size": float(q[row])} for p, q in pairs if p[row] == p[row]]
                for row in range(len(out.rows))
            ]
    return columns


def bar_columns(out: BarOutput, batch: EventBatch, partition: Partition) -> Columns:
    """Closed bars of one batch as columns of `BARS` and `duration`; capture time and offset are the closing event's."""
    bars = out.bars
    columns: Columns = {**_origin(batch, bars["event"], bars["timestamp"], partition)}
    for name in BAR.names or ():
        if name not in _BAR_META:
            columns[name] = bars[name]
    columns["incomplete"] = bars["incomplete"] == 1
    columns["bar_type"] = np.array(BAR_TYPES)[bars["kind"]]
    columns["duration"] = bars["duration"]
    return columns


def quotes_of(out: FeatureOutput, batch: EventBatch, kind: Kind) -> NDArray[np.void]:
    """The quotes of the trades, or of the tickers, of a batch."""
    chosen: NDArray[np.void] = out.quotes[batch.events["kind"][out.quotes["event"]] == kind]
    return chosen


def trade_columns(
    quotes: NDArray[np.void], batch: EventBatch, ids: list[str] | pa.Array, partition: Partition
) -> Columns:
    """Trades enriched with the book just before them; `ids` are theirs, in order."""
    events = batch.events[quotes["event"]]
    price, size, side = events["price"], events["size"], events["side"]
    return {
        **_origin(batch, quotes["event"], quotes["time"], partition),
        "id": ids,
        "price": price,
        "size": size,
        "notional": price * size,
        "signed_size": size * side,
        "mid": quotes["mid"],
        "spread": quotes["spread"],
        "effective_spread": 2.0 * np.abs(price - quotes["mid"]) / quotes["mid"],
        "side": side.astype(np.int32),
        "backfilled": events["flags"] & BACKFILLED != 0,
    }


def ticker_columns(
    quotes: NDArray[np.void], batch: EventBatch, tickers: Sequence[Ticker], partition: Partition
) -> Columns:
    """Tickers with mid and spread; `tickers` are the events of the quotes, in order."""

    def column(name: str) -> NDArray[np.float64]:
        return np.array([getattr(t, name) for t in tickers], np.float64)

    bid, ask = column("bid"), column("ask")
    return {
        **_origin(batch, quotes["event"], quotes["time"], partition),
        **{name: column(name) for name in _TICKER_FLOATS if name not in ("mid", "spread")},
        "mid": (bid + ask) / 2.0,
        "spread": ask - bid,
    }


def to_arrow(table: Table, columns: Columns) -> pa.Table:
    """Columns as an Arrow table of the table's schema, NaN as null."""
    found = [columns[field.name] for field in table.schema]
    arrays = [
        column if isinstance(column, pa.Array) else pa.array(column, field.type, from_pandas=True)
        for column, field in zip(found, table.schema, strict=True)
    ]
    return pa.table(arrays, schema=table.schema)


def to_rows(columns: Columns, markets: Sequence[Market]) -> list[dict[str, Any]]:
    """Columns as one dict a row, the market's names first; NaN stays NaN until it is encoded as null."""
    lists = [c if isinstance(c, list) else c.tolist() for c in columns.values()]
    names = ("exchange", "symbol", "source", *columns)
    return [dict(zip(names, (*market, *values), strict=True)) for market, *values in zip(markets, *lists, strict=True)]


_json = msgspec.json.Encoder()
_msgpack = msgspec.msgpack.Encoder()


def encode(row: Mapping[str, Any], fmt: str = "json") -> bytes:
    """A row as JSON (or msgpack); null for NaN."""
    if fmt == "json":
        return _json.encode(row)
    return _msgpack.encode({k: None if v != v else v for k, v in row.items()})  # noqa: PLR0124


def encode_all(columns: Columns, markets: Sequence[Market], fmt: str = "json") -> list[bytes]:
    """`encode` of every row of `to_rows`, without a dict for each where the encoding allows."""
    if fmt != "json":
        return [encode(row, fmt) for row in to_rows(columns, markets)]
    lists = [c if isinstance(c, list) else c.tolist() for c in columns.values()]
    made = map(_row_type(tuple(columns)), *zip(*markets, strict=True), *lists) if markets else ()
    return list(map(_json.encode, made))


@cache
def _row_type(names: tuple[str, ...]) -> type[msgspec.Struct]:
    """A struct with the fields of a row: built and encoded in C."""
    return msgspec.defstruct("Row", ["exchange", "symbol", "source", *names], gc=False)


def decode_columns(value: bytes, columns: tuple[str, ...]) -> dict[str, Any]:
    """Some columns of a row, the others passed over. Raises CodecError, where one is missing too."""
    kind = _chosen(columns)
    try:
        found = (msgspec.json if value[:1] == b"{" else msgspec.msgpack).decode(value, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CodecError(f"{len(value)} bytes are no row: {error}") from error
    return msgspec.structs.asdict(found)


@cache
def _chosen(columns: tuple[str, ...]) -> type[msgspec.Struct]:
    return msgspec.defstruct("Chosen", [(name, Any) for name in columns], gc=False)


def decode(value: bytes) -> dict[str, Any]:
    """A row from either encoding. Raises CodecError."""
    try:
        row = msgspec.json.decode(value) if value[:1] == b"{" else msgspec.msgpack.decode(value)
    except msgspec.MsgspecError as error:
        raise CodecError(f"{len(value)} bytes are no row: {error}") from error
    if not isinstance(row, dict):
        raise CodecError(f"{len(value)} bytes are no row but a {type(row).__name__}")
    return row
