"""Storage in an S3 bucket, or in any store that speaks its protocol with conditional writes.

A draft is a multipart upload of the final key: nobody sees it before the commit record, put with `If-None-Match: *`,
holds what completes it. Such a record also decides between two writers, as there are no locks. Completing an upload
twice is harmless: the second time it is gone, and the object stands there.

Uploads that no record took are cleared a day after they began; a batch must therefore be committed within half of
that, which `expires_s` says. Requests are signed for fifteen minutes, so none of a sleeping writer arrives later.
"""

from __future__ import annotations

import logging
import os
import posixpath
import random
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, BinaryIO
from uuid import uuid4

import boto3
from botocore.config import Config

from fluxforge.errors import StorageError, StorageUnavailable, UnsupportedStorage
from fluxforge.files.commit import CommittedFile, Upload
from fluxforge.files.s3_errors import MISSING, Conflict, told
from fluxforge.files.storage import Leftover, Step, Tree, foreign, gone, no_step

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

_log = logging.getLogger(__name__)

PART_BYTES = 8 * 1024 * 1024
"""Bytes gathered for one part; S3 asks for 5 MiB at least, but of the last."""
CLEAR_AFTER_S = 86_400.0
THREADS = 16
ATTEMPTS = 6


@dataclass(frozen=True)
class S3Options:
    """How a store is reached; what is None comes from the environment and the files that all AWS tools read.

    endpoint_url          of a store that is not AWS
    max_pool_connections  open at once
    """

    endpoint_url: str | None = None
    region: str | None = None
    access_key: str | None = None
    secret_key: str | None = None
    session_token: str | None = None
    max_pool_connections: int = 50

    def __repr__(self) -> str:
        return f"S3Options({self.endpoint_url or 'AWS'})"


class NoLock:
    """There are none: see `S3Storage.create`."""

    def release(self) -> None:
        """Nothing is held."""


class S3Draft:
    """A multipart upload; a staged one becomes an object under its active key when sealed."""

    def __init__(self, storage: S3Storage, key: str, *, staged: bool) -> None:
        self._storage, self._key, self._staged = storage, key, staged
        self._waiting = bytearray()
        self._upload_id: str | None = None
        self._etags: list[str] = []
        self._complete = False

    def write(self, data: memoryview) -> None:
        self._waiting += data
        if len(self._waiting) >= PART_BYTES:
            self._upload_part()

    def seal(self) -> Upload | None:
        self._upload_part()
        assert self._upload_id is not None
        upload = Upload(self._upload_id, self._etags)
        if not self._staged:
            return upload
        self._storage.complete(self._key, upload)
        self._complete = True
        return None

    def discard(self) -> None:
        self._waiting.clear()
        if self._complete:
            self._storage.remove([self._key])
        elif self._upload_id is not None:
            self._storage.abort(self._key, self._upload_id)

    def _upload_part(self) -> None:
        client, key = self._storage.client, self._storage.key(self._key)
        with self._storage.named(self._key):
            if self._upload_id is None:
                made = client.create_multipart_upload(Bucket=self._storage.bucket, Key=key)
                self._upload_id = str(made["UploadId"])
            part = client.upload_part(
                Bucket=self._storage.bucket, Key=key, UploadId=self._upload_id, PartNumber=len(self._etags) + 1,
                Body=bytes(self._waiting),
            )  # fmt: skip
        self._etags.append(str(part["ETag"]))
        self._waiting.clear()


class S3Storage:
    """Keys under `prefix` of a bucket."""

    expires_s: float | None = CLEAR_AFTER_S / 2

    def __init__(self, bucket: str, prefix: str, options: S3Options | None = None) -> None:
        self.bucket, self.prefix = bucket, prefix.strip("/")
        self._options = options or S3Options()

    @cached_property
    def client(self) -> Any:
        """The boto3 client; safe to share between threads."""
        return self._session.client(
            "s3",
            endpoint_url=self._endpoint,
            config=Config(
                max_pool_connections=self._options.max_pool_connections,
                retries={"mode": "standard", "max_attempts": ATTEMPTS},
                connect_timeout=5,
                read_timeout=30,
                s3={"addressing_style": "path" if self._endpoint else "auto"},
            ),
        )

    @property
    def _endpoint(self) -> str | None:
        environ = os.environ
        return self._options.endpoint_url or environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL")

    @cached_property
    def _session(self) -> Any:
        options = self._options
        return boto3.Session(
            aws_access_key_id=options.access_key,
            aws_secret_access_key=options.secret_key,
            aws_session_token=options.session_token,
            region_name=options.region,
        )

    def name(self, path: str) -> str:
        return f"s3://{self.bucket}/{self.key(path)}".rstrip("/")

    def key(self, path: str) -> str:
        """The object's key."""
        return posixpath.join(self.prefix, path).rstrip("/")

    def draft(self, active: str, path: str, *, staged: bool = False) -> S3Draft:
        return S3Draft(self, active if staged else path, staged=staged)

    def sealed(self, actives: Iterable[str]) -> None:
        """A part that was acknowledged is safe."""

    def create(self, path: str, data: bytes, step: Step = no_step) -> None:
        """As `Storage.create`. An answer that was lost is no error: a retry finds our own bytes there."""
        step("record.written")
        for attempt in range(ATTEMPTS):
            try:
                with self.named(path):
                    self.client.put_object(Bucket=self.bucket, Key=self.key(path), Body=data, IfNoneMatch="*")
                break
            except FileExistsError:
                if self.read(path) != data:
                    raise
                break
            except Conflict as error:  # another conditional write of this key is under way
                if attempt + 1 == ATTEMPTS:
                    raise StorageUnavailable(str(error)) from error
                time.sleep(random.uniform(0, 0.1 * 2**attempt))
        step("record.linked")
        step("record.synced")

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
        with self.named(tree.ready):
            pages = self.client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self.bucket, Prefix=f"{prefix}/" if prefix else ""
            )
            return [
                Leftover(posixpath.basename(upload["Key"]), (upload["Key"], upload["UploadId"], upload["Initiated"]))
                for page in pages
                for upload in page.get("Uploads", ())
            ]

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
        with self.named(path):
            opened: BinaryIO = self.filesystem().open_input_file(path)
            return opened

    def read(self, path: str) -> bytes:
        with self.named(path):
            found: bytes = self.client.get_object(Bucket=self.bucket, Key=self.key(path))["Body"].read()
            return found

    def size(self, path: str) -> int | None:
        try:
            with self.named(path):
                return int(self.client.head_object(Bucket=self.bucket, Key=self.key(path))["ContentLength"])
        except FileNotFoundError:
            return None

    def names(self, folder: str) -> list[str]:
        prefix = self.key(folder)
        prefix = f"{prefix}/" if prefix else ""
        found = []
        for page in self._pages(folder, Prefix=prefix, Delimiter="/"):
            found += [each["Key"] for each in page.get("Contents", ())]
            found += [each["Prefix"].rstrip("/") for each in page.get("CommonPrefixes", ())]
        return sorted(name for name in (key.removeprefix(prefix) for key in found) if name)

    def walk(self, folder: str) -> Iterator[str]:
        prefix, root = self.key(folder), f"{self.prefix}/" if self.prefix else ""
        for page in self._pages(folder, Prefix=f"{prefix}/" if prefix else ""):
            for each in page.get("Contents", ()):
                yield str(each["Key"]).removeprefix(root)

    def remove(self, paths: Sequence[str]) -> None:
        for at in range(0, len(paths), 1000):
            some = paths[at : at + 1000]
            with self.named(some[0]):
                keys = [{"Key": self.key(path)} for path in some]
                answer = self.client.delete_objects(Bucket=self.bucket, Delete={"Objects": keys, "Quiet": True})
            refused = [error for error in answer.get("Errors", ()) if error.get("Code") not in MISSING]
            if refused:
                raise StorageError(
                    f"s3://{self.bucket}/{refused[0].get('Key')} cannot be removed: {refused[0].get('Message')}",
                    hint="the key needs s3:DeleteObject",
                )

    def lock(self, path: str, timeout: float) -> NoLock:
        return NoLock()

    def probe(self) -> None:
        path = f".probe-{uuid4().hex}"
        try:
            with self.named(path):
                self.client.put_object(Bucket=self.bucket, Key=self.key(path), Body=b"1", IfNoneMatch="*")
            try:
                with self.named(path):
                    self.client.put_object(Bucket=self.bucket, Key=self.key(path), Body=b"2", IfNoneMatch="*")
            except FileExistsError:
                return
            raise UnsupportedStorage(
                f"{self.name('')}: the store ignores If-None-Match, so two writers could overwrite each other",
                hint="use AWS S3, Cloudflare R2, versitygw or another store with conditional writes",
            )
        finally:
            self.remove([path])

    def filesystem(self) -> FileSystem:
        return self._arrow

    # What the above is made of.

    def named(self, path: str) -> AbstractContextManager[None]:
        """Turn the client's errors into ours, naming the object."""
        return told(self.name(path))

    def complete(self, path: str, upload: Upload) -> None:
        """Make the object of its parts.

        Raises FileNotFoundError where there is no such upload (any more), FileExistsError where there is an object.
        """
        parts = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(upload.etags, 1)]
        with self.named(path):
            self.client.complete_multipart_upload(
                Bucket=self.bucket, Key=self.key(path), UploadId=upload.id, MultipartUpload={"Parts": parts},
                IfNoneMatch="*",
            )  # fmt: skip

    def abort(self, path: str, upload_id: str) -> None:
        """Throw an upload away; one that is not there is no error."""
        try:
            with self.named(path):
                self.client.abort_multipart_upload(Bucket=self.bucket, Key=self.key(path), UploadId=upload_id)
        except FileNotFoundError:
            return

    def _publish(self, file: CommittedFile) -> None:
        try:
            if file.upload is not None:
                self.complete(file.path, file.upload)
            else:
                source = {"Bucket": self.bucket, "Key": self.key(file.active)}
                with self.named(file.active):
                    self.client.copy_object(Bucket=self.bucket, Key=self.key(file.path), CopySource=source)
        except (FileNotFoundError, FileExistsError):
            size = self.size(file.path)
            if size is None:
                raise gone(self, file) from None
            if size != file.bytes:
                raise foreign(self, file) from None

    def _pages(self, folder: str, **how: str) -> Iterator[dict[str, Any]]:
        with self.named(folder):
            yield from self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, **how)

    @cached_property
    def _arrow(self) -> FileSystem:
        """Arrow's own client. Keys that do not expire are handed to it; it finds the others as boto3 does."""
        from pyarrow.fs import S3FileSystem, SubTreeFileSystem  # noqa: PLC0415  Arrow takes a moment to import

        found = self._session.get_credentials()
        static = found is not None and found.method in {"explicit", "env", "shared-credentials-file", "config-file"}
        keys = found.get_frozen_credentials() if static else None
        scheme, _, host = (self._endpoint or "").rstrip("/").partition("://")
        system = S3FileSystem(
            access_key=keys and keys.access_key,
            secret_key=keys and keys.secret_key,
            session_token=keys and keys.token,
            region=self.client.meta.region_name,
            **({"endpoint_override": host, "scheme": scheme} if host else {}),
        )
        return SubTreeFileSystem(posixpath.join(self.bucket, self.prefix), system)
