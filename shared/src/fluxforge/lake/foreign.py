"""Lake files that no record names, into the lake: misplaced ones, and those of other programs.

A file is never moved. What it holds is written again where it belongs, under a chain whose log id is the hash of its
content and whose offsets are its rows; so the same file is never taken twice, whatever its name.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import unquote

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fluxforge import rows
from fluxforge.clock import NS
from fluxforge.cross.config import CrossConfig
from fluxforge.cross.table import table as cross_table
from fluxforge.errors import StorageError
from fluxforge.files import Chain, ChainId, CommittedFile, Storage, Tree, parquet
from fluxforge.files.dataset import committed_files
from fluxforge.kernels.config import FeatureConfig
from fluxforge.lake.layout import folder_of
from fluxforge.lake.scan import FOLDERS
from fluxforge.rows import Market, Table

_PLACE = re.compile(
    rf"(?P<source>[^/]+)/(?P<folder>{'|'.join(FOLDERS.values())})/exchange=(?P<exchange>[^/]+)/"
    r"symbol=(?P<symbol>.+?)/(?P<rest>(?:[a-z]+=[^/]+/)*)[^/=]+\.parquet"
)
_IN_PATH = ("exchange", "symbol", "source", "date", "year", "month", "day", "hour", "duration")
_BLOCK = 1 << 20
_YEARS = 631_152_000, 4_102_444_800
"""1990 and 2100, s: integers between them tell their unit."""


@dataclass
class Taken:
    """What becomes of one file.

    does     import: its rows are committed anew; restore: it is a committed file that is missing from its place;
             copy: the same content is committed; already: its rows were imported before; refuse: see `told`
    folders  where the rows belong, and how many
    """

    path: str
    does: Literal["import", "restore", "copy", "already", "refuse"]
    told: str = ""
    folders: dict[str, int] = field(default_factory=dict)


def take(lake: Tree, storage: Storage, paths: list[str], *, apply: bool = False) -> list[Taken]:
    """Bring files of `storage`, with paths as in a lake, into the lake; without `apply` only say what would be done.

    A file's columns exchange and symbol tell whose its rows are, else its path; its column timestamp (ns, µs, ms, s or
    an Arrow timestamp) tells the day. `BTC/USD`, `BTC%2FUSD` and `BTC-USD` are one symbol.
    """
    known = {found.file.sha256: found.file for found in committed_files(lake)}
    return [_take(lake, storage, path, known, apply) for path in paths]


def _take(lake: Tree, storage: Storage, path: str, known: dict[str, CommittedFile], apply: bool) -> Taken:
    with storage.open(path) as opened:
        hashed = hashlib.sha256()
        while block := opened.read(_BLOCK):
            hashed.update(block)
    same = known.get(hashed.hexdigest())
    if same is not None:
        if lake.storage.size(same.path) is not None or lake.storage.size(same.active) is not None:
            return Taken(path, "copy", f"the same as {lake.storage.name(same.path)}")
        if apply:
            _restore(lake, storage, path, same)
        return Taken(path, "restore", f"is {lake.storage.name(same.path)}")
    try:
        table, parts = _parts(storage, path)
    except (StorageError, ValueError, KeyError, OSError, pa.ArrowException) as error:
        return Taken(path, "refuse", str(error))
    told = {folder: part.num_rows for folder, (_, part) in parts.items()}
    chain = ChainId(hashed.hexdigest()[:32], f"import.{table.name}", 0)
    count = sum(told.values())
    if not apply:
        return Taken(path, "import", folders=told)
    with Chain.open(lake, chain, first=0) as opened_chain:
        if opened_chain.next_offset >= count:
            return Taken(path, "already", folders=told)
        for folder, (market, part) in parts.items():
            segment = opened_chain.segment(folder, parquet(part.schema), time_column="timestamp", meta=market._asdict())
            segment.write(part)
        columns = next(iter(parts.values()))[1].schema.to_string()
        config = hashlib.sha256(columns.encode()).hexdigest()[:12]
        note = {"table": table.name, "imported": storage.name(path)}
        opened_chain.commit(count, schema="imported", config_hash=config, meta=note)
    return Taken(path, "import", folders=told)


def _restore(lake: Tree, storage: Storage, path: str, file: CommittedFile) -> None:
    """Its content at the place its record says."""
    draft = lake.storage.draft(file.active, file.path, staged=True)
    try:
        with storage.open(path) as opened:
            while block := opened.read(_BLOCK):
                draft.write(memoryview(block))
        draft.seal()
    except BaseException:
        draft.discard()
        raise
    lake.storage.sealed([file.active])
    staged = msgspec.structs.replace(file, upload=None)
    lake.storage.publish([staged])
    lake.storage.unstage([staged])


def _parts(storage: Storage, path: str) -> tuple[Table, dict[str, tuple[Market, pa.Table]]]:
    """The file's rows by the folder they belong to, in its order. Raises StorageError where that cannot be told."""
    match = _PLACE.fullmatch(path)
    if match is None:
        raise StorageError("its path is not source/table/exchange=…/symbol=…/…", hint=f"tables: {', '.join(FOLDERS)}")
    with storage.open(path) as opened, pq.ParquetFile(opened) as file:
        found = file.read(use_threads=False)
    table = _tables()[match["folder"]]
    if "timestamp" not in found.column_names:
        raise StorageError("it has no column timestamp", hint="tell the rows' times in one")
    path_says = dict(part.split("=", 1) for part in match["rest"].split("/") if part)
    times = nanoseconds(found["timestamp"])
    exchanges = _words(found, "exchange", unquote(match["exchange"]))
    symbols = _words(found, "symbol", unquote(match["symbol"]))
    durations: list[str | int | None] = [None] * found.num_rows
    if table is rows.BARS:
        durations = _words(found, "duration", path_says.get("duration"))
        if any(duration is None for duration in durations):
            raise StorageError("neither a column nor its path tells the bars' duration", hint="name it in the path")
    places: dict[str, list[int]] = defaultdict(list)
    markets: dict[str, Market] = {}
    for at, (exchange, symbol, time, duration) in enumerate(
        zip(exchanges, symbols, times.tolist(), durations, strict=True)
    ):
        market = Market(str(exchange), str(symbol), unquote(match["source"]))
        folder = folder_of(table, market, time, None if duration is None else int(duration))
        places[folder].append(at)
        markets.setdefault(folder, market)
    if not places:
        raise StorageError("it has no rows", hint="remove it")
    plain = _ours(table, found.drop([name for name in _IN_PATH if name in found.column_names]), times)
    return table, {folder: (markets[folder], plain.take(at)) for folder, at in places.items()}


def nanoseconds(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """Times as ns; of integers the magnitude tells the unit.

    Raises StorageError for nulls, and for years outside of 1990 to 2099.
    """
    if column.null_count:
        raise StorageError("rows without a timestamp", hint="leave them out")
    if pa.types.is_timestamp(column.type):
        found: NDArray[np.int64] = np.asarray(column.cast(pa.timestamp("ns")).cast(pa.int64()))
        return found
    values = np.asarray(column.cast(pa.float64() if pa.types.is_floating(column.type) else pa.int64()))
    for unit in (NS, 1_000_000, 1_000, 1):
        low, high = (second * (NS // unit) for second in _YEARS)
        if len(values) and (values >= low).all() and (values < high).all():
            scaled: NDArray[np.int64] = np.rint(values * unit).astype(np.int64)
            return scaled
    raise StorageError("timestamps of no unit between s and ns", hint="store ns since 1970 UTC")


def _ours(table: Table, found: pa.Table, times: NDArray[np.int64]) -> pa.Table:
    """Columns that are ours in our types, the others as they are."""
    columns = {name: found[name] for name in found.column_names}
    columns["timestamp"] = pa.array(times, pa.int64())
    if "capture_ts" in columns:
        columns["capture_ts"] = pa.array(nanoseconds(columns["capture_ts"]), pa.int64())
    for known in table.schema:
        if known.name in columns and columns[known.name].type != known.type:
            columns[known.name] = pc.cast(columns[known.name], known.type)
    return pa.table(columns)


def _words(found: pa.Table, name: str, else_: str | None) -> list[str | int | None]:
    if name in found.column_names:
        values: list[str | int | None] = found[name].to_pylist()
        return [else_ if value is None else value for value in values]
    return [else_] * found.num_rows


def _tables() -> dict[str, Table]:
    known = (rows.hf_table(FeatureConfig()), cross_table(CrossConfig()), rows.BARS, rows.TRADES, rows.TICKER)
    return {table.folder: table for table in known}
