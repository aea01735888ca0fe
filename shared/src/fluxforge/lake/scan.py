"""The lake as its commit records tell it: every batch whole, or not there."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from fluxforge.clock import NS
from fluxforge.errors import StorageError
from fluxforge.files import CommittedFile, Tree, chains, commits, locate
from fluxforge.lake.layout import date_of, hive_symbol, lake_tree
from fluxforge.storage import Root

FOLDERS = {"hf": "orderbook/hf", "bars": "orderbook/bars", "trades": "trades", "ticker": "ticker"}
"""The tables and their folders below a source."""

HIVE_SCHEMA = pa.schema(
    [("exchange", pa.string()), ("symbol", pa.string()), ("date", pa.date32()), ("duration", pa.int64())]
)

Time = int | datetime | str
"""ns since 1970 UTC, a datetime, or ISO 8601; without a zone it is UTC."""


def scan(
    root: Root,
    table: str,
    *,
    exchange: str | None = None,
    symbol: str | None = None,
    start: Time | None = None,
    end: Time | None = None,
    duration: int | None = None,
    source: str | None = None,
) -> ds.Dataset:
    """A pyarrow dataset of the rows with start ≤ timestamp < end.

    root      the folder or `s3://bucket/prefix` that holds `processed/`, or what the configuration says
    table     hf, bars, trades or ticker
    symbol    as the exchange unifies it or as the path writes it: `BTC/USDT`, `BTC-USDT`
    duration  of bars, s; 0 for the information-driven ones, which their column bar_type tells apart

    The dataset has the path's columns too: exchange, symbol (`BTC-USDT`), date, duration. Raises StorageError where
    nothing is committed or a committed file is gone.
    """
    if table not in FOLDERS:
        raise StorageError(f"there is no table {table!r}", hint=f"one of {', '.join(FOLDERS)}")
    tree = lake_tree(root)
    first, last = _ns(start), _ns(end)
    wanted = {
        "exchange": exchange,
        "symbol": None if symbol is None else hive_symbol(symbol),
        "duration": None if duration is None else str(duration),
    }
    files = [file for file in committed(tree, table, source) if _matches(file, wanted, first, last)]
    if not files:
        raise StorageError(
            f"{tree.storage.name('')}: no committed {table} rows match",
            hint="nothing has been written yet, or exchange, symbol and times are others",
        )
    names = ("exchange", "symbol", "date", *(("duration",) if table == "bars" else ()))
    partitioning = ds.partitioning(pa.schema([HIVE_SCHEMA.field(name) for name in names]), flavor="hive")
    paths = [locate(tree, file) for file in files]
    dataset = ds.dataset(paths, filesystem=tree.storage.filesystem(), format="parquet", partitioning=partitioning)
    for bound, keep in ((first, pc.greater_equal), (last, pc.less)):
        if bound is not None:
            dataset = dataset.filter(keep(ds.field("timestamp"), _like(dataset.schema, bound)))
    return dataset


def committed(tree: Tree, table: str, source: str | None = None) -> list[CommittedFile]:
    """Every committed file of a table, chain by chain, each chain's in order of offset."""
    inside = re.compile(rf"(?P<source>[^/]+)/{FOLDERS[table]}/exchange=")
    found = []
    for chain in chains(tree):
        for record in commits(tree, chain):
            for file in record.files:
                match = inside.match(file.path)
                if match and source in (None, match["source"]):
                    found.append(file)
    return found


def _matches(file: CommittedFile, wanted: dict[str, str | None], first: int | None, last: int | None) -> bool:
    parts = dict(part.split("=", 1) for part in file.path.split("/")[:-1] if "=" in part)
    if any(value is not None and parts.get(name) != value for name, value in wanted.items()):
        return False
    if first is not None and parts["date"] < date_of(first):
        return False
    return last is None or parts["date"] <= date_of(last)


def _ns(time: Time | None) -> int | None:
    if time is None or isinstance(time, int):
        return time
    at = datetime.fromisoformat(time) if isinstance(time, str) else time
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    whole = int(at.replace(microsecond=0).timestamp())
    return whole * NS + at.microsecond * 1000


def _like(schema: pa.Schema, ns: int) -> Any:
    """`ns` in the type of the timestamp column."""
    return pa.scalar(ns, pa.int64()).cast(schema.field("timestamp").type)
