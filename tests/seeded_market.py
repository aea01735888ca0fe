"""A seeded market with everything in it that a kernel must survive."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator

from fluxforge.events import AnyEvent, BookDelta, BookSnapshot, Heartbeat, Reset, Ticker, Trade

START = 1_700_000_000_000_000_000
MS = 1_000_000
BASE = {"exchange": "sim", "source": "sim", "collector": "c1", "connection": "c1#1"}


def levels(*pairs: tuple[float, float]) -> bytes:
    return b"".join(struct.pack("<2d", *pair) for pair in pairs)


def market(symbol: str, seed: int, seconds: int) -> Iterator[tuple[int, AnyEvent]]:
    """A random but consistent market: (capture time, event)."""
    rng = random.Random(seed)
    names = {**BASE, "symbol": symbol, "native": symbol.replace("/", "")}
    time, mid = START, 100.0 + seed

    def snapshot(refresh: bool) -> BookSnapshot:
        return BookSnapshot(
            **names, ts=time, capture_ts=time, bids=levels(*sorted(bids.items(), reverse=True)),
            asks=levels(*sorted(asks.items())), refresh=refresh,
        )  # fmt: skip

    bids = {round(mid - 0.01 * k, 2): 1.0 + k for k in range(1, 15)}
    asks = {round(mid + 0.01 * k, 2): 1.0 + k for k in range(1, 15)}
    yield time, snapshot(refresh=False)
    last_refresh = time
    while time < START + seconds * 1000 * MS:
        time += rng.randint(20, 400) * MS
        kind = rng.random()
        if time - last_refresh > 20_000 * MS:
            last_refresh = time
            yield time, snapshot(refresh=True)
        if kind < 0.6:
            side, sign = (bids, -1) if rng.random() < 0.5 else (asks, 1)
            price = round(mid + sign * 0.01 * rng.randint(1, 20), 2)
            size = 0.0 if price in side and len(side) > 5 and rng.random() < 0.4 else rng.randint(1, 90) / 10
            side.pop(price, None)
            if size:
                side[price] = size
            change = levels((price, size))
            yield (
                time,
                BookDelta(
                    **names,
                    ts=time,
                    capture_ts=time,
                    bids=change if sign < 0 else b"",
                    asks=b"" if sign < 0 else change,
                ),
            )
        elif kind < 0.9:
            late = rng.choice([0, 0, 0, 0, 3500]) * MS
            yield time, Trade(
                **names, ts=time - late, capture_ts=time, id=str(time), price=mid, size=rng.randint(1, 9) / 10,
                side=rng.choice([-1, 1]),
            )  # fmt: skip
        elif kind < 0.97:
            yield time, Ticker(**names, ts=None, capture_ts=time, bid=mid, ask=mid + 0.5)
        elif kind < 0.98:
            yield time, Reset(**names, ts=None, capture_ts=time, reason="gap", incomplete=True)
            yield time, snapshot(refresh=False)
        elif kind < 0.985:
            crossed = levels((mid + 5.0, 1.0))
            yield time, BookDelta(**names, ts=time, capture_ts=time, bids=crossed, asks=b"")
            yield time, BookDelta(**names, ts=time, capture_ts=time, bids=levels((mid + 5.0, 0.0)), asks=b"")
        else:
            yield time, Heartbeat(**names, ts=time - 1000 * MS, capture_ts=time)
