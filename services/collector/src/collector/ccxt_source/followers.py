"""The followers of a session's symbols, as its exchange's dialect has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from collector.ccxt_source.dialects import Dialect
from collector.ccxt_source.exchange import CcxtConfig
from collector.ccxt_source.follower import Follower
from collector.ccxt_source.subscriptions import Plan
from collector.identity import Identity
from collector.skew import Skew


def followers(
    markets: Mapping[str, Mapping[str, Any]],
    channels: Sequence[str],
    config: CcxtConfig,
    *,
    dialect: Dialect | None,
    plan: Plan,
    skew: Skew,
) -> dict[str, Follower]:
    """One for each symbol (unified → ccxt's market); `dialect` None: ccxt reads the frames."""
    found = {}
    for symbol, market in markets.items():
        identity: Identity = {
            "exchange": config.exchange,
            "symbol": symbol,
            "native": dialect.native(market) if dialect else str(market["id"]),
            "source": "ccxt",
            "collector": config.collector,
            "connection": "",
        }
        found[symbol] = Follower(
            identity,
            channels,
            lambda: skew.value,
            consecutive=dialect is not None and dialect.consecutive,
            parsed=dialect is not None,
            streamed=dialect is None or not dialect.rest_levels,
            levels=(plan.depth(market) or dialect.levels) if dialect else None,
            summing=dialect.summing if dialect else None,
            stall=config.stall_timeout,
        )
    return found
