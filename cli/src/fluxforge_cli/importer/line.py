"""What every format's reader yields: the events of one line of one file."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from fluxforge.events import AnyEvent

COLLECTOR = "import"
"""The collector id of every imported event: files of any format continue each other."""


class Line(NamedTuple):
    """One line of a file.

    number  from 1
    events  what it holds; may be empty
    bad     why the line, or a part of it, is no event; None where it is sound
    raw     the line as it stands, only where `bad` is set
    """

    number: int
    events: Sequence[AnyEvent]
    bad: str | None = None
    raw: bytes = b""


def content_hash(path: Path) -> str:
    """The log id of an imported file: the same bytes, under whatever name, are the same log."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]


def pack(levels: Iterable[tuple[float, float]]) -> bytes:
    """One book side as little-endian float64 pairs, as given: an invalid book is stored as it came."""
    flat = [number for level in levels for number in level]
    return struct.pack(f"<{len(flat)}d", *flat)
