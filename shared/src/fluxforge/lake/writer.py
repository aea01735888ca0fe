"""One chain's rows into the lake: gathered, then written and committed together, a file for each folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fluxforge.files import Chain, ChainId, Commit, Tree, parquet
from fluxforge.lake.layout import DAY_NS, HIVE, SCHEMA_VERSION, Road, date_of, folder_of

Row = Mapping[str, Any]


class Table(Protocol):
    """What the lake needs of a table (`fluxforge.rows`).

    name    `hf`, `bars`, `trades`, `ticker`
    folder  below the source: `orderbook/hf`
    schema  columns of the rows
    """

    @property
    def name(self) -> str: ...

    @property
    def folder(self) -> str: ...

    @property
    def schema(self) -> pa.Schema: ...


class LakeWriter:
    """Writes one table's rows of one chain.

    Rows wait as Arrow, never as open files, so that thousands of keys cost no more memory than their rows. Nothing is
    durable before `commit` returns. Errors: those of `fluxforge.files.Chain`; after one, close and open again.
    """

    def __init__(self, chain: Chain, table: Table, config_hash: str, road: Road) -> None:
        self.table = table
        self._chain, self._config_hash, self._road = chain, config_hash, road
        self._keys = pa.schema(
            [("source", pa.string()), ("exchange", pa.string()), ("symbol", pa.string()), ("timestamp", pa.int64())]
            + ([("duration", pa.int64())] if "duration" in table.schema.names else [])
        )
        self._columns = [name for name in table.schema.names if name not in HIVE and name != "source"]
        self._schema = pa.schema([table.schema.field(name) for name in self._columns])
        self._wide = pa.schema(
            [*self._keys, *(f for f in self._schema if f.name != "timestamp")]
        )
        self._format = parquet(
            self._schema,
            dictionary=[f.name for f in self._schema if pa.types.is_string(f.type)],
            metadata={
                "fluxforge.table": table.name,
                "fluxforge.schema_version": SCHEMA_VERSION,
                "fluxforge.config_hash": config_hash,
            },
        )
        self._waiting: list[pa.Table] = []

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
        return sum(table.nbytes for table in self._waiting)

    def add(self, rows: Sequence[Row]) -> None:
        """Rows in log order, with the table's columns, exchange, symbol and source; None and NaN become null.

        Raises pyarrow.ArrowException or KeyError where a row does not fit the table: none of them is then added.
        """
        if rows:
            columns = [
                pa.array([row[field.name] for row in rows], field.type, from_pandas=pa.types.is_floating(field.type))
                for field in self._wide
            ]
            self._waiting.append(pa.Table.from_arrays(columns, schema=self._wide))

    def add_table(self, table: pa.Table) -> None:
        """The same as Arrow columns."""
        if table.num_rows:
            self._waiting.append(table.select(self._wide.names).cast(self._wide))

    def commit(self, next_offset: int, meta: Mapping[str, Any] | None = None) -> Commit | None:
        """Make everything added visible, as the batch up to `next_offset`; None where there is nothing to do."""
        if self._waiting:
            rows = pa.concat_tables(self._waiting).combine_chunks()
            self._waiting.clear()
            for folder, part in self._by_folder(rows):
                self._chain.segment(folder, self._format, time_column="timestamp", meta=self._note(part)).write(
                    part.select(self._columns)
                )
        return self._chain.commit(
            next_offset,
            schema=SCHEMA_VERSION,
            config_hash=self._config_hash,
            meta={"road": self._road, "table": self.table.name, **(meta or {})},
        )

    def close(self) -> None:
        """Drop what waits and let go of the chain."""
        self._waiting.clear()
        self._chain.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _by_folder(self, rows: pa.Table) -> Iterable[tuple[str, pa.Table]]:
        """The rows of each folder, each in the order they came."""
        day = pc.divide(rows["timestamp"], DAY_NS)
        names = [name for name in self._keys.names if name != "timestamp"]
        codes = [_codes(column) for column in (*(rows[name] for name in names), day)]
        order = np.lexsort(codes[::-1])
        changes = np.zeros(len(order), dtype=bool)
        for code in codes:
            ordered = code[order]
            changes[1:] |= ordered[1:] != ordered[:-1]
        edges = [0, *np.flatnonzero(changes).tolist(), len(order)]
        ordered_rows = rows.take(pa.array(order))
        for at, end in zip(edges, edges[1:], strict=False):
            part = ordered_rows.slice(at, end - at)
            source, exchange, symbol, *duration = (part[name][0].as_py() for name in names)
            yield folder_of(source, self.table.folder, exchange, symbol, date_of(part["timestamp"][0].as_py()), *duration), part

    def _note(self, part: pa.Table) -> dict[str, Any]:
        return {name: part[name][0].as_py() for name in ("source", "exchange", "symbol")}


def _codes(column: pa.ChunkedArray) -> np.ndarray[Any, np.dtype[Any]]:
    """One integer per value."""
    if pa.types.is_integer(column.type):
        return column.to_numpy()  # type: ignore[no-any-return]
    return column.combine_chunks().dictionary_encode().indices.to_numpy()  # type: ignore[no-any-return]
