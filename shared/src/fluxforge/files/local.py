"""Storage on the local disk."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from uuid import uuid4

from fluxforge.errors import StorageError, UnsupportedStorage
from fluxforge.files.commit import CommittedFile, Upload
from fluxforge.files.local_lock import LocalLock, take
from fluxforge.files.storage import Leftover, Step, Tree, foreign, gone, named, no_step
from fluxforge.files.syncs import Syncs

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem


class LocalDraft:
    """A file under its active name."""

    def __init__(self, storage: LocalStorage, active: str) -> None:
        self._storage, self._active = storage, active
        self._file = storage.open_new(active)

    def write(self, data: memoryview) -> None:
        with named(self._file.name):
            self._file.write(data)

    def seal(self) -> Upload | None:
        self._storage.sync(self._file)
        self._file.close()
        return None

    def discard(self) -> None:
        try:
            self._file.close()
        except OSError:
            pass  # a failed device fails again here; the file is removed next
        finally:
            self._storage.remove([self._active])


class LocalStorage:
    """Files under `root`, which is made on first use."""

    expires_s: float | None = None

    def __init__(self, root: Path) -> None:
        self.root = root

    def name(self, path: str) -> str:
        return str(self.root / path)

    def draft(self, active: str, path: str, *, staged: bool = False) -> LocalDraft:
        return LocalDraft(self, active)

    def sealed(self, actives: Iterable[str]) -> None:
        self._sync_folders_of(actives)

    def create(self, path: str, data: bytes, step: Step = no_step) -> None:
        draft = f"{path}.{uuid4().hex[:12]}"
        self.put(draft, data)
        step("record.written")
        try:
            self.link(draft, path)
        except FileExistsError:
            self.remove([draft])
            raise
        step("record.linked")
        self.sync_folder(posixpath.dirname(path))
        step("record.synced")
        self.remove([draft])

    def tidy(self, folder: str) -> None:
        names = self.names(folder)
        if names:
            self.sync_folder(folder)
        self.remove([f"{folder}/{name}" for name in names if not name.endswith(".json")])

    def publish(self, files: Sequence[CommittedFile], step: Step = no_step) -> None:
        for file in files:
            self._publish(file)
            step("file.linked")
        self._sync_folders_of(file.path for file in files)
        step("folders.synced")

    def unstage(self, files: Sequence[CommittedFile], step: Step = no_step) -> None:
        for file in files:
            self.remove([file.active])
            step("active.removed")

    def leftovers(self, tree: Tree) -> list[Leftover]:
        return [Leftover(posixpath.basename(path), path) for path in self.walk(tree.active)]

    def clear(self, leftover: Leftover) -> None:
        self.remove([leftover.place])

    def quarantine(self, leftover: Leftover, folder: str) -> None:
        final = self.root / folder / leftover.name
        with named(final):
            self._make(final.parent)
            (self.root / leftover.place).rename(final)
        _sync_folder(final.parent)

    def open(self, path: str) -> BinaryIO:
        with named(self.root / path):
            return (self.root / path).open("rb")

    def read(self, path: str) -> bytes:
        with named(self.root / path):
            return (self.root / path).read_bytes()

    def size(self, path: str) -> int | None:
        with named(self.root / path):
            try:
                return (self.root / path).stat().st_size
            except FileNotFoundError:
                return None

    def names(self, folder: str, prefix: str = "") -> list[str]:
        with named(self.root / folder):
            try:
                found = os.listdir(self.root / folder)  # noqa: PTH208  no Path for each of thousands
                return sorted(name for name in found if name.startswith(prefix))
            except FileNotFoundError:
                return []

    def walk(self, folder: str) -> Iterator[str]:
        for parent, _, files in os.walk(self.root / folder):
            for name in sorted(files):
                yield (Path(parent) / name).relative_to(self.root).as_posix()

    def remove(self, paths: Sequence[str]) -> None:
        for path in paths:
            with named(self.root / path):
                (self.root / path).unlink(missing_ok=True)

    def lock(self, path: str, timeout: float) -> LocalLock:
        target = self.root / path
        with named(target):
            self._make(target.parent)
        return take(target, timeout)

    def probe(self) -> None:
        source, target = (f".probe-{uuid4().hex}" for _ in range(2))
        try:
            self._probe_sync(source)
            self._probe_link(source, target)
        finally:
            self.remove([source, target])

    def filesystem(self) -> FileSystem:
        from pyarrow.fs import LocalFileSystem, SubTreeFileSystem  # noqa: PLC0415  Arrow takes a moment to import

        return SubTreeFileSystem(str(self.root.resolve()), LocalFileSystem())

    def url(self, path: str) -> str:
        return str(self.root.resolve() / path)

    def access(self) -> None:
        """A disk asks for nothing."""

    # What the above is made of.

    def open_new(self, path: str) -> BinaryIO:
        """A new file, open for writing; its folders are made. Raises FileExistsError."""
        target = self.root / path
        with named(target):
            self._make(target.parent)
            return target.open("xb")

    def put(self, path: str, data: bytes) -> None:
        """A new file with `data`, on disk when this returns. Raises FileExistsError."""
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
        """Put on disk what was written to `file`."""
        with named(file.name):
            file.flush()
            os.fsync(file.fileno())

    def sync_folder(self, folder: str) -> None:
        """Put on disk the names in `folder`."""
        _sync_folder(self.root / folder)

    def link(self, source: str, target: str) -> None:
        """A second name; never overwrites. Raises FileExistsError, FileNotFoundError."""
        final = self.root / target
        with named(final):
            self._make(final.parent)
            os.link(self.root / source, final)

    def _publish(self, file: CommittedFile) -> None:
        try:
            self.link(file.active, file.path)
        except FileExistsError:
            if self.size(file.path) != file.bytes:
                raise foreign(self, file) from None
        except FileNotFoundError:
            if self.size(file.path) is None:
                raise gone(self, file) from None

    def _sync_folders_of(self, paths: Iterable[str]) -> None:
        with Syncs() as syncs:
            for folder in sorted({posixpath.dirname(path) for path in paths}):
                syncs.add(partial(self.sync_folder, folder))

    def _probe_sync(self, path: str) -> None:
        self.open_new(path).close()
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

    def _unsupported(self, reason: str) -> UnsupportedStorage:
        return UnsupportedStorage(
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


def _sync_folder(folder: Path) -> None:
    with named(folder):
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
