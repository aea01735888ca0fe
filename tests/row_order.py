"""The order of history said once more, row by row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fluxforge.client import ORDER

_ABSENT = {"duration": 0, "bar_type": ""}


def key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """What a row is ordered by."""
    return tuple(row.get(name, _ABSENT[name]) if name in _ABSENT else row[name] for name in ORDER)
