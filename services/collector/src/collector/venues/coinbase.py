"""Coinbase Advanced Trade.

Sources: Coinbase Developer Documentation, "Advanced Trade WebSocket Overview" (one channel a message, the first within
5 s), "WebSocket Rate Limits" (8 messages/s unauthenticated), "WebSocket Authentication", "Public Endpoints" (answers
are cached for 1 s).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import aiohttp

from collector.skew import Skew
from collector.text_book import Summing
from collector.venue import Endpoints, Request, TradePages, get
from collector.wire import RestBook
from collector.wire.coinbase import CoinbaseParser, ids_and_times, listing, rest_book
from fluxforge.clock import NS

if TYPE_CHECKING:
    from collector.jwt import Signer

ENDPOINTS: Final = Endpoints("https://api.coinbase.com", "wss://advanced-trade-ws.coinbase.com")
CHANNELS: Final[Mapping[str, str]] = {"orderbook": "level2", "trades": "market_trades", "ticker": "ticker"}
DEPTH = 500
"""Levels a side of a REST book."""
PAGE = 1_000
"""Trades an answer holds at most."""
MAX_PAGES = 20


class Coinbase:
    """See `collector.venue.Venue`. `signer`: for a key of the user's, None without one."""

    name = "coinbase"
    path = ""
    streamed = True
    summing: Summing | None = None
    pace = 0.15
    batch = 50

    def __init__(self, *, rest: str | None = None, ws: str | None = None, signer: Signer | None = None) -> None:
        self.endpoints = Endpoints((rest or ENDPOINTS.rest).rstrip("/"), (ws or ENDPOINTS.ws).rstrip("/"))
        self._signer = signer

    def subscribe(self, natives: Sequence[str], channels: Sequence[str]) -> list[Request]:
        """Heartbeats first: without them the exchange closes a quiet socket after 60 to 90 s."""
        names = [CHANNELS[channel] for channel in channels]
        return [
            Request("heartbeats", {"type": "subscribe", "channel": "heartbeats"}),
            *(Request(n, {"type": "subscribe", "channel": n, "product_ids": list(natives)}) for n in names),
        ]

    def renew(self, natives: Sequence[str]) -> list[Request]:
        """The channel's snapshot comes with each subscription."""
        return [
            Request("level2", {"type": verb, "channel": "level2", "product_ids": list(natives)})
            for verb in ("unsubscribe", "subscribe")
        ]

    def text(self, request: Request, now: int) -> str:
        """With a token of its own, which lives for two minutes."""
        return json.dumps({**request.body, "jwt": self._signer.token(now)} if self._signer else request.body)

    def parser(self, collector: str, connection: str, symbols: Mapping[str, str], skew: Skew) -> CoinbaseParser:
        return CoinbaseParser(self.name, collector=collector, connection=connection, symbols=symbols, skew=skew)

    def rest(self, http: aiohttp.ClientSession) -> CoinbaseRest:
        return CoinbaseRest(http, f"{self.endpoints.rest}/api/v3/brokerage/market")


class CoinbaseRest:
    """See `collector.venue.Rest`."""

    def __init__(self, http: aiohttp.ClientSession, base: str) -> None:
        self._http, self._base = http, base

    async def markets(self) -> dict[str, str]:
        return listing(await get(self._http, f"{self._base}/products", "products"))

    async def book(self, native: str, levels: int | None = None) -> RestBook:
        limit, url = levels or DEPTH, f"{self._base}/product_book"
        body = await get(self._http, url, f"product book of {native}", product_id=native, limit=str(limit))
        return rest_book(body, limit)

    async def trades_since(self, native: str, first: int, ts: int | None) -> TradePages:
        """The newest 1000; where those do not reach, older ones by time, page before page."""
        pages = [await self._trades(native)]
        oldest, oldest_ts = _oldest(pages[0])
        while oldest is not None and first < oldest and ts is not None and len(pages) <= MAX_PAGES:
            page = await self._trades(native, start=str(ts // NS), end=str(oldest_ts // NS + 1))
            found, found_ts = _oldest(page)
            if found is None or found >= oldest:
                break
            pages.insert(0, page)
            oldest, oldest_ts = found, found_ts
        return TradePages(pages, final=oldest is not None and first < oldest)

    async def _trades(self, native: str, **interval: str) -> bytes:
        url = f"{self._base}/products/{native}/ticker"
        return await get(self._http, url, f"trades of {native}", limit=str(PAGE), **interval)


def _oldest(body: bytes) -> tuple[int | None, int]:
    """Id and time (ns) of an answer's oldest trade."""
    return min(ids_and_times(body), default=(None, 0))
