"""What the files need of a store, and where its folders are.

Paths are relative to the store's root, with `/`. Errors: FileExistsError and FileNotFoundError where a method says
so; DiskFull when there is no room; StorageError for all else.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from fluxforge.errors import DiskFull, StorageError


class Lock(Protocol):
    """Held until released or until its process ends."""

    def release(self) -> None: ...


class Storage(Protocol):
    """The few calls that batches are made of."""

    def create(self, path: str) -> BinaryIO:
        """A new file, open for writing; its folders are made. Raises FileExistsError."""

    def put(self, path: str, data: bytes) -> None:
        """A new file with `data`, on disk when this returns. Raises FileExistsError."""

    def sync(self, file: BinaryIO) -> None:
        """Put on disk what was written to `file`."""

    def sync_folder(self, folder: str) -> None:
        """Put on disk the names in `folder`."""

    def link(self, source: str, target: str) -> None:
        """A second name; never overwrites. Raises FileExistsError, FileNotFoundError."""

    def move(self, source: str, target: str) -> None:
        """Rename; its folders are made. Raises FileNotFoundError."""

    def remove(self, path: str) -> None:
        """Remove the name; one that is not there is no error."""

    def read(self, path: str) -> bytes:
        """Raises FileNotFoundError."""

    def size(self, path: str) -> int | None:
        """Bytes; None where there is no such file."""

    def names(self, folder: str) -> list[str]:
        """Names in `folder`, sorted; empty where there is no such folder."""

    def walk(self, folder: str) -> Iterator[str]:
        """Paths of all files under `folder`."""

    def lock(self, path: str, timeout: float) -> Lock:
        """Shut out every other process. Raises WriterConflict after `timeout` seconds."""

    def probe(self) -> None:
        """Raises UnsupportedFilesystem where links or fsync are missing."""

    def local(self, path: str) -> Path:
        """A path on this machine that readers can open."""


@dataclass(frozen=True)
class Tree:
    """A store and its folders: files are written under `active`, and stand under `ready` when committed.

    The rest lies beside them: `_commits`, `_locks`, `_quarantine`. `mirror` gives `active` the folders of `ready`;
    without it all lie in one, so that a batch over thousands of folders syncs one of them less often.
    """

    storage: Storage
    active: str = "active"
    ready: str = "ready"
    mirror: bool = False

    @classmethod
    def local(cls, root: Path, *, active: str = "active", ready: str = "ready", mirror: bool = False) -> Tree:
        """A tree on the local disk."""
        from fluxforge.files.local import LocalStorage  # noqa: PLC0415  local.py needs this module

        return cls(LocalStorage(root), active, ready, mirror)


_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def named(path: str | Path) -> Iterator[None]:
    """Turn an OSError into one of our tree that names `path`."""
    try:
        yield
    except (FileExistsError, FileNotFoundError):
        raise
    except OSError as error:
        if error.errno in _FULL:
            raise DiskFull(
                f"no room to write {path}: {error.strerror}", hint="free some space; nothing is lost"
            ) from error
        reason = error.strerror or str(error)
        raise StorageError(f"{path}: {reason}", hint="check the device and the permissions") from error
