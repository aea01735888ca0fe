"""Where data lies: a folder of this machine, or a prefix of an S3 bucket."""

from __future__ import annotations

import posixpath
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from fluxforge.files.local import LocalStorage
from fluxforge.files.storage import Storage

if TYPE_CHECKING:
    from fluxforge.settings.models import StorageLocation

Root: TypeAlias = "Path | str | StorageLocation"
"""A folder, `s3://bucket/prefix`, or what the configuration says; as a text, `@VERSION` behind it is of the lake."""


def location(root: Root) -> StorageLocation:
    """The root as the configuration would say it. Raises ConfigError for a text that names no place."""
    from fluxforge.settings.models import StorageLocation  # noqa: PLC0415  they take a moment to import

    if isinstance(root, StorageLocation):
        return root
    return StorageLocation(path=root) if isinstance(root, Path) else StorageLocation().elsewhere(root)


def storage(root: Root, folder: str) -> Storage:
    """The store of `folder` below `root`. Raises ConfigError for a text that names no place."""
    if isinstance(root, Path):
        return LocalStorage(root / folder)
    root = location(root)
    if root.bucket is None:
        return LocalStorage(root.path / folder)
    from fluxforge.files.s3 import S3Options, S3Storage  # noqa: PLC0415  boto3 takes half a second to import

    given = root.s3
    access, secret, token = (
        None if each is None else each.get_secret_value()
        for each in (given.access_key, given.secret_key, given.session_token)
    )
    options = S3Options(given.endpoint_url, given.region, access, secret, token, given.max_pool_connections)
    return S3Storage(root.bucket, posixpath.join(root.prefix, folder), options)
