"""As-of joins: each row of one market with what was known of the others."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Hashable
from typing import Any

from fluxforge.client.order import TIME
from fluxforge.client.row import Row
from fluxforge.clock import NS


def market_of(row: Row) -> tuple[Any, ...]:
    """Exchange and symbol; of a bar also what kind of bar it is."""
    return tuple([row[name] for name in ("exchange", "symbol", "duration", "bar_type") if name in row])


async def asof(
    rows: AsyncIterable[Row],
    left: Callable[[Row], bool],
    *,
    by: Callable[[Row], Hashable] = market_of,
    within_s: float | None = None,
) -> AsyncIterator[tuple[Row, dict[Hashable, Row]]]:
    """Each row that is `left`, with the newest row before it of every other market.

    rows      of one stream; history is in order of capture, live rows are joined as they come
    by        which rows are of one market
    within_s  rows captured longer ago are left out; None keeps them for ever

    Before it means: earlier in the stream. So of rows captured at the same time a row sees those whose exchange and
    symbol sort before its own, and never one captured later.
    """
    newest: dict[Hashable, Row] = {}
    async for row in rows:
        market = by(row)
        if left(row):
            oldest = None if within_s is None else row[TIME] - round(within_s * NS)
            yield (
                row,
                {
                    other: seen
                    for other, seen in newest.items()
                    if other != market and (oldest is None or seen[TIME] >= oldest)
                },
            )
        newest[market] = row
