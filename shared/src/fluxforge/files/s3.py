"""Storage in an S3 bucket, or in any store that speaks its protocol with conditional writes.

A draft is a multipart upload of the final key: nobody sees it before the commit record, put with `If-None-Match: *`,
holds what completes it. Such a record also decides between two writers, as there are no locks. Completing an upload
twice is harmless: the second time it is gone, and the object stands there.

Uploads that no record took are cleared a day after they began; a batch must therefore be committed within half of
that, which `expires_s` says. Requests are signed for fifteen minutes, so none of a sleeping writer arrives later.
"""

from __future__ import annotations

import base64
import logging
import posixpath
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, BinaryIO
from uuid import uuid4

from fluxforge.errors import StorageUnavailable, UnsupportedStorage
from fluxforge.files.commit import CommittedFile, Upload
from fluxforge.files.s3_bucket import Bucket, pause
from fluxforge.files.s3_connection import S3Options
from fluxforge.files.s3_draft import S3Draft
from fluxforge.files.storage import Leftover, Step, Tree, foreign, gone, no_step

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

__all__ = ["S3Options", "S3Storage"]

_log = logging.getLogger(__name__)

CLEAR_AFTER_S = 86_400.0
THREADS = 16
APPEARANCES = 6
"""How often a store is asked for what it refused to overwrite before it is taken at its other word."""
COPY_BYTES = 5 * 1024**3
"""The largest object that a store copies in one request."""


class NoLock:
    """There are none: see `S3Storage.create`."""

    def release(self) -> None:
        """Nothing is held."""


class S3Storage(Bucket):
    """Keys under `prefix` of a bucket."""

    expires_s: float | None = CLEAR_AFTER_S / 2

    def draft(self, active: str, path: str, *, staged: bool = False) -> S3Draft:
        return S3Draft(self, active if staged else path, staged=staged)

    def sealed(self, actives: Iterable[str]) -> None:
        """A part that was acknowledged is safe."""

    def create(self, path: str, data: bytes, step: Step = no_step) -> None:
        """As `Storage.create`. An answer that was lost is no error: a retry finds our own bytes there."""
        step("record.written")
        try:
            self._put_new(path, data)
        except FileExistsError:
            if self._found(path) != data:
                raise
        step("record.linked")
        step("record.synced")

    def _appearing(self, path: str) -> int | None:
        """Size of what a store refused to overwrite: another writer's, which it may not show yet."""
        for attempt in range(APPEARANCES):
            if (found := self.size(path)) is not None:
                return found
            pause(attempt)
        return self.size(path)

    def _found(self, path: str) -> bytes:
        """What a store refused to overwrite."""
        self._appearing(path)
        try:
            return self.read(path)
        except FileNotFoundError as error:
            raise StorageUnavailable(
                f"{self.name(path)}: the store says it is there, and that it is not", hint="it is asked again"
            ) from error

    def tidy(self, folder: str) -> None:
        """A put leaves nothing half done."""

    def publish(self, files: Sequence[CommittedFile], step: Step = no_step) -> None:
        def one(file: CommittedFile) -> None:
            self._publish(file)
            step("file.linked")

        if len(files) == 1:
            one(files[0])
        elif files:
            with ThreadPoolExecutor(THREADS, "publish") as pool:
                list(pool.map(one, files))
        step("folders.synced")

    def unstage(self, files: Sequence[CommittedFile], step: Step = no_step) -> None:
        self.remove([file.active for file in files if file.upload is None])
        for _ in files:
            step("active.removed")

    def leftovers(self, tree: Tree) -> list[Leftover]:
        prefix = self.key(tree.ready)
        how, found = {"Prefix": f"{prefix}/" if prefix else ""}, []
        while True:
            page = self.page(tree.ready, "list_multipart_uploads", how)
            for upload in page.get("Uploads", ()):
                place = (upload["Key"], upload["UploadId"], upload["Initiated"])
                found.append(Leftover(posixpath.basename(upload["Key"]), place))
            if not page.get("IsTruncated"):
                return found
            how |= {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}

    def clear(self, leftover: Leftover) -> None:
        key, upload_id, began = leftover.place
        if (datetime.now(UTC) - began).total_seconds() > CLEAR_AFTER_S:
            self.abort(posixpath.relpath(key, self.prefix or "."), upload_id)

    def quarantine(self, leftover: Leftover, folder: str) -> None:
        """It stays where it is: an upload cannot be moved, and is not in anybody's way."""
        key, upload_id, began = leftover.place
        _log.warning(
            "s3://%s/%s: the upload %s of %s holds what the log has dropped; it is left as it is",
            *(self.bucket, key, upload_id, f"{began:%Y-%m-%d %H:%M}"),
        )

    def open(self, path: str) -> BinaryIO:
        with self.named(path, FileNotFoundError):
            opened: BinaryIO = self.filesystem().open_input_file(path)
            return opened

    def read(self, path: str) -> bytes:
        found: bytes = self.ask(path, lambda client, at: client.get_object(**at)["Body"].read(), FileNotFoundError)
        return found

    def size(self, path: str) -> int | None:
        try:
            head = self.ask(path, lambda client, at: client.head_object(**at), FileNotFoundError)
        except FileNotFoundError:
            return None
        if "ContentLength" not in head:
            raise StorageUnavailable(f"{self.name(path)}: an answer was cut off", hint="it is asked again")
        return int(head["ContentLength"])

    def names(self, folder: str, prefix: str = "") -> list[str]:
        root = self.key(folder)
        root = f"{root}/" if root else ""
        found = []
        for page in self.pages(folder, {"Prefix": root + prefix, "Delimiter": "/"}):
            found += [each["Key"] for each in page.get("Contents", ())]
            found += [each["Prefix"].rstrip("/") for each in page.get("CommonPrefixes", ())]
        return sorted({key.removeprefix(root) for key in found} - {""})

    def walk(self, folder: str) -> Iterator[str]:
        prefix, root = self.key(folder), f"{self.prefix}/" if self.prefix else ""
        for page in self.pages(folder, {"Prefix": f"{prefix}/" if prefix else ""}):
            for each in page.get("Contents", ()):
                if not each["Key"].endswith("/"):  # a folder, as consoles make them
                    yield str(each["Key"]).removeprefix(root)

    def remove(self, paths: Sequence[str]) -> None:
        for at in range(0, len(paths), 1000):
            self.remove_keys(paths[at], [self.key(path) for path in paths[at : at + 1000]])

    def lock(self, path: str, timeout: float) -> NoLock:
        return NoLock()

    def probe(self) -> None:
        path = f".probe-{uuid4().hex}"
        self.create(path, b"1")
        try:
            self._put_new(path, b"2")
        except FileExistsError:
            return
        finally:
            self.remove([path])
        raise UnsupportedStorage(
            f"{self.name('')}: the store ignores If-None-Match, so two writers could overwrite each other",
            hint="use AWS S3, Cloudflare R2, versitygw or another store with conditional writes",
        )

    def filesystem(self) -> FileSystem:
        from pyarrow.fs import SubTreeFileSystem  # noqa: PLC0415  Arrow takes a moment to import

        return SubTreeFileSystem(posixpath.join(self.bucket, self.prefix), self.connection.arrow)

    def url(self, path: str) -> str:
        return self.name(path)

    def access(self) -> dict[str, str]:
        return self.connection.access()

    # What the above is made of.

    def complete(self, path: str, upload: Upload) -> None:
        """Make the object of its parts.

        Raises FileNotFoundError where there is no such upload (any more), FileExistsError where there is an object.
        """
        parts = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(upload.etags, 1)]
        how = {"UploadId": upload.id, "MultipartUpload": {"Parts": parts}, "IfNoneMatch": "*"}
        self.ask(
            path, lambda client, at: client.complete_multipart_upload(**at, **how), FileNotFoundError, FileExistsError
        )

    def abort(self, path: str, upload_id: str) -> None:
        """Throw an upload away; one that is not there is no error."""
        try:
            self.ask(
                path, lambda client, at: client.abort_multipart_upload(**at, UploadId=upload_id), FileNotFoundError
            )
        except FileNotFoundError:
            return

    def reaches(self, other: S3Storage) -> bool:
        """Whether this store's client can copy from the other: one endpoint, the same keys."""
        mine, others = self.connection, other.connection
        return (mine.endpoint, mine.options) == (others.endpoint, others.options)

    def copy(self, source: S3Storage, taken: str, path: str) -> str | None:
        """Let the store copy `taken` of a storage that it reaches to `path`, at most COPY_BYTES, over what is there.

        Returns the copy's SHA-256 in hex as the store computed it; None from one that does not tell. Raises
        FileNotFoundError.
        """
        how = {"CopySource": {"Bucket": source.bucket, "Key": source.key(taken)}, "ChecksumAlgorithm": "SHA256"}
        answer = self.ask(path, lambda client, at: client.copy_object(**at, **how), FileNotFoundError)
        told = answer["CopyObjectResult"].get("ChecksumSHA256")
        return None if told is None else base64.b64decode(told).hex()

    def _put_new(self, path: str, data: bytes) -> None:
        self.ask(path, lambda client, at: client.put_object(**at, Body=data, IfNoneMatch="*"), FileExistsError)

    def _publish(self, file: CommittedFile) -> None:
        taken = False
        try:
            if file.upload is not None:
                self.complete(file.path, file.upload)
                return
            found = self.size(file.path)
            if found is None:
                self.copy(self, file.active, file.path)
                return
        except (FileNotFoundError, FileExistsError) as error:
            taken = isinstance(error, FileExistsError)
            found = self._appearing(file.path) if taken else self.size(file.path)
        if found is None and taken:
            raise StorageUnavailable(
                f"{self.name(file.path)}: the store says that it is there, and that it is not", hint="it is tried again"
            )
        if found is None:
            raise gone(self, file)
        if file.bytes not in (found, self.size(file.path)):  # asked twice: of a head cut short the client says nothing
            raise foreign(self, file)
