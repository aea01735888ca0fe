"""Times as RFC 3339 text in UTC, to the nanosecond."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache

from fluxforge.clock import NS


def nanos(text: str) -> int:
    """ns since 1970 of `2023-02-09T20:19:35.39625135Z`; more than nine decimals are cut. Raises ValueError.

    >>> nanos("1970-01-01T00:00:01.5Z")
    1500000000
    """
    fraction = text[20:-1] if text[19:20] == "." else text[19:-1]
    if text[-1:] != "Z" or not text.isascii() or (fraction and not fraction.isdigit()):
        raise ValueError(f"{text[:40]!r} is no time in UTC")
    return _second(text[:19]) + (int(fraction[:9].ljust(9, "0")) if fraction else 0)


@lru_cache(256)
def _second(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * NS
