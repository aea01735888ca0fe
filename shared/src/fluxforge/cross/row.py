"""One step of one asset across its markets: the numbers of a row."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from fluxforge.clock import NS
from fluxforge.cross.quote import Market, Quote, as_of

Row = dict[str, Any]
"""A row of `fluxforge.cross.table`, its market's names first."""


def row_of(instrument: str, step: int, fresh: Mapping[str, Quote], horizons: tuple[int, ...]) -> Row:
    """The consolidated touch and what goes with it, of the markets' quotes as of `step` (ns), by name, in order."""
    bid_venue, bid = max(fresh.items(), key=lambda item: (item[1].bid, item[1].bid_size))
    ask_venue, ask = min(fresh.items(), key=lambda item: (item[1].ask, -item[1].ask_size))
    mids = [quote.mid for quote in fresh.values()]
    mid = (bid.bid + ask.ask) / 2
    last_venue, last = max(fresh.items(), key=lambda item: item[1].moved)
    depth = math.fsum(quote.bid_size + quote.ask_size for quote in fresh.values())
    flows = {f"ofi_{h}s": _flow(fresh.values(), step - h * NS, i) for i, h in enumerate(horizons)}
    return {
        "exchange": "all",
        "symbol": instrument,
        "source": "cross",
        "timestamp": step,
        "capture_ts": max(quote.capture_ts for quote in fresh.values()),
        "venues": len(fresh),
        "best_bid": bid.bid,
        "bid_size": bid.bid_size,
        "bid_venue": bid_venue,
        "best_ask": ask.ask,
        "ask_size": ask.ask_size,
        "ask_venue": ask_venue,
        "mid_price": mid,
        "spread_bps": (ask.ask - bid.bid) / mid * 1e4,
        "gap_bps": (max(mids) - min(mids)) / (math.fsum(mids) / len(mids)) * 1e4 if len(mids) > 1 else None,
        "last_venue": last_venue if last.moved else None,
        "last_moved": last.moved or None,
        **flows,
        **{f"relative_{name}": flow / depth for name, flow in flows.items()},
    }


def mean_return(markets: Iterable[Market], step: int, horizon: int, stale: int) -> float | None:
    """Mean log return of mid from `step − horizon` to `step` (ns), of the markets known at both; None without one."""
    changes = []
    for market in markets:
        now, then = as_of(market.quotes, step, stale), as_of(market.quotes, step - horizon, stale)
        if now and then:
            changes.append(math.log(now.mid / then.mid))
    return math.fsum(changes) / len(changes) if changes else None


def _flow(fresh: Iterable[Quote], since: int, which: int) -> float:
    """Σ of OFI; a market without a row since then has had no book update in the window."""
    return math.fsum(quote.flows[which] for quote in fresh if quote.timestamp >= since)
