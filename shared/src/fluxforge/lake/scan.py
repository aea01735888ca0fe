"""The lake as its commit records tell it: every batch whole, or not there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from fluxforge.clock import NS
from fluxforge.errors import ConfigError, StorageError
from fluxforge.files import CommittedFile, Tree
from fluxforge.files.dataset import At, Found, committed_files, dataset, files_at, schema_of
from fluxforge.lake.layout import hive_symbol, parts_of
from fluxforge.lake.versions import reading
from fluxforge.storage import Root

FOLDERS = {
    "hf": "orderbook/hf",
    "bars": "orderbook/bars",
    "trades": "trades",
    "ticker": "ticker",
    "cross": "orderbook/cross",
}
FOLDERS |= {f"events_{channel}": f"events/{channel}" for channel in ("ticker", "trades", "orderbook", "control")}
"""The tables and their folders below a source."""

HIVE_SCHEMA = pa.schema(
    [("exchange", pa.string()), ("symbol", pa.string()), ("date", pa.date32()), ("duration", pa.int64())]
)

Time: TypeAlias = int | datetime | str
"""ns since 1970 UTC, a datetime, or ISO 8601; without a zone it is UTC."""


class Chosen(NamedTuple):
    """Which rows of a table, as of `scan`."""

    exchange: str | None = None
    symbol: str | None = None
    start: Time | None = None
    end: Time | None = None
    duration: int | None = None
    source: str | None = None

    @property
    def bounds(self) -> tuple[int | None, int | None]:
        """ns: first ≤ timestamp < last; None: no bound. Raises ConfigError for a text that is no time."""
        return time_ns(self.start), time_ns(self.end)


class Selection(NamedTuple):
    """What of a table is meant.

    files        that can hold such rows, and where each can be read
    schema       their columns together, the path's last
    names        the path's columns
    first, last  ns: first ≤ timestamp < last; None: no bound
    """

    tree: Tree
    files: list[At]
    schema: pa.Schema
    names: tuple[str, ...]
    first: int | None
    last: int | None


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
    version: str | None = None,
) -> ds.Dataset:
    """A pyarrow dataset of the rows with start ≤ timestamp < end.

    root      the folder or `s3://bucket/prefix` that holds `processed/`, or what the configuration says
    version   of the lake, `live` for the live one; None: the one that `root` names, else the current one
    table     hf, bars, trades, ticker or cross
    symbol    as the exchange unifies it or as the path writes it: `BTC/USDT`, `BTC-USDT`
    duration  of bars, s; 0 for the information-driven ones, which their column bar_type tells apart

    The dataset has the path's columns too: exchange, symbol (`BTC-USDT`), date, duration. A filter on these or on
    timestamp opens only files that can hold such rows. Where configurations differ in their columns it has all of
    them, null where a file has none. Raises StorageError where nothing is committed.
    """
    chosen = Chosen(exchange, symbol, start, end, duration, source)
    tree, files, schema, names, first, last = select(root, table, chosen, version)
    made = dataset(tree, files, schema, (partition_of(at.file, names) for at in files), "timestamp")
    for bound, keep in ((first, pc.greater_equal), (last, pc.less)):
        if bound is not None:
            made = made.filter(keep(ds.field("timestamp"), pa.scalar(bound, pa.int64())))
    return made


def select(root: Root, table: str, chosen: Chosen, version: str | None = None) -> Selection:
    """Raises StorageError where nothing is committed."""
    tree = reading(root, version)
    found = matching(tree, table, chosen)
    if not found:
        raise StorageError(
            f"{tree.storage.name('')}: no committed {table} rows match",
            hint="nothing has been written yet, or exchange, symbol and times are others",
        )
    names = ("exchange", "symbol", "date", *(("duration",) if table == "bars" else ()))
    inside = schema_of(tree, found)
    schema = pa.schema([*(f for f in inside if f.name not in names), *(HIVE_SCHEMA.field(name) for name in names)])
    return Selection(tree, found, schema, names, *chosen.bounds)


def matching(tree: Tree, table: str, chosen: Chosen) -> list[At]:
    """The committed files that can hold such rows, perhaps none. Raises StorageError for a table there is not."""
    if table not in FOLDERS:
        raise StorageError(f"there is no table {table!r}", hint=f"one of {', '.join(FOLDERS)}")
    first, last = chosen.bounds
    wanted = {
        "exchange": chosen.exchange,
        "symbol": None if chosen.symbol is None else hive_symbol(chosen.symbol),
        "duration": None if chosen.duration is None else str(chosen.duration),
    }
    found = committed(tree, table, chosen.source)
    return files_at(tree, (one for one in found if _matches(one.file, wanted, first, last)))


def committed(tree: Tree, table: str, source: str | None = None) -> Iterator[Found]:
    """Every committed file of a table, chain by chain, each chain's in order of offset."""
    inside = re.compile(rf"(?P<source>[^/]+)/{FOLDERS[table]}/exchange=")
    for found in committed_files(tree):
        match = inside.match(found.file.path)
        if match and source in (None, unquote(match["source"])):
            yield found


def partition_of(file: CommittedFile, names: tuple[str, ...]) -> Mapping[str, Any]:
    """The values of the path's columns."""
    parts = parts_of(file)
    made: dict[str, Any] = {name: unquote(parts[name]) for name in names if name in parts}
    if "date" in made:
        made["date"] = date.fromisoformat(made["date"])
    if "duration" in made:
        made["duration"] = int(made["duration"])
    return made


def time_ns(time: Time | None) -> int | None:
    """ns since 1970 UTC. Raises ConfigError for a text that is no time."""
    if time is None or isinstance(time, int):
        return time
    try:
        at = datetime.fromisoformat(time) if isinstance(time, str) else time
    except ValueError as error:
        raise ConfigError(f"{time!r} is no time", hint="as 2026-01-31 or 2026-01-31T12:00, UTC") from error
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    whole = int(at.replace(microsecond=0).timestamp())
    return whole * NS + at.microsecond * 1000


def _matches(file: CommittedFile, wanted: Mapping[str, str | None], first: int | None, last: int | None) -> bool:
    parts = parts_of(file)
    if any(value is not None and unquote(parts.get(name, "")) != value for name, value in wanted.items()):
        return False
    if first is not None and file.last_ts is not None and file.last_ts < first:
        return False
    return last is None or file.first_ts is None or file.first_ts < last
