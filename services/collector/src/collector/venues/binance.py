"""Binance's venues: binance, binanceus (spot) and binanceusdm (USD-M futures).

Sources: Binance Spot API, "Web Socket Streams for Binance" (5 messages/s, 1,024 streams a connection), "Market Data
endpoints"; USD-M Futures, "Websocket Market Streams" (10 messages/s, 200 streams in one request).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final

import aiohttp
import msgspec

from collector.skew import Skew
from collector.symbols import listing
from collector.text_book import Summing
from collector.venue import Endpoints, Request, RestError, TradePages, get
from collector.wire import RestBook
from collector.wire.binance import BinanceParser, rest_book

ENDPOINTS: Final[Mapping[str, Endpoints]] = {
    "binance": Endpoints("https://api.binance.com/api/v3", "wss://stream.binance.com:9443"),
    "binanceus": Endpoints("https://api.binance.us/api/v3", "wss://stream.binance.us:9443"),
    "binanceusdm": Endpoints("https://fapi.binance.com/fapi/v1", "wss://fstream.binance.com"),
}
STREAMS: Final[Mapping[str, tuple[str, ...]]] = {
    "orderbook": ("depth@100ms",),
    "trades": ("trade",),
    "ticker": ("bookTicker", "ticker"),
}
"""Channel → the streams that feed it."""
PARAMS_PER_REQUEST = 100
DEPTH: Final[Mapping[str, int]] = {"binanceusdm": 1_000}
"""Levels a side of a REST book where it is not 5,000."""
PAGE = 1_000
"""Trades an answer holds at most."""
MAX_PAGES = 20


class Binance:
    """See `collector.venue.Venue`."""

    path = "/stream"
    streamed = False
    summing: Summing | None = None
    pace = 0.25
    batch = 100

    def __init__(self, name: str, *, rest: str | None = None, ws: str | None = None) -> None:
        own = ENDPOINTS[name]
        self.name = name
        api = own.rest[own.rest.index("/", len("https://")) :]
        self.endpoints = Endpoints(rest.rstrip("/") + api if rest else own.rest, (ws or own.ws).rstrip("/"))

    def subscribe(self, natives: Sequence[str], channels: Sequence[str]) -> list[Request]:
        names = streams(natives, channels)
        chunks = [names[at : at + PARAMS_PER_REQUEST] for at in range(0, len(names), PARAMS_PER_REQUEST)]
        return [
            Request(number, {"method": "SUBSCRIBE", "params": params, "id": number})
            for number, params in enumerate(chunks, 1)
        ]

    def renew(self, natives: Sequence[str]) -> list[Request]:
        return []

    def text(self, request: Request, now: int) -> str:
        return json.dumps(request.body)

    def parser(self, collector: str, connection: str, symbols: Mapping[str, str], skew: Skew) -> BinanceParser:
        return BinanceParser(self.name, collector=collector, connection=connection, symbols=symbols, skew=skew)

    def rest(self, http: aiohttp.ClientSession) -> BinanceRest:
        return BinanceRest(http, self.endpoints.rest, DEPTH.get(self.name, 5_000), settled=self.name == "binanceusdm")


def streams(natives: Sequence[str], channels: Sequence[str]) -> list[str]:
    """Stream names to subscribe to: `btcusdt@depth@100ms`…"""
    return [f"{native.lower()}@{stream}" for native in natives for channel in channels for stream in STREAMS[channel]]


class _Id(msgspec.Struct):
    id: int


_decode_ids = msgspec.json.Decoder(list[_Id]).decode


class BinanceRest:
    """See `collector.venue.Rest`."""

    def __init__(self, http: aiohttp.ClientSession, base: str, depth: int, *, settled: bool) -> None:
        self._http, self._base, self._depth, self._settled = http, base, depth, settled

    async def markets(self) -> dict[str, str]:
        return listing(await self._get("exchangeInfo"), settled=self._settled)

    async def book(self, native: str, levels: int | None = None) -> RestBook:
        limit = min(levels or self._depth, self._depth)
        return rest_book(await self._get("depth", symbol=native, limit=str(limit)))._replace(limit=limit)

    async def trades_since(self, native: str, first: int, ts: int | None) -> TradePages:
        """The newest 1000, and older ones by id where those do not reach."""
        newest = await self._get("trades", symbol=native, limit=str(PAGE))
        pages: list[bytes] = []
        oldest = next((each.id for each in _decode_ids(newest)), None)
        while oldest is not None and first < oldest and len(pages) < MAX_PAGES:
            try:
                page = await self._get("historicalTrades", symbol=native, fromId=str(first), limit=str(PAGE))
            except RestError as error:
                return TradePages([*pages, newest], final=error.refused)
            ids = _decode_ids(page)
            if not ids or ids[-1].id < first:
                break
            pages.append(page)
            first = ids[-1].id + 1
        return TradePages([*pages, newest], final=len(pages) == MAX_PAGES)

    async def _get(self, path: str, **params: str) -> bytes:
        return await get(self._http, f"{self._base}/{path}", f"{path} {params.get('symbol', '')}", **params)
