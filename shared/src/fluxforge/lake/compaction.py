"""How the lake is compacted: each folder's rows sorted by time, in the columns they have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pyarrow as pa

from fluxforge.files import CommittedFile, Format, Tree, groups
from fluxforge.files.runs import Layout
from fluxforge.lake.layout import parts_of
from fluxforge.lake.writer import file_format


class _Lake:
    sort: str | None = "timestamp"
    time_column = "timestamp"
    schema: str | None = None

    def day(self, file: CommittedFile) -> str | None:
        return parts_of(file)["date"]

    def tables(self, tree: Tree, file: CommittedFile) -> Iterator[pa.Table]:
        return groups.tables(tree, file)

    def form(self, file: CommittedFile, schema: pa.Schema) -> Format:
        return file_format(schema)


LAYOUT: Final[Layout] = _Lake()
