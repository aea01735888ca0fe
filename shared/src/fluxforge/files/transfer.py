"""One committed file from a store into another: read, hashed, and not seen before it is known to be right."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import closing
from threading import Event
from typing import Any, BinaryIO, TypeVar
from uuid import uuid4

import msgspec

from fluxforge.errors import SegmentError, StorageError
from fluxforge.files.commit import CommittedFile
from fluxforge.files.history import locate
from fluxforge.files.storage import Step, Tree, foreign, named, no_step

BLOCK_BYTES = 4 * 1024 * 1024
DRAFT = ".sync."
"""Part of every draft's name, by which those of a run that was cut off are known."""

_T = TypeVar("_T")

Moved = Callable[[int], None]
"""Told of bytes as they go by."""


class Transfer:
    """Copies files of `source` to `target`; for many threads. Once `stop` is set every copy ends by an error."""

    def __init__(self, source: Tree, target: Tree, moved: Moved, stop: Event, step: Step = no_step) -> None:
        self._source, self._target = source, target
        self._moved, self._stop, self._step = moved, stop, step

    def file(self, file: CommittedFile, draft: str, name: str) -> None:
        """Bring `file` to the target under `name`, where nothing else may stand; `draft` begins its name until then.

        Raises SegmentError where the source's content is not what its record says, StorageError where another file
        has the name, FileNotFoundError where the source's is gone.
        """
        target = self._target.storage
        if target.size(name) is not None:
            self.verify(self._target, file, name)
            return
        if not self._copied_by_the_store(file, name):
            self._copied(file, f"{self._target.active}/{draft}{DRAFT}{uuid4().hex[:12]}", name)
        if target.size(name) != file.bytes:
            raise foreign(target, msgspec.structs.replace(file, path=name))
        self._step("file.copied")

    def verify(self, tree: Tree, file: CommittedFile, name: str) -> None:
        """Read `name` of a tree to its end. Raises StorageError where its bytes are not those of the record."""
        if self._read(tree, name) != (file.bytes, file.sha256):
            raise foreign(tree.storage, msgspec.structs.replace(file, path=name))

    def _copied(self, file: CommittedFile, active: str, name: str) -> None:
        target, source, digest = self._target.storage, self._source.storage, hashlib.sha256()
        where, opened = self._found(file, lambda path: (source.name(path), source.open(path)))
        with closing(opened):
            draft = target.draft(active, name)
            try:
                size = self._pass(opened, where, digest.update, draft.write)
                _check(where, file, size, digest.hexdigest())
                self._step("file.read")
                upload = draft.seal()
            except BaseException:
                draft.discard()
                raise
        self._step("file.sealed")
        made = msgspec.structs.replace(file, path=name, active=active, upload=upload)
        target.publish([made], self._step)
        target.unstage([made], self._step)

    def _copied_by_the_store(self, file: CommittedFile, name: str) -> bool:
        """Within one S3 store nothing has to come here; the store tells the copy's SHA-256, or it is read."""
        source, target = self._source.storage, self._target.storage
        if source.expires_s is None or target.expires_s is None:
            return False
        from fluxforge.files.s3 import COPY_BYTES, S3Storage  # noqa: PLC0415  boto3 takes half a second to import

        if not isinstance(source, S3Storage) or not isinstance(target, S3Storage):
            return False
        if file.bytes > COPY_BYTES or not target.reaches(source):
            return False
        where, told = self._found(file, lambda path: (source.name(path), target.copy(source, path, name)))
        self._step("file.sealed")
        size, digest = (target.size(name), told) if told is not None else self._read(self._target, name)
        try:
            _check(where, file, size, digest)
        except SegmentError:
            target.remove([name])
            raise
        self._moved(file.bytes)
        return True

    def _found(self, file: CommittedFile, use: Callable[[str], _T]) -> _T:
        """`use` of the source's path; once more where its writer took the active name away in between."""
        try:
            return use(locate(self._source, file))
        except FileNotFoundError:
            return use(locate(self._source, file))

    def _read(self, tree: Tree, name: str) -> tuple[int, str]:
        """Bytes and SHA-256 of what stands there."""
        digest = hashlib.sha256()
        with closing(tree.storage.open(name)) as opened:
            size = self._pass(opened, tree.storage.name(name), digest.update)
        return size, digest.hexdigest()

    def _pass(self, opened: BinaryIO, path: str, *takers: Callable[[memoryview], Any]) -> int:
        """Every byte to all takers, in order; how many there were."""
        size = 0
        while True:
            if self._stop.is_set():
                raise StorageError(f"{path}: stopped", hint="start again: it goes on where it was")
            with named(path):
                block = opened.read(BLOCK_BYTES)
            if not block:
                return size
            for take in takers:
                take(memoryview(block))
            size += len(block)
            self._moved(len(block))


def _check(path: str, file: CommittedFile, size: int | None, digest: str) -> None:
    if (size, digest) != (file.bytes, file.sha256):
        raise SegmentError(
            f"{path} is damaged: {size} bytes, sha256 {digest}; its record says {file.bytes} and {file.sha256}",
            hint="restore it from a copy; neither it nor any later record of its chain was copied",
        )
