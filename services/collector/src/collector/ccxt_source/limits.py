"""What one connection of an exchange carries. ccxt keeps one socket per URL, and for most exchanges does not count."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple


class Limit(NamedTuple):
    """Subscriptions of one instance (a symbol has one for each channel) and symbols of one `watch_*ForSymbols` call.

    connection  0: ccxt itself spreads its subscriptions over sockets
    source      where it is written; a figure below it is a caution of ours
    """

    connection: int
    batch: int
    source: str


DEFAULT: Final = Limit(100, 50, "a caution of ours: nothing is known of this exchange")
_CCXT = "ccxt, pro/binance.py: options streamLimits and subscriptionLimitByStream"
_BYBIT = (
    "Bybit API v5, Connect (bybit-exchange.github.io/docs/v5/ws/connect): spot takes 10 args a request, a connection "
    "21,000 characters of args"
)
_GATE = "github.com/gateio/gatews/issues/25, by Gate: no limit, but a connection that falls behind is closed"
_KUCOIN = (
    "KuCoin API, Rate Limit (www.kucoin.com/docs-new/rate-limit): 400 topics a connection, 100 a request; "
    "none of futures"
)

LIMITS: Final[Mapping[str, Limit]] = {
    "binance": Limit(0, 100, _CCXT),
    "binanceus": Limit(0, 100, _CCXT),
    "binanceusdm": Limit(0, 100, _CCXT),
    "binancecoinm": Limit(0, 100, _CCXT),
    "bingx": Limit(
        200, 50, "BingX API, WebSocket, Connection Limitations (bingx-api.github.io/docs): 200 topics a connection"
    ),
    "bitfinex": Limit(
        25, 1, "Bitfinex API v2, Public Channels (docs.bitfinex.com/docs/ws-public): 25 channels a connection"
    ),
    "bitget": Limit(
        49,
        25,
        "Bitget API v2, Websocket API (www.bitget.com/api-doc/common/websocket-intro): less than 50 channels a "
        "connection are highly recommended, 1,000 allowed",
    ),
    "bybit": Limit(200, 10, _BYBIT),
    "bybiteu": Limit(200, 10, _BYBIT),
    "bybitid": Limit(200, 10, _BYBIT),
    "gate": Limit(200, 50, _GATE),
    "gateeu": Limit(200, 50, _GATE),
    "kucoin": Limit(400, 50, _KUCOIN),
    "kucoinfutures": Limit(400, 50, _KUCOIN),
    "mexc": Limit(
        30,
        15,
        "MEXC spot API v3, Websocket Market Streams (www.mexc.com/api-docs/spot-v3/websocket-market-streams): "
        "30 subscriptions a connection",
    ),
    "phemex": Limit(
        20, 10, "Phemex API, WebSocket, API Rate Limits (phemex-docs.github.io): 20 subscriptions a connection"
    ),
    "woo": Limit(
        100,
        20,
        "WOO X API v3, WebSocket Introduction (developer.woox.io/api-reference/websocket_introduction): "
        "100 topics a connection, 20 a request",
    ),
}


def limit_of(exchange: str) -> Limit:
    """The limit of an exchange id."""
    return LIMITS.get(exchange, DEFAULT)
