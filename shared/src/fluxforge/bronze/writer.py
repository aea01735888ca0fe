"""Records into the segments of one chain: all channels roll together."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Literal

from fluxforge import codec
from fluxforge.bronze.columns import ordinals, to_columns
from fluxforge.bronze.ndjson import ndjson_format
from fluxforge.bronze.schema import CHANNELS, SCHEMA_VERSION, parquet_format
from fluxforge.clock import MS
from fluxforge.events import AnyEvent
from fluxforge.files import GROUP_BYTES, Chain, Commit
from fluxforge.log import Record, RecordColumns

GATHER_BYTES = 8 * 1024 * 1024
"""Arrow bytes that all channels of a partition gather together."""
AT_ONCE = 4_000
"""Records that wait to become rows, or as many as fill a row group where these are small."""
ROW_BYTES = 250
RawFormat = Literal["parquet", "ndjson"]


class BronzeWriter:
    """Writes what it is given, in order; nothing is stored before `commit` returns."""

    def __init__(self, chain: Chain, raw_format: RawFormat = "parquet", group_bytes: int = GROUP_BYTES) -> None:
        """`group_bytes`: Arrow bytes a file gathers in memory before it writes them as a row group."""
        self.chain = chain
        self._formats = {name: ndjson_format() if raw_format == "ndjson" else parquet_format(name) for name in CHANNELS}
        self._group_bytes = group_bytes
        self._held: list[RecordColumns] = []
        self._waiting = 0
        self._at_once = min(AT_ONCE, 1 + group_bytes // ROW_BYTES)
        self._undecodable = 0

    @property
    def rows(self) -> int:
        """Rows of the open batch."""
        return self.chain.rows + self._waiting

    @property
    def bytes(self) -> int:
        """Size of the largest open file."""
        return self.chain.open_bytes

    def append(self, records: Sequence[Record]) -> None:
        """Add records of the partition, offsets rising; rows of one imported line share an offset, in one call.

        Raises DiskFull or StorageError: close the chain, open it again and read on from its `next_offset`.
        """
        if not records:
            return  # a run of holes
        self._held.append(RecordColumns.of(records))
        self._waiting += len(records)
        if self._waiting >= self._at_once:
            self._to_segments()

    def commit(self, next_offset: int) -> Commit | None:
        """Make everything up to `next_offset` visible; None where there is nothing new.

        The record's meta says how many of its rows are `undecodable`, if any are.
        """
        self._to_segments()
        meta = {"undecodable": self._undecodable} if self._undecodable else {}
        commit = self.chain.commit(next_offset, schema=SCHEMA_VERSION, meta=meta)
        self._undecodable = 0
        return commit

    def _to_segments(self) -> None:
        """Records as rows; thousands at once cost a fraction of hundreds."""
        held, self._held, self._waiting = self._held, [], 0
        if not held:
            return
        records = RecordColumns(*(list(chain.from_iterable(column)) for column in zip(*held, strict=True)))
        columns = to_columns(self.chain.id.topic, records, ordinals(records.offsets))
        for (source, channel), table in columns.tables.items():
            segment = self.chain.segment(
                f"{source}/{channel}",
                self._formats[channel],
                time_column="capture_ts",
                meta={"source": source, "channel": channel},
                group_bytes=self._group_bytes,
            )
            segment.write(table)
        self._undecodable += columns.undecodable
        self.chain.relieve(GATHER_BYTES)


def record_of(event: AnyEvent, offset: int, partition: int = 0) -> Record:
    """The record a collector would have written, for events that never were in a log."""
    return Record(
        partition, offset, event.capture_ts // MS, event.key.encode(), codec.encode(event), codec.headers(event)
    )
