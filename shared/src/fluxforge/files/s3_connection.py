"""How a store is reached: keys, boto3's client, Arrow's filesystem."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

from fluxforge.files.s3_errors import Answer, ExpiredKeys, told

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

ATTEMPTS = 6
CONNECT_S, READ_S = 5, 30


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


class Connection:
    """Clients of one store, made when first needed and again when their keys have expired."""

    def __init__(self, options: S3Options) -> None:
        self.options = options
        self._lock = Lock()
        self._session_made: Any = None
        self._client_made: Any = None
        self._arrow_made: FileSystem | None = None

    @property
    def endpoint(self) -> str | None:
        """None for AWS."""
        environ = os.environ
        return self.options.endpoint_url or environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL")

    @property
    def client(self) -> Any:
        """The boto3 client; safe to share between threads."""
        with self._lock:
            if self._client_made is None:
                self._client_made = self._session().client(
                    "s3",
                    endpoint_url=self.endpoint,
                    config=Config(
                        max_pool_connections=self.options.max_pool_connections,
                        retries={"mode": "standard", "max_attempts": ATTEMPTS},
                        connect_timeout=CONNECT_S,
                        read_timeout=READ_S,
                        s3={"addressing_style": "path" if self.endpoint else "auto"},
                    ),
                )
            return self._client_made

    @property
    def arrow(self) -> FileSystem:
        """Arrow's own client. Keys that do not expire are handed to it; it finds the others as boto3 does."""
        region = self.client.meta.region_name
        with self._lock:
            if self._arrow_made is None:
                self._arrow_made = self._arrow(region)
            return self._arrow_made

    def access(self) -> dict[str, str]:
        """As `Storage.access`: endpoint, region, and the keys of this moment, where there are any."""
        with self.told(self.endpoint or "AWS"):
            region = self.client.meta.region_name
            with self._lock:
                found = self._session().get_credentials()
            keys = None if found is None else found.get_frozen_credentials()
        told = {
            "aws_endpoint_url": self.endpoint,
            "aws_region": region,
            "aws_access_key_id": keys and keys.access_key,
            "aws_secret_access_key": keys and keys.secret_key,
            "aws_session_token": keys and keys.token,
            "aws_allow_http": "true" if (self.endpoint or "").startswith("http://") else None,
        }
        return {name: value for name, value in told.items() if value}

    @contextmanager
    def told(self, name: str, *answers: Answer) -> Iterator[None]:
        """As `s3_errors.told`; after expired keys the next request looks for new ones."""
        try:
            with told(name, *answers):
                yield
        except ExpiredKeys:
            with self._lock:
                self._session_made = self._client_made = self._arrow_made = None
            raise

    def _session(self) -> Any:
        if self._session_made is None:
            options = self.options
            self._session_made = boto3.Session(
                aws_access_key_id=options.access_key,
                aws_secret_access_key=options.secret_key,
                aws_session_token=options.session_token,
                region_name=options.region,
            )
        return self._session_made

    def _arrow(self, region: str) -> FileSystem:
        from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem  # noqa: PLC0415  Arrow takes a moment to import

        found = self._session().get_credentials()
        frozen = None if found is None else found.get_frozen_credentials()
        written = {"env", "shared-credentials-file", "config-file"}
        lasting = frozen and (found.method == "explicit" or (found.method in written and not frozen.token))
        keys = frozen if lasting else None
        scheme, _, host = (self.endpoint or "").rstrip("/").partition("://")
        return S3FileSystem(
            access_key=keys and keys.access_key,
            secret_key=keys and keys.secret_key,
            session_token=keys and keys.token,
            region=region,
            connect_timeout=CONNECT_S,
            request_timeout=READ_S,
            retry_strategy=AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
            **({"endpoint_override": host, "scheme": scheme} if host else {}),
        )
