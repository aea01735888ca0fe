"""One file being written: rows are gathered, written as row groups, hashed on the way to the disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fluxforge.files.commit import CommittedFile
from fluxforge.files.storage import Draft, Storage

GROUP_BYTES = 8 * 1024 * 1024
"""Arrow bytes gathered before they become a row group: bounds the memory of an open segment."""


class TableWriter(Protocol):
    """Turns tables into the bytes of one file."""

    def write(self, table: pa.Table) -> None: ...

    def close(self) -> None:
        """Write what ends the file; the file itself stays open."""


@dataclass(frozen=True)
class Format:
    """A file format: the name's ending, and a writer over an open file."""

    suffix: str
    open: Callable[[Any], TableWriter]


def parquet(
    schema: pa.Schema,
    *,
    dictionary: Sequence[str] = (),
    delta: Sequence[str] = (),
    split: Sequence[str] = (),
    level: int = 3,
    metadata: Mapping[str, str] | None = None,
) -> Format:
    """ZSTD Parquet; `metadata` goes into the footer.

    `dictionary` columns are dictionary encoded, `delta` ones (integers that rise) delta encoded, `split` ones byte by
    byte (the first bytes of all values, then the second ones…), all others plain.
    """
    encodings = dict.fromkeys(delta, "DELTA_BINARY_PACKED") | dict.fromkeys(split, "BYTE_STREAM_SPLIT")
    full = schema.with_metadata({**(schema.metadata or {}), **(metadata or {})})

    def open_writer(file: Any) -> TableWriter:
        writer: TableWriter = pq.ParquetWriter(
            file,
            full,
            compression="zstd",
            compression_level=level,
            use_dictionary=list(dictionary) or False,
            column_encoding=encodings or None,
            write_page_checksum=True,
            store_schema=True,
        )
        return writer

    return Format("parquet", open_writer)


class _HashingFile:
    """A draft as a file that hashes and counts what passes through; pyarrow writes to it."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self.sha256 = hashlib.sha256()
        self.bytes = 0
        self.closed = False
        self.mode = "wb"

    def write(self, data: Any) -> int:
        view = memoryview(data)
        self._draft.write(view)
        self.sha256.update(view)
        self.bytes += view.nbytes
        return view.nbytes

    def tell(self) -> int:
        return self.bytes

    def flush(self) -> None:
        """pyarrow flushes before it closes; the disk is synced by the segment."""

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    def close(self) -> None:
        """pyarrow closes its sink; the segment still has to sync it."""


class Segment:
    """A file of one batch, opened at its first row group.

    Returning from `write` is not durable: only the chain's commit is.
    """

    def __init__(
        self,
        storage: Storage,
        active: str,
        path: str,
        form: Format,
        *,
        time_column: str | None = None,
        meta: Mapping[str, Any] | None = None,
        group_bytes: int = GROUP_BYTES,
        staged: bool = False,
    ) -> None:
        self.active, self.path = active, path
        self.rows = 0
        self._staged = staged
        self._storage, self._form = storage, form
        self._time_column, self._meta, self._group_bytes = time_column, dict(meta or {}), group_bytes
        self._waiting: list[pa.Table] = []
        self._waiting_bytes = 0
        self._draft: Draft | None = None
        self._sink: _HashingFile | None = None
        self._writer: TableWriter | None = None
        self._first_ts: int | None = None
        self._last_ts: int | None = None

    @property
    def bytes(self) -> int:
        """Bytes written so far; gathered rows do not count."""
        return self._sink.bytes if self._sink else 0

    @property
    def gathered(self) -> int:
        """Arrow bytes of rows not yet written."""
        return self._waiting_bytes

    def write(self, table: pa.Table) -> None:
        """Add rows. Raises DiskFull or StorageError: the batch is then lost, and must be read again."""
        if table.num_rows == 0:
            return
        self.rows += table.num_rows
        self._waiting.append(table)
        self._waiting_bytes += table.nbytes
        self._note_times(table)
        if self._waiting_bytes >= self._group_bytes:
            self.write_group()

    def finish(self) -> None:
        """Write what is gathered and the end of the file; not yet safe."""
        self.write_group()
        self._opened()[0].close()
        self._writer = None

    def seal(self) -> CommittedFile:
        """Make the finished file safe, as it will be committed."""
        assert self._draft is not None and self._sink is not None, "finish comes first"
        upload = self._draft.seal()
        sink = self._sink
        return CommittedFile(
            path=self.path,
            active=self.active,
            rows=self.rows,
            bytes=sink.bytes,
            sha256=sink.sha256.hexdigest(),
            first_ts=self._first_ts,
            last_ts=self._last_ts,
            meta=self._meta,
            upload=upload,
        )

    def discard(self) -> None:
        """Close and remove the file."""
        self._waiting.clear()
        if self._draft is not None:
            if self._writer is not None:
                with suppress(Exception):  # a failed device fails again here, and the draft is removed next
                    self._writer.close()
                self._writer = None
            self._draft.discard()
            self._draft = None

    def _opened(self) -> tuple[TableWriter, _HashingFile]:
        if self._writer is None or self._sink is None:
            self._draft = self._storage.draft(self.active, self.path, staged=self._staged)
            self._sink = _HashingFile(self._draft)
            self._writer = self._form.open(self._sink)
        return self._writer, self._sink

    def write_group(self) -> None:
        """Write what is gathered as a row group."""
        if self._waiting:
            group = pa.concat_tables(self._waiting).combine_chunks().unify_dictionaries()
            self._opened()[0].write(group)
            self._waiting.clear()
            self._waiting_bytes = 0

    def _note_times(self, table: pa.Table) -> None:
        if self._time_column is None:
            return
        edges = pc.min_max(table.column(self._time_column).cast(pa.int64()))
        first, last = edges["min"].as_py(), edges["max"].as_py()
        if first is not None:
            self._first_ts = first if self._first_ts is None else min(first, self._first_ts)
            self._last_ts = last if self._last_ts is None else max(last, self._last_ts)
