"""What the files need of a store, and where its folders are.

Paths are relative to the store's root, with `/`. Errors: FileExistsError and FileNotFoundError where a method says
so; DiskFull when there is no room; StorageError for all else.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol

from fluxforge.errors import DiskFull, StorageError
from fluxforge.files.commit import CommittedFile, Upload

Step = Callable[[str], None]


def no_step(_: str) -> None:
    """Nobody watches."""


class Lock(Protocol):
    """Held until released or until its process ends."""

    def release(self) -> None: ...


class Draft(Protocol):
    """A file being written: readers see nothing of it before it is published."""

    def write(self, data: memoryview) -> None: ...

    def seal(self) -> Upload | None:
        """All of it safe; what publishing an object needs. May run in another thread."""

    def discard(self) -> None:
        """Give it up and remove it."""


class Leftover(NamedTuple):
    """A draft that stands in the store: the name it was to get, and how the store finds it."""

    name: str
    place: Any


class Storage(Protocol):
    """The few calls that batches are made of, on disks and in object stores."""

    expires_s: float | None
    """Age from which a draft must not be committed any more, as others may clear it away; None: never."""

    def draft(self, active: str, path: str, *, staged: bool = False) -> Draft:
        """Begin the file `path`, which is called `active` until it is published.

        `staged`: once sealed, it can be read under that name.
        """

    def sealed(self, actives: Iterable[str]) -> None:
        """Make the names of sealed drafts safe."""

    def create(self, path: str, data: bytes, step: Step = no_step) -> None:
        """A new file, whole and safe when this returns, or not there at all.

        Raises FileExistsError, and FileNotFoundError where another writer has thrown the attempt away. After any
        other error it may be there or not.
        """

    def tidy(self, folder: str) -> None:
        """Make safe what `create` made in `folder`, and remove what it left half done."""

    def publish(self, files: Sequence[CommittedFile], step: Step = no_step) -> None:
        """Give committed files their final names; may be done again at any time.

        Raises StorageError where another file has the name, or where the file is gone.
        """

    def unstage(self, files: Sequence[CommittedFile], step: Step = no_step) -> None:
        """Remove the active names of published files."""

    def leftovers(self, tree: Tree) -> list[Leftover]:
        """Every draft in the store, published or not."""

    def clear(self, leftover: Leftover) -> None:
        """Remove a draft, unless it may be another writer's that is still at work."""

    def quarantine(self, leftover: Leftover, folder: str) -> None:
        """Keep a draft that nothing can bring back, where no writer removes it."""

    def open(self, path: str) -> BinaryIO:
        """For reading, seekable. Raises FileNotFoundError.

        Arrow must read it with `use_threads=False`: a thread of its pool may let go of the file while the interpreter
        ends, and asks for the GIL then, which ends the process with an abort.
        """

    def read(self, path: str) -> bytes:
        """Raises FileNotFoundError."""

    def size(self, path: str) -> int | None:
        """Bytes; None where there is no such file."""

    def names(self, folder: str, prefix: str = "") -> list[str]:
        """Names in `folder` that begin with `prefix`, sorted; empty where there is no such folder."""

    def walk(self, folder: str) -> Iterator[str]:
        """Paths of all files under `folder`."""

    def remove(self, paths: Sequence[str]) -> None:
        """Remove files; one that is not there is no error."""

    def lock(self, path: str, timeout: float) -> Lock:
        """Shut out every other process where the store can. Raises WriterConflict after `timeout` seconds.

        Where it cannot, `create` alone decides between two writers.
        """

    def probe(self) -> None:
        """Raises UnsupportedStorage where the store lacks what exactly-once needs."""

    def filesystem(self) -> Any:
        """The store's root as a pyarrow filesystem, for reading."""

    def url(self, path: str) -> str:
        """The path as readers know it that are not ours: absolute, or `s3://bucket/key`."""

    def access(self) -> dict[str, str] | None:
        """What such a reader must know to read there, by the names of Rust's object_store; None on a disk."""

    def name(self, path: str) -> str:
        """The path as people write it."""


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

    def __str__(self) -> str:
        return self.storage.name("")


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


def gone(storage: Storage, file: CommittedFile) -> StorageError:
    """The error of a committed file that is not there."""
    return StorageError(
        f"{storage.name(file.path)} is committed, but gone",
        hint="restore it from a copy, or have its batch written again from the log",
    )


def foreign(storage: Storage, file: CommittedFile) -> StorageError:
    """The error of another file in a committed one's place."""
    return StorageError(
        f"{storage.name(file.path)} is not the file its commit record describes",
        hint="another program wrote it; move it away and start again",
    )
