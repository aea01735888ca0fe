"""How Bronze is compacted: rows stay in order of offset, books as they are stored."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pyarrow as pa

from fluxforge.bronze import ndjson, scaled
from fluxforge.bronze.schema import ORDERBOOK, SCHEMA_VERSION, SCHEMAS, parquet_format
from fluxforge.clock import date_of
from fluxforge.files import CommittedFile, Format, Tree, groups, locate
from fluxforge.files.runs import Layout


class _Bronze:
    sort: str | None = None
    time_column = "capture_ts"
    schema: str | None = SCHEMA_VERSION

    def day(self, file: CommittedFile) -> str | None:
        return None if file.last_ts is None else date_of(file.last_ts)

    def tables(self, tree: Tree, file: CommittedFile) -> Iterator[pa.Table]:
        if file.path.endswith(".ndjson"):
            with tree.storage.open(locate(tree, file)) as opened:
                yield from ndjson.tables(opened)
            return
        scaler = scaled.Scaler(SCHEMAS[ORDERBOOK])
        for table in groups.tables(tree, file):
            older = file.meta["channel"] == ORDERBOOK and not scaled.is_stored(table)
            yield scaler.encode(table) if older else table

    def form(self, file: CommittedFile, schema: pa.Schema) -> Format:
        return ndjson.ndjson_format() if file.path.endswith(".ndjson") else parquet_format(file.meta["channel"])


LAYOUT: Final[Layout] = _Bronze()
