"""Bronze as lines of JSON: the same rows, for eyes and for grep.

A line has the record's place and the event's fields; books are `[[price, size], …]`. What JSON cannot hold exactly
(NaN, infinities, bytes that are no text, records that are no events) also has the record's bytes in `value`, base64;
`key` and `headers` appear where they are not the event's own.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterator
from io import BufferedReader, RawIOBase
from itertools import islice
from typing import Any, BinaryIO, cast

import msgspec
import numpy as np
import pyarrow as pa

from fluxforge import codec
from fluxforge.bronze.columns import to_columns
from fluxforge.bronze.records import Row, rows
from fluxforge.bronze.schema import KIND_NAMES, UNDECODABLE
from fluxforge.events import EVENT_OF, KIND_OF, AnyEvent
from fluxforge.files import Format, TableWriter
from fluxforge.log import Record, RecordColumns

_CHUNK_LINES = 5000
_BUFFER = 1 << 20
_KIND_OF_NAME = {name: kind for kind, name in KIND_NAMES.items()}
_TEXTS = ("raw", "data")
_PLACE = ("topic", "partition", "offset", "ordinal", "timestamp", "kind", "key", "headers", "value")


def ndjson_format() -> Format:
    """One line for each row."""
    return Format("ndjson", _Writer)


class _Writer:
    """A TableWriter of lines."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def write(self, table: pa.Table) -> None:
        topics = table.column("topic").to_pylist()
        self._file.write(b"".join(map(_line, topics, rows(table))))

    def close(self) -> None:
        """A line needs no end of file."""


_writer: type[TableWriter] = _Writer


def tables(file: BinaryIO) -> Iterator[pa.Table]:
    """The tables of a file, a few thousand rows each. Raises ValueError naming the line that does not parse."""
    lines = BufferedReader(cast("RawIOBase", file), _BUFFER)  # what reads a bucket knows no lines
    try:
        numbered = enumerate(lines, 1)
        while chunk := list(islice(numbered, _CHUNK_LINES)):
            parsed = [_parsed(line, number) for number, line in chunk]
            topic = str(parsed[0][0])
            records = RecordColumns.of([record for _, _, record in parsed])
            columns = to_columns(topic, records, [ordinal for _, ordinal, _ in parsed])
            yield from columns.tables.values()
    finally:
        lines.detach()


def _line(topic: str, row: Row) -> bytes:
    """A row as a line; the record's bytes are added where the line alone would not give them back."""
    record, event = row.record, row.event
    line: dict[str, Any] = {
        "topic": topic,
        "partition": record.partition,
        "offset": row.offset,
        "ordinal": row.ordinal,
        "timestamp": record.timestamp,
        "kind": UNDECODABLE if event is None else KIND_NAMES[KIND_OF[type(event)]],
    }
    if event is not None:
        line |= _fields(event)
    text = msgspec.json.encode(line)
    if event is None or _record(msgspec.json.decode(text)) != record:
        line["key"] = None if record.key is None else b64encode(record.key).decode()
        line["headers"] = [[name, b64encode(value).decode()] for name, value in record.headers]
        line["value"] = b64encode(record.value).decode()
        text = msgspec.json.encode(line)
    return text + b"\n"


def _parsed(text: bytes, number: int) -> tuple[str, int, Record]:
    try:
        line = msgspec.json.decode(text)
        return line["topic"], line["ordinal"], _record(line)
    except (msgspec.MsgspecError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"line {number}: {error}") from error


def _record(line: dict[str, Any]) -> Record:
    """The log's record in a line."""
    if "value" in line:
        key, value = line["key"], b64decode(line["value"])
        headers = tuple((name, b64decode(data)) for name, data in line["headers"])
        return Record(line["partition"], line["offset"], line["timestamp"], key and b64decode(key), value, headers)
    event = _event(line)
    value, headers = codec.encode(event), codec.headers(event)
    return Record(line["partition"], line["offset"], line["timestamp"], event.key.encode(), value, headers)


def _fields(event: AnyEvent) -> dict[str, Any]:
    fields = {name: getattr(event, name) for name in event.__struct_fields__}
    for side in ("bids", "asks"):
        if side in fields:
            fields[side] = np.frombuffer(fields[side], "<f8").reshape(-1, 2).tolist()
    for name in _TEXTS:
        if fields.get(name) is not None:
            fields[name] = fields[name].decode(errors="replace")
    return fields


def _event(line: dict[str, Any]) -> AnyEvent:
    make = EVENT_OF[_KIND_OF_NAME[line["kind"]]]
    fields = {name: value for name, value in line.items() if name not in _PLACE}
    for side in ("bids", "asks"):
        if side in fields:
            fields[side] = np.array(fields[side], "<f8").tobytes()
    for name in _TEXTS:
        if fields.get(name) is not None:
            fields[name] = fields[name].encode()
    return make(**fields)
