"""How Bronze is compacted: rows stay in order of offset, books as they are stored."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from fluxforge.bronze import ndjson, scaled
from fluxforge.bronze.schema import ORDERBOOK, SCHEMAS, parquet_format
from fluxforge.clock import date_of
from fluxforge.files import CommittedFile, Format, Tree, locate
from fluxforge.files.runs import Layout


class _Bronze:
    sort: str | None = None
    time_column = "capture_ts"

    def day(self, file: CommittedFile) -> str | None:
        return None if file.last_ts is None else date_of(file.last_ts)

    def tables(self, tree: Tree, file: CommittedFile) -> Iterator[pa.Table]:
        with tree.storage.open(locate(tree, file)) as opened:
            if file.path.endswith(".ndjson"):
                yield from ndjson.tables(opened)
                return
            scaler = scaled.Scaler(SCHEMAS[ORDERBOOK])
            with pq.ParquetFile(opened, page_checksum_verification=True, pre_buffer=False) as segment:
                for group in range(segment.num_row_groups):
                    table = segment.read_row_group(group)
                    older = file.meta["channel"] == ORDERBOOK and not scaled.is_stored(table)
                    yield scaler.encode(table) if older else table

    def form(self, file: CommittedFile, schema: pa.Schema) -> Format:
        return ndjson.ndjson_format() if file.path.endswith(".ndjson") else parquet_format(file.meta["channel"])


LAYOUT: Final[Layout] = _Bronze()
