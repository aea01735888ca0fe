"""What an S3 store says went wrong, as errors of ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import BotoCoreError, ClientError

from fluxforge.errors import DiskFull, StorageError, StorageUnavailable

MISSING = {"NoSuchKey", "404", "NotFound", "NoSuchUpload"}
_EXISTS = {"PreconditionFailed", "412"}
_CONFLICT = {"ConditionalRequestConflict", "OperationAborted", "409"}
_FULL = {"InsufficientStorage", "507", "QuotaExceeded", "XMinioStorageFull"}
_BUSY = {"SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout"}


class Conflict(Exception):
    """409: another conditional write of the key is under way; ask again."""


@contextmanager
def told(name: str) -> Iterator[None]:
    """Turn what the client raises into an error that names the object.

    FileNotFoundError, FileExistsError and Conflict for answers that callers expect; DiskFull, StorageUnavailable and
    StorageError for the others.
    """
    try:
        yield
    except ClientError as error:
        raise _ours(error, name) from error
    except (FileNotFoundError, FileExistsError):
        raise
    except (BotoCoreError, OSError) as error:
        raise StorageUnavailable(f"{name}: {error}", hint="check the endpoint and the network") from error


def _ours(error: ClientError, name: str) -> Exception:
    answer = error.response.get("Error", {})
    code = str(answer.get("Code", ""))
    status = str(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", ""))
    said = answer.get("Message") or code or status
    if code == "NoSuchBucket":
        return StorageError(f"{name}: there is no such bucket", hint="make it, or name another")
    if code in MISSING or status == "404":
        return FileNotFoundError(name)
    if code in _EXISTS or status == "412":
        return FileExistsError(name)
    if code in _CONFLICT or status == "409":
        return Conflict(f"{name}: {said}")
    if code in _FULL or status == "507":
        return DiskFull(f"no room to write {name}: {said}", hint="free some space; nothing is lost")
    if code in _BUSY or status.startswith("5"):
        return StorageUnavailable(f"{name}: {said}", hint="the store is busy or down; it is tried again")
    return StorageError(f"{name}: {said} ({code})", hint="check the bucket's policy and the keys")
