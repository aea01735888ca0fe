"""One ccxt.pro instance: made with the options that lose nothing, its symbols looked up."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

import ccxt.pro

from fluxforge.errors import ConfigError, UnknownSymbol

_log = logging.getLogger(__name__)

KEEP_ALIVE_MS = 15_000
TRADES_LIMIT = 10_000
"""Trades ccxt keeps between two awaits; more would be lost."""
_WITH_BID_AND_ASK = {"watchTicker": {"name": "ticker"}, "watchTickers": {"name": "ticker"}}
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    # without a token 8 messages/s (Coinbase, "WebSocket Rate Limits"); ccxt would send one each `rateLimit` of 34 ms
    "coinbase": {"ws": {"cost": 5}},
    # fetchTradesMethod: the default are aggregates, whose ids are not those of the socket
    "binance": {**_WITH_BID_AND_ASK, "fetchTradesMethod": "publicGetTrades"},
    "binanceus": {**_WITH_BID_AND_ASK, "fetchTradesMethod": "publicGetTrades"},
    "binanceusdm": {**_WITH_BID_AND_ASK, "fetchTradesMethod": "fapiPublicGetTrades"},
    "binancecoinm": {**_WITH_BID_AND_ASK, "fetchTradesMethod": "dapiPublicGetTrades"},
}
"""Where ccxt's own default would lose something. `ws.cost`: what one message of ours costs of ccxt's rate limit."""


@dataclass(frozen=True)
class CcxtConfig:
    """What one ccxt exchange follows; `urls` and `options` are merged over ccxt's own. Times in s.

    audit_interval  between comparisons of a book with a fresh REST snapshot; 0: none
    """

    exchange: str
    symbols: tuple[str, ...]
    channels: tuple[str, ...]
    collector: str
    book_levels: int = 50
    stall_timeout: float = 20.0
    refresh_interval: float = 60.0
    audit_interval: float = 300.0
    api_key: str | None = field(default=None, repr=False)
    secret: str | None = field(default=None, repr=False)
    urls: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)


def make_exchange(config: CcxtConfig) -> Any:
    """The ccxt.pro instance. Raises ConfigError for an id that ccxt Pro does not know."""
    if config.exchange not in ccxt.pro.exchanges:
        near = get_close_matches(config.exchange, ccxt.pro.exchanges, n=3, cutoff=0.5)
        raise ConfigError(
            f"ccxt.exchanges.{config.exchange}: ccxt Pro has no such exchange",
            hint=f"nearest: {', '.join(near)}" if near else "the list is ccxt.pro.exchanges",
        )
    exchange = getattr(ccxt.pro, config.exchange)(
        {
            "enableRateLimit": True,
            "newUpdates": True,
            "streaming": {"keepAlive": KEEP_ALIVE_MS},
            "options": {
                "tradesLimit": TRADES_LIMIT,
                **OPTIONS.get(config.exchange, {}),
                **config.options,
            },
            **({"apiKey": config.api_key} if config.api_key else {}),
            **({"secret": config.secret} if config.secret else {}),
        }
    )
    exchange.urls = exchange.deep_extend(exchange.urls, config.urls)
    return exchange


def listed(config: CcxtConfig, markets: Mapping[str, Any]) -> dict[str, str]:
    """Unified → native of the configured symbols that are among ccxt's `markets`; logs the others.

    Raises UnknownSymbol when none is.
    """
    found: dict[str, str] = {}
    unknown: UnknownSymbol | None = None
    for symbol in config.symbols:
        if symbol in markets:
            found[symbol] = str(markets[symbol]["id"])
            continue
        near = get_close_matches(symbol.upper(), list(markets), n=3, cutoff=0.5)
        hint = f"nearest: {', '.join(near)}" if near else "nothing like it is listed"
        unknown = UnknownSymbol(f"{config.exchange} lists no {symbol!r}", hint=hint)
        _log.error("%s", unknown)
    if not found and unknown is not None:
        raise unknown
    return found


def share_markets(source: Any, target: Any) -> None:
    """Give `target` the markets that `source` has loaded, the same objects: a second list costs tens of MB."""
    for name in ("markets", "markets_by_id", "symbols", "ids", "currencies", "currencies_by_id", "codes"):
        setattr(target, name, getattr(source, name))
    for name, option in source.options.items():
        target.options.setdefault(name, option)
