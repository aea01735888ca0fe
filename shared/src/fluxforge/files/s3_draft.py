"""A file on its way into a bucket: a multipart upload."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from fluxforge.errors import StorageError, StorageUnavailable
from fluxforge.files.commit import Upload

if TYPE_CHECKING:
    from fluxforge.files.s3 import S3Storage

_log = logging.getLogger(__name__)

PART_BYTES = 8 * 1024 * 1024
"""Bytes of each part but the last: S3 asks for 5 MiB at least, some stores for parts of one size."""


class S3Draft:
    """The upload of an object; a staged one becomes an object under its active key when sealed."""

    def __init__(self, storage: S3Storage, path: str, *, staged: bool) -> None:
        self._storage, self._path, self._staged = storage, path, staged
        self._waiting = bytearray()
        self._bytes = 0
        self._upload_id: str | None = None
        self._etags: list[str] = []
        self._complete = False

    def write(self, data: memoryview) -> None:
        self._waiting += data
        while len(self._waiting) >= PART_BYTES:
            self._upload_part()

    def seal(self) -> Upload | None:
        if self._waiting or not self._etags:
            self._upload_part()
        assert self._upload_id is not None
        upload = Upload(self._upload_id, self._etags)
        if not self._staged:
            return upload
        self._make(upload)
        self._complete = True
        return None

    def discard(self) -> None:
        """As `Draft.discard`; where the store does not answer the upload stays, and is cleared when it is old."""
        self._waiting.clear()
        try:
            if self._complete:
                self._storage.remove([self._path])
            elif self._upload_id is not None:
                self._storage.abort(self._path, self._upload_id)
        except StorageError as error:
            _log.warning("a draft could not be thrown away: %s", error)

    def _upload_part(self) -> None:
        if self._upload_id is None:
            made = self._storage.ask(self._path, lambda client, at: client.create_multipart_upload(**at))
            self._upload_id = str(made["UploadId"])
        part = bytes(self._waiting[:PART_BYTES])
        where = {"UploadId": self._upload_id, "PartNumber": len(self._etags) + 1}
        done = self._storage.ask(self._path, lambda client, at: client.upload_part(**at, **where, Body=part))
        etag = str(done.get("ETag", ""))
        if not etag or (etag[0] == '"' and not etag[1:].endswith('"')):
            raise StorageUnavailable(
                f"{self._storage.name(self._path)}: an answer was cut off", hint="it is sent again"
            )
        self._etags.append(etag)
        self._bytes += len(part)
        del self._waiting[: len(part)]

    def _make(self, upload: Upload) -> None:
        """Complete it now; where the answer to the first request was lost, the object is found there."""
        try:
            self._storage.complete(self._path, upload)
        except (FileNotFoundError, FileExistsError):
            if self._storage.size(self._path) != self._bytes:
                raise StorageUnavailable(
                    f"{self._storage.name(self._path)}: the upload is gone", hint="the file is written again"
                ) from None
