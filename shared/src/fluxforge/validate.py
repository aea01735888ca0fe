"""Whether what is stored is what its records say: records, tiling, files, rows, partitions."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fluxforge.bronze import ndjson
from fluxforge.bronze.scan import is_stored, stored_schema
from fluxforge.clock import date_of
from fluxforge.errors import StorageError
from fluxforge.files import ChainId, Commit, CommittedFile, Tree, chains, history, locate
from fluxforge.files.commit import folder_name
from fluxforge.inventory import Layer, dropped
from fluxforge.lake.layout import VERSION, hive_symbol, parts_of
from fluxforge.storage import Root
from fluxforge.sync import tree_of

Kind = Literal["record", "tiling", "missing", "bytes", "sha256", "unreadable", "rows", "schema", "partition", "stray"]
THREADS = 4
_BLOCK = 1 << 20
_NS = pa.timestamp("ns", "UTC")


@dataclass(frozen=True)
class Problem:
    """Something that is not as it must be; `path` as people write it."""

    kind: Kind
    path: str
    told: str


@dataclass
class Report:
    """What was looked at, and what was found."""

    chains: int = 0
    records: int = 0
    files: int = 0
    rows: int = 0
    bytes: int = 0
    problems: list[Problem] = field(default_factory=list)


Progress = Callable[[int, int], None]
"""(files done, files in all)."""


def validate(
    root: Root, layer: Layer, *, quick: bool = False, progress: Progress = lambda *_: None, threads: int = THREADS
) -> Report:
    """Hold a layer against its records; changes nothing, and may run beside writers and compactions.

    quick  records, tiling, and that every file is there in its size; nothing of the files is read
    """
    tree = tree_of(layer, root)
    report = Report()
    there = list(stored_files(tree))  # before the records: what is committed later is not missed in them
    work: list[tuple[Commit, CommittedFile]] = []
    for chain in chains(tree):
        report.chains += 1
        for record in _records(tree, chain, report):
            report.records += 1
            work += ((record, file) for file in record.files)
    told = "no record names it: strict readers pass it over, engines that read the folder take its rows"
    report.problems += (Problem("stray", tree.storage.name(path), told) for path in unnamed(tree, there))

    def one(item: tuple[Commit, CommittedFile]) -> list[Problem]:
        return list(_file(tree, layer, *item, quick=quick))

    with ThreadPoolExecutor(threads, "validate") as pool:
        for done, ((_, file), found) in enumerate(zip(work, pool.map(one, work), strict=True), 1):
            report.files += 1
            report.rows += file.rows
            report.bytes += file.bytes
            report.problems += found
            progress(done, len(work))
    return report


def stored_files(tree: Tree) -> Iterator[str]:
    """Every file under the tree's ready folder, but those of records, locks, notes and versions."""
    folders = [tree.ready]
    if not tree.ready:
        folders = [name for name in tree.storage.names("") if name[:1] not in "_." and not name.startswith(VERSION)]
    for folder in folders:
        yield from tree.storage.walk(folder)


def unnamed(tree: Tree, there: list[str]) -> list[str]:
    """Files that no record names, nor anything that retention or a compaction is about to remove."""
    found = set(there) - _named(tree)
    if found:
        found -= _named(tree)  # a compaction that ended in between has taken records with it
    return [path for path in sorted(found) if tree.storage.size(path) is not None]


def _named(tree: Tree) -> set[str]:
    named: set[str] = set()
    for chain in chains(tree):
        for note in dropped(tree, chain):
            named.update(note.files)
        for place in history.listed(tree, chain):
            try:
                named.update(file.path for file in history.load(tree, chain, place).files)
            except (FileNotFoundError, StorageError):
                continue  # merged since, or told of as a damaged record
    return named


def _records(tree: Tree, chain: ChainId, report: Report) -> Iterator[Commit]:
    """The records that can be read; damaged ones and holes between them become problems."""
    expected: int | None = None
    for place in history.standing(tree, chain):
        path = tree.storage.name(chain.record(*place))
        try:
            record = history.load(tree, chain, place)
        except FileNotFoundError:
            continue  # merged since; what replaced it is read by the next run
        except StorageError as error:
            report.problems.append(Problem("record", path, str(error)))
            expected = None
            continue
        if expected is not None and record.start != expected:
            what = "is in no record" if record.start > expected else "is in two records"
            low, high = sorted((expected, record.start))
            report.problems.append(Problem("tiling", path, f"[{low}, {high}) {what}"))
        expected = record.next_offset
        yield record


def _file(tree: Tree, layer: Layer, record: Commit, file: CommittedFile, *, quick: bool) -> Iterator[Problem]:
    try:
        found = list(_checked(tree, layer, record, file, quick))
    except StorageError as error:
        found = [Problem("missing", tree.storage.name(file.path), str(error))]
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        found = [Problem("unreadable", tree.storage.name(file.path), str(error))]
    if found and history.stands(tree, record):
        yield from found


def _checked(tree: Tree, layer: Layer, record: Commit, file: CommittedFile, quick: bool) -> Iterator[Problem]:
    path = locate(tree, file)
    name = tree.storage.name(path)
    size = tree.storage.size(path)
    if size != file.bytes:
        yield Problem("bytes", name, f"{size} bytes, where {file.bytes} were committed")
        return
    if quick:
        return
    with tree.storage.open(path) as opened:
        hashed = hashlib.sha256()
        while block := opened.read(_BLOCK):
            hashed.update(block)
        if hashed.hexdigest() != file.sha256:
            yield Problem("sha256", name, "its content is not what was committed")
            return
        opened.seek(0)
        if path.endswith(".ndjson"):
            tables = list(ndjson.tables(opened))
            yield from _bronze_rows(name, record, file, tables)
            return
        with pq.ParquetFile(opened, page_checksum_verification=True) as found:
            if found.metadata.num_rows != file.rows:
                yield Problem("rows", name, f"{found.metadata.num_rows} rows, where {file.rows} were committed")
            if layer == "lake":
                yield from _lake_rows(name, file, found)
            else:
                yield from _bronze_columns(name, record, file, found.schema_arrow)
                some = ["offset", "capture_ts", "partition", "topic", "source"]
                yield from _bronze_rows(name, record, file, [found.read(columns=some, use_threads=False)])


def _lake_rows(name: str, file: CommittedFile, found: pq.ParquetFile) -> Iterator[Problem]:
    """The folder says of the rows what is true of them."""
    parts = parts_of(file)
    inside = {"exchange", "symbol", "date", "duration"} & set(found.schema_arrow.names)
    if inside:
        yield Problem("schema", name, f"columns {', '.join(sorted(inside))} stand in the file and in its path")
    for column in ("exchange", "symbol"):
        meant = file.meta.get(column)
        if meant is None:
            continue
        meant = hive_symbol(meant) if column == "symbol" else meant
        if unquote(parts.get(column, "")) != meant:
            yield Problem("partition", name, f"its {column} is {meant}")
    times = found.read(columns=["timestamp"], use_threads=False)["timestamp"]
    yield from _times(name, file, times)
    first, last = _edges(times)
    if first is not None and last is not None and {date_of(first), date_of(last)} != {parts.get("date")}:
        yield Problem("partition", name, f"rows of {date_of(first)} to {date_of(last)}")


def _times(name: str, file: CommittedFile, times: pa.ChunkedArray) -> Iterator[Problem]:
    """Readers choose files by the times in the record."""
    first, last = _edges(times)
    if (first, last) != (file.first_ts, file.last_ts):
        yield Problem("rows", name, f"times [{first}, {last}], where [{file.first_ts}, {file.last_ts}] were committed")


def _edges(times: pa.ChunkedArray) -> tuple[int | None, int | None]:
    """Least and greatest, ns."""
    edges = pc.min_max(times.cast(pa.int64()))
    return edges["min"].as_py(), edges["max"].as_py()


def _bronze_columns(name: str, record: Commit, file: CommittedFile, schema: pa.Schema) -> Iterator[Problem]:
    if not is_stored(file, record.schema):
        return
    wanted = stored_schema(file.meta["channel"])
    plain = [(f.name, f.type.value_type if pa.types.is_dictionary(f.type) else f.type) for f in schema]
    if plain != [(f.name, f.type) for f in wanted]:
        odd = {column for column, _ in plain} ^ set(wanted.names)
        yield Problem("schema", name, f"not the columns of {record.schema}: {', '.join(sorted(odd)) or 'types differ'}")


def _bronze_rows(name: str, record: Commit, file: CommittedFile, tables: list[pa.Table]) -> Iterator[Problem]:
    """Offsets lie in the batch and rise; times, topic and source are those of the record and the folder."""
    rows = sum(table.num_rows for table in tables)
    if rows != file.rows:
        yield Problem("rows", name, f"{rows} rows, where {file.rows} were committed")
    last = record.start
    for table in tables:
        offsets = table["offset"].combine_chunks()
        if len(offsets) and (offsets[0].as_py() < last or not _rise(offsets)):
            yield Problem("rows", name, "offsets do not rise")
        last = pc.max(offsets).as_py() if len(offsets) else last
        words = (("topic", record.topic), ("partition", record.partition))
        for column, meant in words:
            if pc.unique(table[column].cast(pa.string())).to_pylist() != [str(meant)]:
                yield Problem("partition", name, f"rows of another {column} than {meant}")
        sources = {folder_name(word) for word in pc.unique(table["source"].cast(pa.string())).to_pylist() if word}
        if sources - {file.meta["source"]}:
            yield Problem("partition", name, f"rows of {', '.join(sorted(sources))}")
    yield from _times(name, file, pa.chunked_array([part for t in tables for part in t["capture_ts"].chunks], _NS))
    if last >= record.next_offset:
        yield Problem("rows", name, f"offset {last} is beyond its batch [{record.start}, {record.next_offset})")


def _rise(offsets: pa.Array) -> bool:
    least = pc.min(pc.pairwise_diff(offsets)).as_py()
    return least is None or least >= 0
