"""What one connection of an exchange carries. ccxt keeps one socket per URL, and for most exchanges does not count."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple


class Limit(NamedTuple):
    """Subscriptions of one instance (a symbol has one for each channel) and symbols of one `watch_*ForSymbols` call.

    connection  0: ccxt itself spreads its subscriptions over sockets
    source      where it is written
    """

    connection: int
    batch: int
    source: str


DEFAULT: Final = Limit(100, 50, "a caution of ours")
_CCXT = "ccxt's option streamLimits"

LIMITS: Final[Mapping[str, Limit]] = {
    "binance": Limit(0, 100, _CCXT),
    "binanceus": Limit(0, 100, _CCXT),
    "binanceusdm": Limit(0, 100, _CCXT),
    "binancecoinm": Limit(0, 100, _CCXT),
    "bingx": Limit(200, 50, "BingX API, websocket: at most 200 topics a connection"),
    "bitfinex": Limit(25, 1, "Bitfinex API v2, WebSocket general: at most 25 subscriptions a connection"),
    "bitget": Limit(50, 25, "Bitget API v2, websocket: fewer than 50 channels a connection are recommended"),
    "bybit": Limit(200, 10, "Bybit API v5, websocket connect: spot takes 10 args a request"),
    "bybiteu": Limit(200, 10, "as bybit"),
    "bybitid": Limit(200, 10, "as bybit"),
    "gate": Limit(200, 50, "Gate API v4: no limit, but a connection that falls behind is closed"),
    "gateeu": Limit(200, 50, "as gate"),
    "kucoin": Limit(300, 50, "KuCoin API, websocket: at most 300 topics a connection, 100 a subscription"),
    "kucoinfutures": Limit(300, 50, "as kucoin"),
    "mexc": Limit(30, 15, "MEXC spot API v3, websocket: at most 30 subscriptions a connection"),
    "phemex": Limit(20, 10, "Phemex API, websocket: at most 20 subscriptions a connection"),
    "woo": Limit(100, 20, "WOO X API, websocket: at most 100 topics a connection, 20 a request"),
}


def limit_of(exchange: str) -> Limit:
    """The limit of an exchange id."""
    return LIMITS.get(exchange, DEFAULT)
