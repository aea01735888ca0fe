"""Feature rows of several venues in several partitions, as the feature engine would publish them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

from fluxforge.clock import NS

START = 1_760_000_000 * NS
MARKETS = (
    ("binance", "BTC/USDT", 0),
    ("coinbase", "BTC/USD", 1),
    ("kraken", "BTC/USD", 2),
    ("binance", "ETH/USDT", 2),
    ("coinbase", "ETH/USD", 0),
    ("binance", "SOL/USDT", 1),
    ("kraken", "SOL/EUR", 1),
    ("binance", "SOL/USDT:USDT", 0),
)
"""Exchange, symbol, partition."""
PARTITIONS = 3

Row = dict[str, Any]


def streams(seed: int, seconds: int, *, silence: float = 0.05) -> list[list[Row]]:
    """Each partition's rows in its order: about one a second and market, clocks apart, markets silent now and then."""
    rng = Random(seed)
    made: list[list[tuple[int, Row]]] = [[] for _ in range(PARTITIONS)]
    for exchange, symbol, partition in MARKETS:
        mid, skew, quiet = 100.0 * len(symbol) * rng.uniform(0.999, 1.001), rng.randrange(NS // 2), 0
        for second in range(seconds):
            if rng.random() < silence:
                quiet = second + rng.randrange(1, 25)
            if second < quiet:
                continue
            mid *= 1 + rng.choice((0, 0, 1e-4, -1e-4, 2e-4))
            arrived = START + second * NS + rng.randrange(NS)
            row = row_of(exchange, symbol, partition, arrived - skew, mid, rng)
            made[partition].append((arrived, row))
    found = []
    for stream in made:
        rows = [row for _, row in sorted(stream, key=lambda item: item[0])]
        found.append([{**row, "source_offset": i} for i, row in enumerate(rows)])
    return found


def row_of(exchange: str, symbol: str, partition: int, timestamp: int, mid: float, rng: Random) -> Row:
    half = mid * rng.choice((1e-5, 5e-5, 1e-4))
    return {
        "exchange": exchange,
        "symbol": symbol,
        "source": "x",
        "timestamp": timestamp,
        "capture_ts": timestamp + rng.randrange(NS),
        "source_partition": partition,
        "best_bid": mid - half,
        "best_ask": mid + half,
        "bid_size_L0": rng.uniform(0.1, 5),
        "ask_size_L0": rng.uniform(0.1, 5),
        **{f"ofi_sum_{h}s": rng.gauss(0, 3) for h in (1, 5, 30)},
    }


def interleaved(parts: Sequence[Sequence[Row]], rng: Random) -> Iterator[tuple[Row, list[int]]]:
    """Some order in which a reader can meet them, in runs of any length; and where rows are left then."""
    at = [0] * len(parts)
    while left := [p for p, rows in enumerate(parts) if at[p] < len(rows)]:
        p = rng.choice(left)
        for _ in range(rng.choice((1, 1, 3, 50, 10_000))):
            if at[p] < len(parts[p]):
                at[p] += 1
                yield parts[p][at[p] - 1], [q for q, rows in enumerate(parts) if at[q] < len(rows)]
