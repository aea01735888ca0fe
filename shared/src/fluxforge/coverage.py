"""The coverage ledger read back: what was seen of each market, hour by hour, from the Coverage events in Bronze."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fluxforge import bronze
from fluxforge.bronze.records import events_of
from fluxforge.bronze.schema import CONTROL
from fluxforge.clock import HOUR, MS, NS
from fluxforge.events import Coverage
from fluxforge.files import CommittedFile, Tree, chains

_SUMMED = ("books", "trades", "tickers", "gaps", "resyncs", "resets", "duplicates", "backfilled", "shed", "holes")
SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("exchange", "symbol", "source", "collector")),
        ("hour", pa.timestamp("ns", tz="UTC")),
        ("seconds", pa.float64()),
        ("dark_s", pa.float64()),
        ("absent_s", pa.float64()),
        ("crossed_s", pa.float64()),
        *((name, pa.int64()) for name in _SUMMED),
        ("skew_p50_ms", pa.float64()),
        ("skew_p99_ms", pa.float64()),
    ]
)
"""A row per market, collector and hour.

seconds   the collector was there
dark_s    of these, without an event or heartbeat of the market
absent_s  the collector was not there, between its first hour and its last
skew_*    exchange time − arrival; the median weighted by events, the 99th percentile the largest, over the hour's parts
"""


def pages(
    tree: Tree,
    *,
    exchange: str | None = None,
    symbol: str | None = None,
    start: int | None = None,
    end: int | None = None,
) -> Iterator[Coverage]:
    """The Coverage events in Bronze that overlap [start, end), ns."""

    def wanted(file: CommittedFile) -> bool:
        early = start is not None and file.last_ts is not None and file.last_ts < start
        return file.meta.get("channel") == CONTROL and not early

    for chain in chains(tree):
        for tables in bronze.read_tables(tree, chain, wanted=wanted):
            for table in tables:
                found = table.filter(pc.equal(table.column("kind").cast(pa.string()), "coverage"))
                for event in events_of(found):
                    if (
                        isinstance(event, Coverage)
                        and exchange in (None, event.exchange)
                        and symbol in (None, event.symbol)
                        and (start is None or event.until > start)
                        and (end is None or event.since < end)
                    ):
                        yield event


def by_hour(found: Iterable[Coverage]) -> pa.Table:
    """One row per market, collector and hour, in that order; hours in which a collector was away are there too."""
    markets: dict[tuple[str, ...], dict[int, list[Coverage]]] = {}
    for page in found:
        market = (page.exchange, page.symbol, page.source, page.collector)
        markets.setdefault(market, {}).setdefault(page.since // HOUR, []).append(page)
    rows: list[dict[str, Any]] = []
    for name, hours in sorted(markets.items()):
        first = min(page.since for parts in hours.values() for page in parts)
        last = max(page.until for parts in hours.values() for page in parts)
        for hour in range(min(hours), max(hours) + 1):
            parts = hours.get(hour, [])
            known = min(last, (hour + 1) * HOUR) - max(first, hour * HOUR)
            rows.append(dict(zip(SCHEMA.names, (*name, hour * HOUR), strict=False)) | _sum(parts, known))
    return pa.Table.from_pylist(rows, SCHEMA)


def _sum(parts: list[Coverage], known: int) -> dict[str, Any]:
    """The parts of an hour as one; `known` is how much of it lies between the first page and the last, ns."""
    there = sum(page.until - page.since for page in parts)
    stamped = sum(page.stamped for page in parts)
    middle = sum(page.stamped * (page.skew_p50 or 0) for page in parts)
    tails = [page.skew_p99 for page in parts if page.skew_p99 is not None]
    return {name: sum(getattr(page, name) for page in parts) for name in _SUMMED} | {
        "seconds": there / NS,
        "dark_s": sum(page.dark for page in parts) / NS,
        "absent_s": max(0, known - there) / NS,
        "crossed_s": sum(page.crossed for page in parts) / NS,
        "skew_p50_ms": middle / stamped / MS if stamped else None,
        "skew_p99_ms": max(tails) / MS if tails else None,
    }
