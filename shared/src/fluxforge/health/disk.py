"""Room on the disks."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from fluxforge.errors import LogUnavailable
from fluxforge.health.line import Line
from fluxforge.settings import Settings

_SQLITE = "sqlite:///"


def log_file(settings: Settings) -> Path | None:
    """Of the embedded log."""
    url = settings.broker.url
    return Path(url.removeprefix(_SQLITE)) if url.startswith(_SQLITE) else None


def require_log(settings: Settings) -> None:
    """Raises LogUnavailable where the embedded log has no file yet."""
    file = log_file(settings)
    if file is not None and not file.exists():
        raise LogUnavailable(f"{file} is not there", hint="`fluxforge up` makes it")


def free(settings: Settings) -> Iterator[Line]:
    """A line for each disk with data on it."""
    least = settings.health.min_disk_free_percent
    storage = settings.storage
    folders = [location.path for location in (storage.input, storage.output) if location.bucket is None]
    file = log_file(settings)
    seen: set[int] = set()
    for folder in [*folders, *([file.parent] if file is not None else [])]:
        there = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())
        if (device := there.stat().st_dev) in seen:
            continue
        seen.add(device)
        usage = shutil.disk_usage(there)
        percent = 100 * usage.free / usage.total
        yield Line(
            f"disk {there}",
            percent >= least,
            f"{percent:.0f} % free, {usage.free / 1e9:,.1f} GB",
            "make room: `fluxforge retain` (maintenance.bronze_days, lake_days); topics.raw_retention_mb for the log",
        )
