"""Requests about the keys of a bucket: named in every error, and made again where only the moment was wrong."""

from __future__ import annotations

import posixpath
import random
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from fluxforge.errors import StorageUnavailable
from fluxforge.files.s3_connection import ATTEMPTS, Connection, S3Options
from fluxforge.files.s3_errors import MISSING, Again, Answer, error_of

_T = TypeVar("_T")


class Bucket:
    """Keys under `prefix` of a bucket; paths are relative to it."""

    def __init__(self, bucket: str, prefix: str, options: S3Options | None = None) -> None:
        self.bucket, self.prefix = bucket, prefix.strip("/")
        self.connection = Connection(options or S3Options())

    @property
    def client(self) -> Any:
        """The boto3 client; safe to share between threads."""
        return self.connection.client

    def name(self, path: str) -> str:
        return f"s3://{self.bucket}/{self.key(path)}".rstrip("/")

    def key(self, path: str) -> str:
        """The object's key."""
        return posixpath.join(self.prefix, path).rstrip("/")

    def named(self, path: str, *answers: Answer) -> AbstractContextManager[None]:
        """Turn the client's errors into ours, naming the object; see `s3_errors.told`."""
        return self.connection.told(self.name(path), *answers)

    def ask(self, path: str, request: Callable[[Any, dict[str, str]], _T], *answers: Answer) -> _T:
        """What `request(client, bucket and key)` gives; made again where only the moment was wrong."""
        for attempt in range(1, ATTEMPTS):
            try:
                return self._asked(path, request, answers)
            except Again:
                pause(attempt)
        return self._asked(path, request, answers)

    def remove_keys(self, path: str, keys: list[str]) -> None:
        """At most 1000, `path` the first. Some stores are busy key by key, and name those that were not removed."""
        for attempt in range(1, ATTEMPTS + 1):
            errors = self._delete(path, keys)
            if not errors:
                return
            final = next((error for error in errors.values() if not isinstance(error, StorageUnavailable)), None)
            if final is not None or attempt == ATTEMPTS:
                raise final or errors.popitem()[1]
            keys = list(errors)
            pause(attempt)

    def pages(self, folder: str, how: dict[str, str]) -> Iterator[dict[str, Any]]:
        """Every page of a listing of objects."""
        while True:
            page = self.page(folder, "list_objects_v2", how)
            yield page
            if not page.get("IsTruncated"):
                return
            how = {**how, "ContinuationToken": page["NextContinuationToken"]}

    def page(self, folder: str, listing: str, how: dict[str, str]) -> dict[str, Any]:
        """One page; `listing` is the client's method, `how` its options."""
        page: dict[str, Any] = self.ask(folder, lambda client, at: getattr(client, listing)(Bucket=at["Bucket"], **how))
        return page

    def _asked(self, path: str, request: Callable[[Any, dict[str, str]], _T], answers: tuple[Answer, ...]) -> _T:
        with self.named(path, *answers):
            return request(self.client, {"Bucket": self.bucket, "Key": self.key(path)})

    def _delete(self, path: str, keys: list[str]) -> dict[str, Exception]:
        """One request; what stands in the way of each key that is still there."""
        what = {"Objects": [{"Key": key} for key in keys], "Quiet": True}
        answer = self.ask(path, lambda client, at: client.delete_objects(Bucket=at["Bucket"], Delete=what))
        return {
            each["Key"]: error_of(
                f"s3://{self.bucket}/{each['Key']} cannot be removed", each.get("Code", ""), "", each.get("Message")
            )
            for each in answer.get("Errors", ())
            if each.get("Code") not in MISSING
        }


def pause(attempt: int) -> None:
    """Before the next attempt: longer each time, by chance, so that two writers do not meet again."""
    time.sleep(random.uniform(0, 0.1 * 2**attempt))
