"""One chain's rows into the lake: gathered, then written and committed together, a file for each folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fluxforge.files import Chain, ChainId, Commit, Format, Tree, parquet
from fluxforge.lake.layout import DAY_NS, Road, folder_of
from fluxforge.rows import SCHEMA_VERSION, Market, Markets, Table

_WORDS = pa.dictionary(pa.int32(), pa.string())
_MARKET = (("source", _WORDS), ("exchange", _WORDS), ("symbol", _WORDS))
_IN_PATH = ("duration",)
"""Columns of a table that its files leave to the path."""


class LakeWriter:
    """Writes one table's rows of one chain.

    Rows wait as Arrow, never as open files, so that thousands of keys cost no more memory than their rows. Nothing is
    durable before `commit` returns. Errors: those of `fluxforge.files.Chain`; after one, close and open again.
    """

    def __init__(self, chain: Chain, table: Table, config_hash: str = "", road: Road = "live") -> None:
        self.table = table
        self._chain, self._config_hash, self._road = chain, config_hash, road
        self._path = [name for name, _ in _MARKET] + [name for name in _IN_PATH if name in table.schema.names]
        self._wide = pa.schema([*_MARKET, *table.schema])
        self._schema = pa.schema([field for field in table.schema if field.name not in _IN_PATH])
        metadata = {
            "fluxforge.table": table.name,
            "fluxforge.schema_version": str(SCHEMA_VERSION),
            "fluxforge.config_hash": config_hash,
        }
        self._format = file_format(self._schema.with_metadata(metadata))
        self._waiting: list[pa.Table] = []
        self._bytes = 0

    @classmethod
    def open(
        cls,
        tree: Tree,
        table: Table,
        chain: ChainId,
        *,
        first: int,
        end: int | None = None,
        config_hash: str = "",
        road: Road = "live",
        **options: Any,
    ) -> Self:
        """Take the chain's lock and find where it stands; `options` go to `Chain.open`."""
        return cls(Chain.open(tree, chain, first=first, end=end, **options), table, config_hash, road)

    @property
    def next_offset(self) -> int:
        """First offset not yet committed."""
        return self._chain.next_offset

    @property
    def rows(self) -> int:
        """Rows that wait for the commit."""
        return sum(table.num_rows for table in self._waiting)

    @property
    def bytes(self) -> int:
        """Arrow bytes that wait for the commit."""
        return self._bytes  # asked at every step of the loop, when thousands of small tables may wait

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Rows in log order, with the table's columns, exchange, symbol and source; None and NaN become null.

        Raises KeyError or pyarrow.ArrowException where a row does not fit the table: none of them is then added.
        """
        if rows:
            columns = [
                pa.array([row[field.name] for row in rows], field.type, from_pandas=True) for field in self._wide
            ]
            self._wait(columns)

    def add_table(self, rows: pa.Table, markets: Markets) -> None:
        """The same as Arrow: the table's columns, and each row's market."""
        if rows.num_rows:
            names: list[Any] = [markets.names(name) for name, _ in _MARKET]
            self._wait([*names, *rows.columns])

    def waiting(self) -> pa.Table:
        """What waits for the commit: source, exchange, symbol, then the table's columns."""
        return pa.concat_tables(self._waiting) if self._waiting else self._wide.empty_table()

    def commit(self, next_offset: int, meta: Mapping[str, Any] | None = None) -> Commit | None:
        """Make everything added visible, as the batch up to `next_offset`; None where there is nothing to do."""
        for folder, part in self._by_folder():
            note = {name: part[name][0].as_py() for name, _ in _MARKET}
            segment = self._chain.segment(folder, self._format, time_column="timestamp", meta=note)
            segment.write(part.select(self._schema.names))
        self._drop()
        return self._chain.commit(
            next_offset,
            schema=str(SCHEMA_VERSION),
            config_hash=self._config_hash,
            meta={"road": self._road, "table": self.table.name, **(meta or {})},
        )

    def close(self) -> None:
        """Drop what waits and let go of the chain."""
        self._drop()
        self._chain.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _wait(self, columns: Sequence[Any]) -> None:
        table = pa.Table.from_arrays(columns, schema=self._wide)
        self._waiting.append(table)
        self._bytes += table.nbytes

    def _drop(self) -> None:
        self._waiting.clear()
        self._bytes = 0

    def _by_folder(self) -> Iterator[tuple[str, pa.Table]]:
        """The rows of each folder, each in the order they came."""
        if not self._waiting:
            return
        rows = self.waiting().combine_chunks()
        codes = [_codes(rows[name]) for name in self._path]
        codes.append(rows["timestamp"].to_numpy() // DAY_NS)
        order = np.lexsort(codes[::-1])
        rows = rows.take(pa.array(order))
        starts = np.zeros(len(order), dtype=bool)
        for code in codes:
            starts[1:] |= np.diff(code[order]) != 0
        for at, end in pairwise([0, *np.flatnonzero(starts).tolist(), len(order)]):
            part = rows.slice(at, end - at)
            source, exchange, symbol, *duration = (part[name][0].as_py() for name in self._path)
            market = Market(exchange, symbol, source)
            yield folder_of(self.table, market, part["timestamp"][0].as_py(), *duration), part


def file_format(schema: pa.Schema) -> Format:
    """How the lake's files are written: words by dictionary, all else plain; the schema's metadata in the footer."""
    words = [field.name for field in schema if pa.types.is_string(field.type) and field.name != "id"]
    return parquet(schema, dictionary=words)


def _codes(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """One integer for each distinct value."""
    if pa.types.is_dictionary(column.type):
        column = column.combine_chunks().indices
    numbers: NDArray[np.int64] = np.asarray(column).astype(np.int64)
    return numbers
