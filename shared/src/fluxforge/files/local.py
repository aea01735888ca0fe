"""Storage on the local disk."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from fluxforge.errors import StorageError, UnsupportedFilesystem, WriterConflict
from fluxforge.files.storage import named

_LOCK_POLL_S = 0.05


class LocalLock:
    """An exclusive flock: the kernel drops it when the process dies."""

    def __init__(self, fd: int) -> None:
        self._fd: int | None = fd

    def release(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


class LocalStorage:
    """Files under `root`, which is made on first use."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def local(self, path: str) -> Path:
        return self.root / path

    def create(self, path: str) -> BinaryIO:
        target = self.root / path
        with named(target):
            self._make(target.parent)
            return target.open("xb")

    def put(self, path: str, data: bytes) -> None:
        target = self.root / path
        with named(target):
            self._make(target.parent)
            fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            try:
                rest = memoryview(data)
                while rest:
                    rest = rest[os.write(fd, rest) :]
                os.fsync(fd)
            finally:
                os.close(fd)

    def sync(self, file: BinaryIO) -> None:
        with named(file.name):
            file.flush()
            os.fsync(file.fileno())

    def sync_folder(self, folder: str) -> None:
        _sync_folder(self.root / folder)

    def link(self, source: str, target: str) -> None:
        final = self.root / target
        with named(final):
            self._make(final.parent)
            os.link(self.root / source, final)

    def move(self, source: str, target: str) -> None:
        final = self.root / target
        with named(final):
            self._make(final.parent)
            (self.root / source).rename(final)
        _sync_folder(final.parent)

    def remove(self, path: str) -> None:
        with named(self.root / path):
            (self.root / path).unlink(missing_ok=True)

    def read(self, path: str) -> bytes:
        with named(self.root / path):
            return (self.root / path).read_bytes()

    def size(self, path: str) -> int | None:
        with named(self.root / path):
            try:
                return (self.root / path).stat().st_size
            except FileNotFoundError:
                return None

    def names(self, folder: str) -> list[str]:
        with named(self.root / folder):
            try:
                return sorted(entry.name for entry in (self.root / folder).iterdir())
            except FileNotFoundError:
                return []

    def walk(self, folder: str) -> Iterator[str]:
        for parent, _, files in os.walk(self.root / folder):
            for name in sorted(files):
                yield (Path(parent) / name).relative_to(self.root).as_posix()

    def lock(self, path: str, timeout: float) -> LocalLock:
        target = self.root / path
        with named(target):
            self._make(target.parent)
            fd = os.open(target, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        deadline = time.monotonic() + timeout
        try:
            while not _try_lock(fd, target):
                if time.monotonic() >= deadline:
                    raise WriterConflict(
                        f"another process holds {target}", hint="one writer for each partition: stop the other one"
                    )
                time.sleep(_LOCK_POLL_S)
        except BaseException:
            os.close(fd)
            raise
        return LocalLock(fd)

    def probe(self) -> None:
        source, target = (f".probe-{uuid4().hex}" for _ in range(2))
        try:
            self._probe_sync(source)
            self._probe_link(source, target)
        finally:
            self.remove(source)
            self.remove(target)

    def _probe_sync(self, path: str) -> None:
        self.create(path).close()
        with (self.root / path).open("wb") as file:
            try:
                self.sync(file)
                self.sync_folder("")
            except StorageError as error:
                raise self._unsupported("fsync fails") from error

    def _probe_link(self, source: str, target: str) -> None:
        try:
            self.link(source, target)
        except StorageError as error:
            raise self._unsupported("hard links fail") from error
        try:
            self.link(source, target)
        except FileExistsError:
            return
        raise self._unsupported("a link overwrote an existing file")

    def _unsupported(self, reason: str) -> UnsupportedFilesystem:
        return UnsupportedFilesystem(
            f"{self.root}: {reason}", hint="use a filesystem with hard links and fsync: ext4, xfs, btrfs, zfs, apfs"
        )

    def _make(self, folder: Path) -> None:
        """Make `folder`; each new name is put on disk in the folder above it."""
        missing = []
        while not folder.exists():
            missing.append(folder)
            folder = folder.parent
        for new in reversed(missing):
            new.mkdir(exist_ok=True)
            _sync_folder(new.parent)


def _try_lock(fd: int, path: Path) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise UnsupportedFilesystem(
            f"{path} cannot be locked: {error.strerror}", hint="use a local filesystem"
        ) from error
    return True


def _sync_folder(folder: Path) -> None:
    with named(folder):
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
