"""A strategy that does not know whether it is live: it follows the order flow of one market in another.

Run it from the folder with config.yaml: `python backtest.py lake`, `topic`, `replay.june` or `live`. Each time the
leader's order-flow imbalance of 5 s is strong, it holds the follower for one row; it prints what that was worth.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

from fluxforge.client import asof, stream

LEADER, FOLLOWER = ("binance", "BTC/USDT"), ("binance", "ETH/USDT")
STRONG = 1.0


async def trades(source: str) -> AsyncIterator[tuple[int, float]]:
    """When a position was closed, ns, and what it earned, bps."""
    rows = stream("features", symbols=[LEADER[1], FOLLOWER[1]], exchanges=[LEADER[0]], source=source)
    side, entry = 0, 0.0
    async for row, known in asof(rows, lambda row: (row.exchange, row.symbol) == FOLLOWER, within_s=2.0):
        if side:
            yield row.capture_ts, side * (row.mid_price / entry - 1) * 1e4
        leader = known.get(LEADER)
        flow = (leader.ofi_sum_5s or 0.0) if leader else 0.0
        side, entry = (flow > STRONG) - (flow < -STRONG), row.mid_price


async def main(source: str) -> None:
    total = 0.0
    async for time, earned in trades(source):
        total += earned
        print(f"{time} {earned:+.4f} bps, {total:+.4f} in all", flush=True)  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
