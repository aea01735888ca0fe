"""Readers of recorded exchange traffic: pure iterators over raw bytes, in the order they were received.

Two capture formats, plain or compressed (told by content, not by name):

    Binance capture   one line a message, `<receive ns> <json>`; an instrument's daily files `btcusdt_20240808.gz`,
                      `btcusdt_20240809.gz`, … are one stream; the REST depth snapshot stands inline among the diffs
    cryptofeed dump   `<s>: <json>` a frame, `<url> -> <s>: <body>` a REST answer, `<url> <- <s>: <body>` a message
                      sent, `<url> <-> <s>` a connection made

A damaged line is a FrameError and a damaged file a SegmentError, each naming file and line. Without `on_error` it is
raised; with it the caller is told and reading goes on at the next line or file.
"""

from __future__ import annotations

import gzip
import heapq
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Literal, NamedTuple

import msgspec
import zstandard

from fluxforge.errors import FluxForgeError, FrameError, SegmentError

OnError = Callable[[FluxForgeError], None]

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_DAY = re.compile(r"^(?P<instrument>.+)_(?P<day>\d{8})$")
_DUMP = re.compile(rb"^(?:(?P<url>\S+) (?P<arrow><->|<-|->) )?(?P<s>\d+(?:\.\d+)?)(?:: (?P<body>.*))?$", re.DOTALL)
_valid = msgspec.json.Decoder(msgspec.Raw).decode


class CaptureLine(NamedTuple):
    """One received message.

    line        its number in the whole stream, from 0, counting on over the files and over damaged lines
    receive_ns  when it was received, ns since 1970 UTC
    frame       the JSON text exactly as received
    """

    line: int
    receive_ns: int
    frame: bytes


class DumpLine(NamedTuple):
    """One entry of a cryptofeed dump; `url` is empty for frames, `body` for connections."""

    line: int
    receive_ns: int
    kind: Literal["frame", "answer", "send", "connect"]
    url: str
    body: bytes


_ARROWS: dict[bytes | None, Literal["frame", "answer", "send", "connect"]] = {
    None: "frame",
    b"->": "answer",
    b"<-": "send",
    b"<->": "connect",
}


def read_lines(path: Path, on_error: OnError | None = None) -> Iterator[bytes]:
    """The lines of a plain, gzip or zstd file, without their line ends.

    Raises SegmentError for a file that cannot be opened or whose compression breaks off (lines before it are given).
    """
    number = 0
    try:
        with path.open("rb") as file:
            for line in _lines(file):
                number += 1
                yield line
    except (OSError, EOFError, zlib.error, zstandard.ZstdError) as error:
        where = f"after line {number}" if number else "at its start"
        _report(SegmentError(f"{path}: unreadable {where}: {error}", hint="fetch the file again"), on_error)


def read_binance_capture(paths: Iterable[Path], on_error: OnError | None = None) -> Iterator[CaptureLine]:
    """The daily files of one instrument, in the order given, as one stream."""
    number = -1
    for path in paths:
        for in_file, text in enumerate(read_lines(path, on_error), start=1):
            number += 1
            if not text:
                continue
            stamp, _, frame = text.partition(b" ")
            try:
                _valid(frame)
                line = CaptureLine(number, int(stamp), frame)
            except (ValueError, msgspec.MsgspecError) as error:
                _report(
                    FrameError(
                        f"{path}:{in_file}: no capture line: {error}",
                        frame=text,
                        hint="expected '<receive ns> <json>'",
                    ),
                    on_error,
                )
                continue
            yield line


def by_instrument(paths: Iterable[Path]) -> dict[str, list[Path]]:
    """Capture files by instrument, each one's days in order; `btcusdt_20240808.gz` belongs to `btcusdt`."""
    days: dict[str, list[tuple[str, Path]]] = {}
    for path in paths:
        stem = path.name.split(".", 1)[0]
        match = _DAY.match(stem)
        instrument, day = (match["instrument"], match["day"]) if match else (stem, "")
        days.setdefault(instrument, []).append((day, path))
    return {instrument: [path for _, path in sorted(files)] for instrument, files in days.items()}


def merge_captures(streams: Iterable[Iterable[CaptureLine]]) -> Iterator[CaptureLine]:
    """Several instruments by receive time; ties in the order of `streams`, each stream's own order kept."""
    stamped = (_stamped(stream) for stream in streams)
    return (line for _, line in heapq.merge(*stamped, key=lambda item: item[0]))


def read_cryptofeed(path: Path, on_error: OnError | None = None) -> Iterator[DumpLine]:
    """One dump file, in file order; empty lines are none."""
    for number, text in enumerate(read_lines(path, on_error)):
        if not text:
            continue
        match = _DUMP.match(text)
        if match is None or (match["arrow"] != b"<->" and not _is_json(match["body"])):
            _report(
                FrameError(
                    f"{path}:{number + 1}: no line of a cryptofeed dump: {text[:60]!r}",
                    frame=text,
                    hint="expected '<s>: <json>' or '<url> ->|<-|<-> <s>[: <body>]'",
                ),
                on_error,
            )
            continue
        url = (match["url"] or b"").decode(errors="replace")
        yield DumpLine(number, _ns(match["s"]), _ARROWS[match["arrow"]], url, match["body"] or b"")


def read_cryptofeed_session(paths: Iterable[Path], on_error: OnError | None = None) -> list[DumpLine]:
    """All dumps of one session (sockets and REST), sorted by receive time; ties in the order of `paths`."""
    return sorted((line for path in paths for line in read_cryptofeed(path, on_error)), key=lambda line: line[1])


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    """The decompressed lines of an open file."""
    magic = file.read(4)
    file.seek(0)
    if magic == _ZSTD:
        yield from _split(_unzstd(file))
        return
    stream = gzip.GzipFile(fileobj=file) if magic.startswith(_GZIP) else file
    for line in stream:
        yield line.rstrip(b"\r\n")


def _unzstd(file: IO[bytes]) -> Iterator[bytes]:
    """Decompressed chunks of one or more zstd frames.

    Raises EOFError where the last frame is not whole; zstandard's own reader would end there without a word.
    """
    frame = zstandard.ZstdDecompressor().decompressobj()
    while chunk := file.read(1 << 17):
        while chunk:
            if frame.eof:
                frame = zstandard.ZstdDecompressor().decompressobj()
            yield frame.decompress(chunk)
            chunk = frame.unused_data if frame.eof else b""
    if not frame.eof:
        raise EOFError("compressed file ended before the end-of-stream marker was reached")


def _split(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Lines, wherever the chunks are cut."""
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.rstrip(b"\r")
    if rest:
        yield rest


def _is_json(body: bytes | None) -> bool:
    try:
        _valid(body or b"")
    except msgspec.MsgspecError:
        return False
    return True


def _ns(seconds: bytes) -> int:
    """`1633998512.0633569` s as ns, without the rounding of a float."""
    whole, _, fraction = seconds.partition(b".")
    return int(whole) * 1_000_000_000 + int(fraction[:9].ljust(9, b"0"))


def _stamped(stream: Iterable[CaptureLine]) -> Iterator[tuple[int, CaptureLine]]:
    """Lines with a merge time that never runs back within their stream."""
    newest = 0
    for line in stream:
        newest = max(newest, line.receive_ns)
        yield newest, line


def _report(error: FluxForgeError, on_error: OnError | None) -> None:
    if on_error is None:
        raise error
    on_error(error)
