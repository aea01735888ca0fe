"""A lock on a local file: one process has it, and the kernel takes it from one that dies."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from fluxforge.errors import UnsupportedStorage, WriterConflict
from fluxforge.files.storage import named

_POLL_S = 0.05


class LocalLock:
    """An exclusive flock: the kernel drops it when the process dies."""

    def __init__(self, fd: int) -> None:
        self._fd: int | None = fd

    def release(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def take(path: Path, timeout: float) -> LocalLock:
    """Lock the file, which is made where it is not there. Raises WriterConflict after `timeout` seconds."""
    with named(path):
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    deadline = time.monotonic() + timeout
    try:
        while not _try_lock(fd, path):
            if time.monotonic() >= deadline:
                raise WriterConflict(
                    f"another process holds {path}", hint="one writer for each partition: stop the other one"
                )
            time.sleep(_POLL_S)
    except BaseException:
        os.close(fd)
        raise
    return LocalLock(fd)


def _try_lock(fd: int, path: Path) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise UnsupportedStorage(f"{path} cannot be locked: {error.strerror}", hint="use a local filesystem") from error
    return True
