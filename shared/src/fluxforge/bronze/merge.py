"""Several files of one batch, each in offset order, as runs of offsets that are complete over all of them.

Memory is bounded by one row group of each file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa


class _Stream:
    """One file: the rows read and not yet passed on."""

    def __init__(self, tables: Iterator[pa.Table]) -> None:
        self._tables = tables
        self._held: pa.Table | None = None
        self.done = False

    def load(self) -> None:
        """Read one more row group."""
        table = next((table for table in self._tables if table.num_rows), None)
        if table is None:
            self.done = True
        else:
            self._held = table if self._held is None else pa.concat_tables([self._held, table])

    @property
    def empty(self) -> bool:
        return self._held is None

    @property
    def last(self) -> int:
        """Offset of the last row read."""
        assert self._held is not None
        return int(self._held.column("offset")[-1].as_py())

    def take_below(self, bound: int | None) -> pa.Table | None:
        """Pass on the rows below an offset; None where there are none."""
        held = self._held
        if held is None or bound is None:
            self._held = None
            return held
        cut = int(np.searchsorted(held.column("offset").to_numpy(), bound))
        self._held = held.slice(cut) if cut < held.num_rows else None
        return held.slice(0, cut) if cut else None


def merged(files: Iterable[Iterator[pa.Table]]) -> Iterator[list[pa.Table]]:
    """Lists of tables; each list holds every row of its run of offsets, and the runs follow each other."""
    streams = [_Stream(tables) for tables in files]
    while True:
        for stream in streams:
            while stream.empty and not stream.done:
                stream.load()
        streams = [stream for stream in streams if not (stream.empty and stream.done)]
        if not streams:
            return
        reading = [stream for stream in streams if not stream.done]
        bound = min((stream.last for stream in reading), default=None)
        parts = [part for stream in streams if (part := stream.take_below(bound)) is not None]
        if parts:
            yield parts
        else:
            for stream in reading:
                if stream.last == bound:
                    stream.load()
