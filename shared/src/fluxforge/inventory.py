"""What there is: the markets of Bronze and of the lake, from their commit records and, where asked, their footers."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple
from urllib.parse import unquote

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fluxforge import bronze
from fluxforge.bronze import ndjson
from fluxforge.clock import date_of
from fluxforge.errors import SegmentError, StorageError
from fluxforge.files import ChainId, CommittedFile, Tree, records
from fluxforge.files.dataset import At, Found, committed_files, files_at
from fluxforge.files.retain import Dropped
from fluxforge.lake.layout import parts_of
from fluxforge.lake.scan import FOLDERS
from fluxforge.lake.versions import reading
from fluxforge.storage import Root

Layer = Literal["bronze", "lake"]
THREADS = 16


class Name(NamedTuple):
    """What a line of the inventory is of; `exchange` and `symbol` are empty where a segment holds several."""

    layer: Layer
    source: str
    table: str
    exchange: str = ""
    symbol: str = ""


@dataclass
class Entry:
    """One table or channel of a market.

    first_ts, last_ts  ns; of event times in the lake, of capture times in Bronze
    bytes              of the files; of a market that shares its segments with others its part by rows
    gap_offsets        offsets the log had dropped before they were read, over all chains it comes from
    dropped_rows       rows that retention has dropped on purpose from these chains, over all their markets
    """

    name: Name
    rows: int = 0
    bytes: int = 0
    files: int = 0
    first_ts: int | None = None
    last_ts: int | None = None
    gap_offsets: int = 0
    dropped_rows: int = 0
    chains: set[ChainId] = field(default_factory=set)

    def add(self, at: Found | At, rows: int, size: int, first: int | None, last: int | None) -> None:
        self.rows += rows
        self.bytes += size
        self.files += 1
        self.chains.add(at.record.chain)
        self.first_ts = min((ts for ts in (self.first_ts, first) if ts is not None), default=None)
        self.last_ts = max((ts for ts in (self.last_ts, last) if ts is not None), default=None)


def inventory(root: Root, layer: Layer, *, symbols: bool = True) -> list[Entry]:
    """One entry for each market and table of a layer.

    The lake's come from commit records alone, a small read for each batch. In Bronze a segment holds many markets:
    with `symbols` three narrow columns of every segment are read to tell them apart, without it there is an entry for
    each source and channel. Raises StorageError, SegmentError where a segment cannot be read.
    """
    tree = _tree(root, layer)
    found: dict[Name, Entry] = {}
    if layer == "bronze" and symbols:
        _by_symbol(tree, found)
    else:
        for one in committed_files(tree):
            file = one.file
            name = name_of(file, layer)
            if name is not None:
                entry = found.setdefault(name, Entry(name))
                entry.add(one, file.rows, file.bytes, file.first_ts, file.last_ts)
    losses = {chain: _losses(tree, chain) for chain in {each for entry in found.values() for each in entry.chains}}
    for entry in found.values():
        entry.gap_offsets = sum(losses[chain][0] for chain in entry.chains)
        entry.dropped_rows = sum(losses[chain][1] for chain in entry.chains)
    return [found[name] for name in sorted(found)]


def _tree(root: Root, layer: Layer) -> Tree:
    """Where readers find a layer."""
    return bronze.tree(root) if layer == "bronze" else reading(root)


def name_of(file: CommittedFile, layer: Layer) -> Name | None:
    """What the file's path tells; None where it is of no known table."""
    if layer == "bronze":
        return Name(layer, str(file.meta["source"]), str(file.meta["channel"]))
    source, _, rest = file.path.partition("/")
    for table, folder in FOLDERS.items():
        if rest.startswith(f"{folder}/exchange="):
            parts = parts_of(file)
            return Name(layer, unquote(source), table, unquote(parts["exchange"]), unquote(parts["symbol"]))
    return None


def dropped(tree: Tree, chain: ChainId) -> list[Dropped]:
    """What retention has dropped of a chain, oldest first."""
    folder = f"_retained/{chain.folder}"
    paths = [f"{folder}/{name}" for name in tree.storage.names(folder) if name.endswith(".json")]
    return [msgspec.json.decode(tree.storage.read(path), type=Dropped) for path in paths]


def columns(tree: Tree, files: Iterable[At]) -> list[dict[str, Any]]:
    """Each column over all files' footers: name, type, files, nulls, min, max; None where a footer does not say.

    Lines of JSON have no footer and count as files that do not say.
    """
    found: dict[str, dict[str, Any]] = {}
    with ThreadPoolExecutor(THREADS, "footers") as pool:
        for told in pool.map(lambda at: _footer(tree, at), files):
            for column in told:
                _merge(found, column)
    return list(found.values())


def _merge(found: dict[str, dict[str, Any]], column: dict[str, Any]) -> None:
    known = found.setdefault(column["name"], {**column, "files": 0})
    known["files"] += 1
    if known["files"] == 1:
        return
    if known["type"] != column["type"]:
        known["type"] = " | ".join(sorted({*known["type"].split(" | "), column["type"]}))
    known["nulls"] = None if None in (known["nulls"], column["nulls"]) else known["nulls"] + column["nulls"]
    for name, choose in (("min", min), ("max", max)):
        sides = [side for side in (known[name], column[name]) if side is not None]
        try:
            known[name] = choose(sides, default=None)
        except TypeError:  # the types differ
            known[name] = None


def _footer(tree: Tree, at: At) -> list[dict[str, Any]]:
    if not at.path.endswith(".parquet"):
        return []
    with _readable(tree, at), tree.storage.open(at.path) as opened, pq.ParquetFile(opened) as file:
        leaves: dict[str, list[int]] = defaultdict(list)
        for leaf in range(file.metadata.num_columns):
            leaves[file.metadata.schema.column(leaf).path.split(".")[0]].append(leaf)
        return [_told(file, column, leaves[column.name]) for column in file.schema_arrow]


def _told(file: pq.ParquetFile, column: pa.Field, leaves: list[int]) -> dict[str, Any]:
    told: dict[str, Any] = {"name": column.name, "type": str(column.type), "nulls": None, "min": None, "max": None}
    if len(leaves) != 1 or pa.types.is_nested(column.type):
        return told  # nulls of the elements, not of the rows
    groups = [file.metadata.row_group(n).column(leaves[0]).statistics for n in range(file.metadata.num_row_groups)]
    if groups and all(each is not None and each.has_null_count for each in groups):
        told["nulls"] = sum(each.null_count for each in groups)
    ranges = [each for each in groups if each is not None and each.has_min_max]
    if ranges:
        told["min"], told["max"] = min(each.min for each in ranges), max(each.max for each in ranges)
    return told


def _by_symbol(tree: Tree, found: dict[Name, Entry]) -> None:
    files = files_at(tree, committed_files(tree))
    with ThreadPoolExecutor(THREADS, "symbols") as pool:
        for at, markets in zip(files, pool.map(lambda at: list(_markets(tree, at)), files), strict=True):
            for exchange, symbol, rows, first, last in markets:
                name = Name("bronze", str(at.file.meta["source"]), str(at.file.meta["channel"]), exchange, symbol)
                size = round(at.file.bytes * rows / max(at.file.rows, 1))
                found.setdefault(name, Entry(name)).add(at, rows, size, first, last)


_MARKET = ("exchange", "symbol")


def _markets(tree: Tree, at: At) -> Iterator[tuple[str, str, int, int | None, int | None]]:
    """(exchange, symbol, rows, first capture, last capture) of every market in a segment."""
    with _readable(tree, at), tree.storage.open(at.path) as opened:
        if at.path.endswith(".ndjson"):
            tables = [table.select([*_MARKET, "capture_ts"]) for table in ndjson.tables(opened)]
        else:
            columns = [*_MARKET, "capture_ts"]
            tables = [pq.ParquetFile(opened).read(columns=columns, use_threads=False)]
    plain = [
        pa.table({**{n: t[n].cast(pa.string()) for n in _MARKET}, "at": t["capture_ts"].cast(pa.int64())})
        for t in tables
    ]
    grouped = pa.concat_tables(plain).group_by(list(_MARKET))
    for line in grouped.aggregate([("at", "count", pc.CountOptions("all")), ("at", "min"), ("at", "max")]).to_pylist():
        yield line["exchange"] or "", line["symbol"] or "", line["at_count"], line["at_min"], line["at_max"]


@contextmanager
def _readable(tree: Tree, at: At) -> Iterator[None]:
    """Errors of a file become one that names it."""
    try:
        yield
    except (OSError, ValueError, pa.ArrowException) as error:
        raise SegmentError(
            f"{tree.storage.name(at.path)} cannot be read: {error}",
            hint="`fluxforge validate` lists every file that is not sound",
        ) from error


def _losses(tree: Tree, chain: ChainId) -> tuple[int, int]:
    gaps = [record.gap for record in records(tree, chain) if record.gap is not None]
    return sum(gap.next - gap.first for gap in gaps), sum(note.rows for note in dropped(tree, chain))


def description(root: Root, layer: Layer, wanted: Callable[[Name], bool]) -> dict[str, Any]:
    """All there is to know of the files whose names are `wanted`. Raises StorageError where there are none.

    days: rows by UTC day; in Bronze, whose segments may reach over midnight, by the day of their first row.
    """
    tree = _tree(root, layer)
    found = []
    for one in committed_files(tree):
        name = name_of(one.file, layer)
        if name is not None and wanted(name):
            found.append(one)
    if not found:
        raise StorageError(f"{tree}: nothing of that name is committed", hint="`fluxforge ls` prints what there is")
    files = files_at(tree, found)
    days: Counter[str] = Counter()
    for at in files:
        day = parts_of(at.file).get("date") or (at.file.first_ts is not None and date_of(at.file.first_ts)) or "none"
        days[day] += at.file.rows
    chains_of = sorted({at.record.chain for at in files})
    return {
        "rows": sum(at.file.rows for at in files),
        "bytes": sum(at.file.bytes for at in files),
        "files": len(files),
        "first_ts": min((at.file.first_ts for at in files if at.file.first_ts is not None), default=None),
        "last_ts": max((at.file.last_ts for at in files if at.file.last_ts is not None), default=None),
        "schemas": sorted({at.record.schema for at in files}),
        "config_hashes": sorted({at.record.config_hash for at in files} - {""}),
        "days": dict(sorted(days.items())),
        "columns": columns(tree, files),
        "chains": [_chain(tree, chain) for chain in chains_of],
    }


def _chain(tree: Tree, chain: ChainId) -> Mapping[str, Any]:
    known = records(tree, chain)
    return {
        "chain": chain.folder,
        "start": known[0].start,
        "next_offset": known[-1].next_offset,
        "batches": sum(max(record.merged, 1) for record in known),
        "gaps": [[record.gap.first, record.gap.next] for record in known if record.gap is not None],
        "dropped": [[note.start, note.next_offset, note.rows] for note in dropped(tree, chain)],
        "left_out": [record.meta["left_out"] for record in known if "left_out" in record.meta],
    }
