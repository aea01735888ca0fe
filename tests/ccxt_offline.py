"""Real ccxt.pro instances without a network: frames are handed to them, what they send is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, cast

import orjson

from collector.pipeline import Pipeline
from collector.stats import Stats
from fluxforge.events import AnyEvent
from fluxforge.log import Appender


class Kept(Pipeline):
    """A pipeline that keeps every event for the test, and writes none."""

    def __init__(self, wire_topic: str | None = None) -> None:
        super().__init__(cast(Appender, None), "raw", stats=Stats(), wire_topic=wire_topic)
        self.events: list[AnyEvent] = []

    def __len__(self) -> int:
        return 0

    def offer(self, event: AnyEvent) -> bool:
        self.events.append(event)
        return True


class Socket:
    """A connection that stands and carries nothing."""

    closed = False

    async def close(self) -> None:
        self.closed = True

    async def ping(self) -> None:
        pass


def market(exchange: Any, id: str, symbol: str, **fields: Any) -> dict[str, Any]:
    """A market of ccxt's, as far as sockets need it."""
    base, _, rest = symbol.partition("/")
    quote, _, settle = rest.partition(":")
    kind = "swap" if settle else "spot"
    linear = None if kind == "spot" else settle.startswith(quote)
    found = {
        "id": id,
        "lowercaseId": id.lower(),
        "symbol": symbol,
        "base": base,
        "quote": quote,
        "baseId": base,
        "quoteId": quote,
        "settle": settle or None,
        "settleId": settle or None,
        "type": kind,
        "spot": kind == "spot",
        "swap": kind == "swap",
        "contract": kind != "spot",
        "linear": linear,
        "inverse": None if linear is None else not linear,
        "active": True,
        **fields,
    }
    made: dict[str, Any] = exchange.safe_market_structure(found)
    return made | {"lowercaseId": found["lowercaseId"]}


def take_offline(
    exchange: Any, markets: Iterable[dict[str, Any]], answers: Mapping[str, bytes] | None = None
) -> list[Any]:
    """No socket and no request of this instance leaves the machine; what it sends on sockets is returned, as it grows.

    answers  part of a URL → the REST answer to it
    """
    exchange.set_markets(list(markets), {})
    sent: list[Any] = []
    make = exchange.client

    async def send(message: Any) -> None:
        sent.append(orjson.loads(message) if isinstance(message, str) else message)

    def client(url: str) -> Any:
        found = make(url)
        if not found.connected.done():
            found.connected.set_result(url)
            found.connection, found.isConnected, found.send = Socket(), True, send
        return found

    async def fetch(url: str, *_: Any, **__: Any) -> Any:
        await asyncio.sleep(0)
        return orjson.loads(next(body for part, body in (answers or {}).items() if part in url))

    exchange.client, exchange.fetch = client, fetch
    exchange.enableRateLimit = False
    return sent
