"""A disk that refuses, as real ones do, for as long as a test wants."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import BinaryIO

from fluxforge.files import LocalStorage
from fluxforge.files.local_lock import LocalLock
from fluxforge.files.storage import named


class FaultyDisk(LocalStorage):
    """Every write fails with `fault`, an errno, while that is set: ENOSPC is a full disk, EROFS one mounted read-only.

    A full disk still opens a lock that is there, a read-only one does not.
    """

    fault: int | None = None

    def open_new(self, path: str) -> BinaryIO:
        self._refuse(path)
        return super().open_new(path)

    def put(self, path: str, data: bytes) -> None:
        self._refuse(path)
        super().put(path, data)

    def sync(self, file: BinaryIO) -> None:
        self._refuse(file.name)
        super().sync(file)

    def lock(self, path: str, timeout: float) -> LocalLock:
        if not (self.root / path).exists() or self.fault not in (None, errno.ENOSPC):
            self._refuse(path)
        return super().lock(path, timeout)

    def _refuse(self, path: str) -> None:
        if self.fault is not None:
            with named(Path(self.root / path)):
                raise OSError(self.fault, os.strerror(self.fault))
