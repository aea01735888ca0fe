"""The commit record: one batch of one chain, and the names of everything that belongs to it."""

from __future__ import annotations

import hashlib
import re
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec

from fluxforge.errors import StorageError

RECORD_VERSION = 1
_LOG_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")
_TOPIC = re.compile(r"(?!\.\.?$)[A-Za-z0-9._-]{1,120}")
_LONGEST_NAME = 80


class ChainId(NamedTuple):
    """Whose offsets these are: a log (a cluster's topic, or an imported file's hash), topic and partition."""

    log_id: str
    topic: str
    partition: int

    def check(self) -> ChainId:
        """Itself. Raises StorageError where a part cannot stand in a file name."""
        if not _LOG_ID.fullmatch(self.log_id) or not _TOPIC.fullmatch(self.topic) or self.partition < 0:
            raise StorageError(
                f"{self} cannot name files", hint="log id: letters, digits, _ and -; topic: also dots; partition ≥ 0"
            )
        return self

    @property
    def folder(self) -> str:
        return f"{self.log_id}/{self.topic}/{self.partition}"

    @property
    def commits(self) -> str:
        """Folder of the chain's commit records."""
        return f"_commits/{self.folder}"

    def name(self, start: int) -> str:
        """File name of the batch that begins at `start`; unambiguous, since only the topic may hold dots."""
        return f"{self.topic}.{self.partition}.{self.log_id}.{start:020d}"

    def record(self, start: int, merged_to: int | None = None) -> str:
        """The record of the batch from `start`, or of the batches [start, merged_to) that compaction made one."""
        end = "" if merged_to is None else f"-{merged_to:020d}"
        return f"{self.commits}/{start:020d}{end}.json"


class Upload(msgspec.Struct, frozen=True):
    """A multipart upload that waits to be completed: what S3 needs for that, besides the key."""

    id: str
    etags: list[str]


class CommittedFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a batch.

    path      final name, relative to the tree's root
    active    name until the link is made
    upload    in an object store: what completes it
    rows      rows in the file
    bytes     its size
    sha256    of its content
    first_ts  earliest and latest event time in it, ns; None where it has no time
    meta      the writer's own notes, such as a partition's key and date
    """

    path: str
    active: str
    rows: int
    bytes: int
    sha256: str
    first_ts: int | None = None
    last_ts: int | None = None
    meta: dict[str, Any] = {}
    upload: Upload | None = None


class Gap(msgspec.Struct, frozen=True):
    """Offsets the log had dropped before they were read."""

    first: int
    next: int


class Commit(msgspec.Struct, frozen=True, kw_only=True):
    """The batch [start, next_offset) of a chain: what exists of it, exists because of this record.

    merged  how many batches a compaction made into this one; 0: it is as the log gave it
    """

    version: int = RECORD_VERSION
    log_id: str
    topic: str
    partition: int
    start: int
    next_offset: int
    writer: str
    files: list[CommittedFile] = []
    gap: Gap | None = None
    merged: int = 0
    schema: str = ""
    config_hash: str = ""
    meta: dict[str, Any] = {}

    @property
    def chain(self) -> ChainId:
        return ChainId(self.log_id, self.topic, self.partition)

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.files)

    @property
    def first_ts(self) -> int | None:
        return min((file.first_ts for file in self.files if file.first_ts is not None), default=None)

    @property
    def last_ts(self) -> int | None:
        return max((file.last_ts for file in self.files if file.last_ts is not None), default=None)


_decoder = msgspec.json.Decoder(Commit)


def encode(commit: Commit) -> bytes:
    return msgspec.json.format(msgspec.json.encode(commit), indent=1) + b"\n"


def decode(data: bytes, path: str) -> Commit:
    """Raises StorageError naming `path`."""
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise StorageError(
            f"{path} is no commit record: {error}", hint="restore it from a copy; without it the chain's end is unknown"
        ) from error


def folder_name(text: str) -> str:
    """`text` as one folder name on any filesystem; different texts stay different, none begins with `_`."""
    name = quote(text, safe="").replace(".", "%2E") or "%"
    if name[0] == "_":
        name = f"%5F{name[1:]}"
    if len(name) > _LONGEST_NAME:
        name = f"{name[:40]}%{hashlib.sha256(text.encode()).hexdigest()[:32]}"
    return name
