"""What an S3 store says went wrong, as errors of ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    IncompleteReadError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
    ResponseStreamingError,
)

from fluxforge.errors import DiskFull, StorageError, StorageUnavailable, UnsupportedStorage

MISSING = {"NoSuchKey", "404", "NotFound", "NoSuchUpload"}
_EXISTS = {"PreconditionFailed", "412"}
_CONFLICT = {"ConditionalRequestConflict", "OperationAborted", "409"}
_FULL = {"InsufficientStorage", "507", "QuotaExceeded", "XMinioStorageFull"}
_BUSY = {"SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout", "Throttling", "RequestLimitExceeded"}
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"}
_UNSET = (NoCredentialsError, PartialCredentialsError, ProfileNotFound, NoRegionError)

Answer = type[FileNotFoundError] | type[FileExistsError]


class Again(StorageUnavailable):
    """Nothing is wrong but the moment: a conditional write of the key is under way (409), an answer was cut off."""


class ExpiredKeys(StorageUnavailable):
    """The session token is no longer good; newer ones may have been put where it came from."""


@contextmanager
def told(name: str, *answers: Answer) -> Iterator[None]:
    """Turn what the client raises into an error that names the object.

    `answers` are those of FileNotFoundError and FileExistsError that the caller handles. All else is a StorageError:
    DiskFull, UnsupportedStorage, StorageUnavailable with its kinds Again and ExpiredKeys.
    """
    try:
        yield
    except ClientError as error:
        answer = error.response.get("Error", {})
        status = str(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", ""))
        raise _expected(error_of(name, str(answer.get("Code", "")), status, answer.get("Message")), answers) from error
    except (FileNotFoundError, FileExistsError) as error:
        if isinstance(error, answers):
            raise
        raise _expected(error, answers) from error
    except (IncompleteReadError, ResponseStreamingError) as error:
        raise Again(f"{name}: {error}", hint="check the network") from error
    except _UNSET as error:
        raise StorageError(
            f"{name}: {error}", hint="give keys and region in the settings or as AWS tools do"
        ) from error
    except (BotoCoreError, OSError, ValueError) as error:  # a header cut short is a ValueError
        raise StorageUnavailable(f"{name}: {error}", hint="check the endpoint and the network") from error


def error_of(name: str, code: str, status: str = "", message: str | None = None) -> Exception:
    """The error of an answer: its code, the HTTP status, what it says."""
    said = message or code or status
    if code == "NoSuchBucket":
        return StorageError(f"{name}: there is no such bucket", hint="make it, or name another")
    if code in _EXPIRED:
        return ExpiredKeys(f"{name}: {said}", hint="give new keys; the store is asked again with them")
    if code in MISSING or status == "404":
        return FileNotFoundError(name)
    if code in _EXISTS or status == "412":
        return FileExistsError(name)
    if code in _CONFLICT or status == "409":
        return Again(f"{name}: {said}", hint="another writer is at it")
    if code in _FULL or status == "507":
        return DiskFull(f"no room to write {name}: {said}", hint="free some space; nothing is lost")
    if code == "NotImplemented" or status == "501":
        return UnsupportedStorage(
            f"{name}: {said}", hint="use AWS S3, Cloudflare R2, versitygw or another store with conditional writes"
        )
    if code in _BUSY or status == "429" or status.startswith("5"):
        return StorageUnavailable(f"{name}: {said}", hint="the store is busy or down; it is tried again")
    return StorageError(f"{name}: {said} ({code})", hint="check the bucket's policy and the keys")


def _expected(error: Exception, answers: tuple[Answer, ...]) -> Exception:
    """Itself, where it is among the answers or no answer at all."""
    if not isinstance(error, FileNotFoundError | FileExistsError) or isinstance(error, answers):
        return error
    said = "it is not there" if isinstance(error, FileNotFoundError) else "a condition failed that was not asked for"
    return StorageUnavailable(f"{error}: {said}", hint="check the endpoint; a batch is read again from the log")
