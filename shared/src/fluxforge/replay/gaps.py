"""Recorded gaps made visible: a Reset before the first record of each key that lies behind one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from fluxforge import codec
from fluxforge.bronze.records import Records
from fluxforge.errors import CodecError
from fluxforge.events import Event, Reset, ResetReason

Gap = tuple[int, int]
"""Offsets [first, next) that are in no segment, though readers of the topic may have seen them."""
HEADER = "source-gap"


def with_resets(records: Records, gap: Gap, told: set[str]) -> tuple[Records, dict[int, str]]:
    """The records with a Reset before the first of each key that is not yet in `told`, and index → key of those.

    A Reset has place, time and partition of the record it stands before; `told` grows.
    """
    spots: list[int] = []
    resets: dict[int, str] = {}
    columns: tuple[list[Any], ...] = (
        list(records.timestamps), list(records.keys), list(records.values), list(records.headers),
    )  # fmt: skip
    for at, key in enumerate(records.keys):
        name = (key or b"").decode(errors="replace")
        if name in told:
            continue
        try:
            reset = _before(codec.decode(records.values[at]), gap)
        except CodecError:
            continue
        told.add(name)
        place = at + len(spots)
        headers = (*codec.headers(reset), (HEADER, b"%d-%d" % gap))
        for column, each in zip(columns, (records.timestamps[at], key, codec.encode(reset), headers), strict=True):
            column.insert(place, each)
        spots.append(at)
        resets[place] = name
    if not spots:
        return records, {}
    timestamps, keys, values, all_headers = columns
    found = replace(
        records,
        places=np.insert(records.places, spots, records.places[spots], axis=0),
        captured=np.insert(records.captured, spots, records.captured[spots]),
        timestamps=timestamps,
        keys=keys,
        values=values,
        headers=all_headers,
    )
    return found, resets


def _before(event: Event, gap: Gap) -> Reset:
    common: dict[str, Any] = {name: getattr(event, name) for name in Event.__struct_fields__}
    detail = f"offsets [{gap[0]}, {gap[1]}) are in no segment of Bronze"
    return Reset(**{**common, "seq": None}, reason=ResetReason.GAP, incomplete=True, detail=detail)
